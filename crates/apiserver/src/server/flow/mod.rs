//! How much is done at once. With `--enable-priority-and-fairness` (the default) flow schemas sort requests into
//! priority levels ([`classify`]), and each level has its share of the seats and its queues ([`levels`]; KEP-1040);
//! without it there are two limits, for requests that change something and for others. Either way what is too
//! much is answered with 429 and `Retry-After`.
//!
//! A list takes as many seats as it goes through bytes ([`estimate`]), a watch too until it has begun; what waits
//! does so in a hand of shared queues ([`queues`]). Simpler than upstream's: levels lend idle seats at the moment
//! instead of every ten seconds, and a write takes no seats for its watchers. Other requests that stay open (logs,
//! exec) take no seat.

mod classify;
mod dump;
mod estimate;
mod levels;
mod queues;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde_json::Value;

use self::classify::Rules;
pub use self::levels::Refusal;
use self::levels::{Claim, Levels, Seat};
use super::Body;
use crate::authorization::{Attributes, PRIVILEGED_GROUP, Set};
use crate::request::{Query, RequestInfo, UserInfo};
use crate::response;

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const FLOW_SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Decides who may go on, who waits and who is refused.
pub struct FlowControl {
    fair: bool,
    /// Requests in flight: that read, that write.
    limits: (u32, u32),
    in_flight: (Arc<AtomicU32>, Arc<AtomicU32>),
    /// Refused without fairness: reads, writes.
    pub dropped: (AtomicU32, AtomicU32),
    /// How long a request waits for a seat at most.
    patience: Duration,
    followed: Set,
    /// The stored objects by plural and name.
    objects: Mutex<BTreeMap<(String, String), Value>>,
    changed: AtomicBool,
    rules: ArcSwap<Rules>,
    levels: Levels,
    sizes: estimate::Sizes,
}

