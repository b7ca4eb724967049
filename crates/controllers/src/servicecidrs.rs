//! Keeps a ServiceCIDR as long as addresses come from it, and says that it is ready (upstream's
//! `service-cidr-controller`, KEP-1880).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::meta::v1::Condition;
use api::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRStatus};
use client::{Client, Key, Patch, Store, WorkQueue, key_of};
use jiff::Timestamp;
use serde_json::json;

use crate::Result;
use crate::context::{Context, name};
use crate::error::Doing;

const WORKERS: usize = 5;
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// API servers have heard of a deletion after this time, and allocate no more from the range.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn start(context: &Context) {
    let cidrs = context.informers.get::<ServiceCIDR>();
    let addresses = context.informers.get::<IPAddress>();
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client.clone(),
        cidrs: cidrs.store().clone(),
        addresses: addresses.store().clone(),
        queue: WorkQueue::new(),
    });
    // A range may contain others, and there are few of them: any change is looked at for all.
    let this = controller.clone();
    cidrs.add_handler(move |_| this.all());
    let this = controller.clone();
    addresses.add_handler(move |event| {
        // Only a range that is to go waits for addresses to go.
        if matches!(event, client::Event::Deleted(_)) {
            this.all();
        }
    });
    let queue = controller.queue.clone();
    context.work("ipaddresses", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    context: Context,
    client: Client,
    cidrs: Store<ServiceCIDR>,
    addresses: Store<IPAddress>,
    queue: WorkQueue<Key>,
}

/// What is to be done about one ServiceCIDR.
#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    /// The finalizer, if it is not there, and this condition, if it differs.
    Keep {
        protect: bool,
        condition: Option<Condition>,
    },
    /// Nobody needs it; look again after this time.
    Wait(Duration),
    /// Nobody needs it: the finalizer goes.
    Release,
}

/// `all` are all ServiceCIDRs, `addresses` the names of the IPAddresses of Services.
fn plan(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl Iterator<Item = IpAddr>,
    now: Timestamp,
) -> Plan {
    let protected = cidr.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        let condition = changed(cidr, "True", "", "Kubernetes Service CIDR is ready", now);
        return match (protected, condition) {
            (true, None) => Plan::Nothing,
            (protected, condition) => Plan::Keep { protect: !protected, condition },
        };
    };
    if is_needed(cidr, all, addresses) {
        let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        let condition = changed(cidr, "False", "Terminating", why, now);
        return Plan::Keep { protect: false, condition };
    }
    let left = GRACE.saturating_sub(Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default());
    match (left.is_zero(), protected) {
        (false, _) => Plan::Wait(left),
        (true, true) => Plan::Release,
        (true, false) => Plan::Nothing,
    }
}

/// Some address is in this range and in no other one.
fn is_needed(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    mut addresses: impl Iterator<Item = IpAddr>,
) -> bool {
    let others: Vec<Range> =
        all.iter().filter(|other| name(&***other) != name(cidr)).flat_map(|o| ranges(o)).collect();
    let own: Vec<Range> = ranges(cidr).collect();
    if own.iter().all(|range| others.iter().any(|other| other.covers(range))) {
        return false;
    }
    addresses.any(|address| {
        own.iter().any(|range| range.contains(&address)) && !others.iter().any(|o| o.contains(&address))
    })
}

/// The condition as it should be, if it is not so.
fn changed(
    cidr: &ServiceCIDR,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Option<Condition> {
    let conditions = cidr.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let same = ready.is_some_and(|r| (&*r.status, &*r.reason, &*r.message) == (status, reason, message));
    (!same).then(|| Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: crate::context::whole_seconds(now),
        observed_generation: None,
    })
}

#[derive(Clone, Copy, Debug)]
struct Range {
    network: IpAddr,
    bits: u32,
}

fn ranges(cidr: &ServiceCIDR) -> impl Iterator<Item = Range> + '_ {
    let texts = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| {
        let (network, bits) = text.split_once('/')?;
        Some(Range { network: network.parse().ok()?, bits: bits.parse().ok()? })
    })
}

impl Range {
    fn contains(&self, address: &IpAddr) -> bool {
        let top = |address: &IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(*v4)) << 96,
            IpAddr::V6(v6) => u128::from(*v6),
        };
        let differ = top(address) ^ top(&self.network);
        address.is_ipv4() == self.network.is_ipv4() && differ.leading_zeros() >= self.bits.min(128)
    }

    fn covers(&self, other: &Range) -> bool {
        self.bits <= other.bits && self.contains(&other.network)
    }
}