/// Where a request belongs, and its seat if it takes one. Dropped when the answer is there.
#[derive(Default)]
pub struct Admitted {
    flow_schema_uid: Option<Arc<str>>,
    priority_level_uid: Option<Arc<str>>,
    _seat: Option<Seat>,
    _counted: Option<Counted>,
}

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admitted {
    /// Tells the client where its request was sorted.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let marks =
            [(FLOW_SCHEMA_UID, &self.flow_schema_uid), (PRIORITY_LEVEL_UID, &self.priority_level_uid)];
        for (name, uid) in marks {
            if let Some(value) = uid.as_ref().and_then(|uid| HeaderValue::from_str(uid).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

impl FlowControl {
    /// `limits`: requests in flight that read, and that write; their sum is the number of seats. 0 of both: no
    /// limit without fairness.
    pub fn new(fair: bool, limits: (u32, u32), request_timeout: Duration) -> Self {
        let find = |plural| api::resource(GROUP, "v1", plural);
        let followed = ["flowschemas", "prioritylevelconfigurations"].into_iter().filter_map(find).collect();
        let rules = Rules::new([].into_iter(), [].into_iter());
        let levels = Levels::new(limits.0.saturating_add(limits.1).max(1));
        levels.set(rules.levels());
        Self {
            fair,
            limits,
            in_flight: Default::default(),
            dropped: Default::default(),
            patience: request_timeout / 4,
            followed: Set::new(followed),
            objects: Mutex::default(),
            changed: AtomicBool::new(false),
            rules: ArcSwap::from_pointee(rules),
            levels,
            sizes: estimate::Sizes::default(),
        }
    }

    /// A seat for a request, at once or after a while. The order of what waits is the order of the flows.
    ///
    /// # Errors
    /// There are too many already.
    pub async fn admit(
        &self,
        store: &etcd::Store,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<Admitted, (Admitted, Refusal)> {
        if !self.fair {
            return self.count(user, info).map_err(|refusal| (Admitted::default(), refusal));
        }
        self.catch_up(store);
        let rules = self.rules.load();
        let class = rules.classify(user, &Attributes::from(info));
        let mut admitted = Admitted {
            flow_schema_uid: class.schema.uid.clone(),
            priority_level_uid: class.level.uid.clone(),
            ..Admitted::default()
        };
        // A watch is like a list until it has begun; then it is nobody's work.
        if info.is_long_running() && info.verb != "watch" {
            return Ok(admitted);
        }
        let width = if class.level.limited.is_some() { self.sizes.estimate(store, info, query) } else { 1 };
        let (level, flow) = (class.level.name.clone(), class.flow(user, &info.namespace));
        let schema = class.schema.name.clone();
        drop(rules);
        let claim = Claim { level: &level, schema: &schema, flow, width };
        match self.levels.enter(claim, self.patience).await {
            Ok(seat) => {
                admitted._seat = Some(seat);
                Ok(admitted)
            }
            Err(refusal) => Err((admitted, refusal)),
        }
    }

    /// The two limits of old.
    fn count(&self, user: &UserInfo, info: &RequestInfo) -> Result<Admitted, Refusal> {
        if info.is_long_running() {
            return Ok(Admitted::default());
        }
        let reads = matches!(info.verb.as_str(), "get" | "list" | "watch");
        let (limit, in_flight, dropped) = match reads {
            true => (self.limits.0, &self.in_flight.0, &self.dropped.0),
            false => (self.limits.1, &self.in_flight.1, &self.dropped.1),
        };
        let before = in_flight.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(in_flight.clone());
        // Who can do everything must be able to help.
        let exempt = || user.groups.iter().any(|group| group == PRIVILEGED_GROUP);
        if limit != 0 && before >= limit && !exempt() {
            dropped.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::ConcurrencyLimit);
        }
        Ok(Admitted { _counted: Some(counted), ..Admitted::default() })
    }

    /// Takes in the schemas and levels that were written since the last request.
    fn catch_up(&self, store: &etcd::Store) {
        let objects = || self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = || {
            objects().clear();
            self.changed.store(true, Ordering::Release);
        };
        self.followed.catch_up(store, store.revision(), clear, |resource, _, name, object| {
            let key = (resource.plural.to_string(), name.to_owned());
            match object {
                Some(object) => drop(objects().insert(key, object.clone())),
                None => drop(objects().remove(&key)),
            }
            self.changed.store(true, Ordering::Release);
        });
        if !self.changed.load(Ordering::Acquire) {
            return;
        }
        let objects = objects();
        if self.changed.swap(false, Ordering::AcqRel) {
            let of = |plural: &'static str| {
                objects.iter().filter(move |((p, _), _)| p == plural).map(|(_, object)| object)
            };
            let rules = Rules::new(of("flowschemas"), of("prioritylevelconfigurations"));
            self.levels.set(rules.levels());
            self.rules.store(Arc::new(rules));
        }
    }

    /// What the levels do, in the text form of metrics.
    pub fn write_metrics(&self, out: &mut String) {
        if !self.fair {
            out.push_str(
                "# HELP apiserver_dropped_requests_total [BETA] Number of requests dropped with 'Try again later' \
                 response\n# TYPE apiserver_dropped_requests_total counter\n",
            );
            for (kind, dropped) in [("readOnly", &self.dropped.0), ("mutating", &self.dropped.1)] {
                let count = dropped.load(Ordering::Relaxed);
                let _ = writeln!(out, "apiserver_dropped_requests_total{{request_kind=\"{kind}\"}} {count}");
            }
            return;
        }
        self.levels.write_metrics(out);
    }
}

/// Answers `/debug/api_priority_and_fairness/…`; `None` for other paths.
pub fn handle(server: &super::ApiServer, info: &RequestInfo) -> Option<Response<Body>> {
    let what = info.path.strip_prefix(dump::PREFIX)?;
    let control = &server.flow;
    let rows = control.fair.then(|| control.levels.dump(what)).flatten()?;
    Some(response::bytes(200, "text/plain; charset=utf-8", dump::table(&rows)))
}

/// The answer to what is too much, as upstream's: text, not a Status.
pub fn refused(admitted: &Admitted) -> Response<Body> {
    let mut answer = response::text(429, "Too many requests, please try again later.");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    admitted.mark(answer.headers_mut());
    answer
}