impl Controller {
    fn all(&self) {
        self.cidrs.list().iter().for_each(|cidr| self.queue.add(key_of(&**cidr)));
    }

    async fn sync(&self, key: Key) -> Result<()> {
        let Some(cidr) = self.cidrs.get_key(&key) else { return Ok(()) };
        let addresses = self.addresses.list();
        let of_services = addresses.iter().filter(|address| {
            let labels = address.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|by| by == MANAGED_BY.1)
        });
        let of_services = of_services.filter_map(|address| name(&**address).parse().ok());
        let doing = || format!("keeping ServiceCIDR {key}");
        match plan(&cidr, &self.cidrs.list(), of_services, self.context.clock.now()) {
            Plan::Nothing => {}
            Plan::Wait(left) => self.queue.add_after(key, left),
            Plan::Keep { protect, condition } => {
                if protect {
                    let patch = Patch::Strategic(json!({"metadata": {"finalizers": [FINALIZER]}}));
                    self.patch(&key, patch).await?;
                }
                if let Some(condition) = condition {
                    let mut wanted = match protect {
                        true => self.client.get::<ServiceCIDR>("", &key.name).await.doing(doing)?,
                        false => ServiceCIDR::clone(&cidr),
                    };
                    let old = wanted.status.take().and_then(|status| status.conditions).unwrap_or_default();
                    let mut conditions: Vec<_> = old.into_iter().filter(|c| c.type_ != "Ready").collect();
                    conditions.push(condition);
                    wanted.status = Some(ServiceCIDRStatus { conditions: Some(conditions) });
                    match self.client.update_status(&wanted).await {
                        Err(error) if error.is_not_found() => {}
                        answer => drop(answer.doing(doing)?),
                    }
                }
            }
            Plan::Release => {
                let patch = Patch::Strategic(
                    json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}),
                );
                self.patch(&key, patch).await?;
            }
        }
        Ok(())
    }

    async fn patch(&self, key: &Key, patch: Patch) -> Result<()> {
        match self.client.patch::<ServiceCIDR>("", &key.name, &patch).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("changing the finalizers of ServiceCIDR {key}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, cidrs: &[&str], deleted: i64, said: &str) -> Arc<ServiceCIDR> {
        let mut object =
            json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": cidrs}});
        if deleted > 0 {
            let at = Timestamp::from_second(deleted).unwrap().to_string();
            object["metadata"]["deletionTimestamp"] = json!(at);
        }
        if !said.is_empty() {
            object["status"] = json!({"conditions": [{"type": "Ready", "status": said, "reason": "",
                "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn plans() {
        let check = |all: &[Arc<ServiceCIDR>], addresses: &[&str], expect: &str| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            let got = match plan(&all[0], all, addresses, Timestamp::from_second(100).unwrap()) {
                Plan::Keep { protect, condition } => {
                    format!("keep {protect} {:?}", condition.map(|c| format!("{} {}", c.status, c.reason)))
                }
                other => format!("{other:?}"),
            };
            assert_eq!(got, expect, "{all:?}");
        };
        let mut bare = ServiceCIDR::clone(&cidr("a", &["10.0.0.0/24"], 0, "True"));
        bare.metadata.finalizers = None;
        check(&[Arc::new(bare)], &[], "keep true None");
        check(&[cidr("a", &["10.0.0.0/24"], 0, "")], &[], "keep false Some(\"True \")");
        check(&[cidr("a", &["10.0.0.0/24"], 0, "True")], &[], "Nothing");
        let going = |at| cidr("a", &["10.0.0.0/24", "fd00::/112"], at, "True");
        check(&[going(95)], &[], "Wait(5s)");
        check(&[going(90)], &["10.0.1.1"], "Release");
        check(&[going(90)], &["10.0.0.1"], "keep false Some(\"False Terminating\")");
        check(&[going(90)], &["fd00::5"], "keep false Some(\"False Terminating\")");
        // Another range has all of its addresses, or those that are in use.
        let wide = cidr("b", &["10.0.0.0/16", "fd00::/64"], 0, "True");
        check(&[going(90), wide], &["10.0.0.1", "fd00::5"], "Release");
        let half = cidr("b", &["10.0.0.0/25"], 0, "True");
        check(&[going(90), half.clone()], &["10.0.0.1"], "Release");
        check(&[going(90), half], &["10.0.0.1", "10.0.0.129"], "keep false Some(\"False Terminating\")");
    }
}
