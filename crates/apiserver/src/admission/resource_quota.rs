//! ResourceQuota: what a write will use is taken from the quotas of its namespace before it is done, so that their
//! sum is never exceeded, however many write at once (upstream `apiserver/pkg/admission/plugin/resourcequota`). What
//! counts how much is in `kinds::quota`.
//!
//! The requests of a namespace that come while its quotas are being written wait and are charged together, in the
//! order in which they came: one write of a quota for all of them. The quota is compared and swapped, so several
//! servers share it. A write that fails after its charge keeps it until the quota controller counts anew: giving it
//! back here could give it back twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::schema::Resource;
use apimachinery::status::Status;
use etcd::KeyValue;
use kinds::quota::{self, Limited, Object, Quota, Refusal, Request, Write};
use serde_json::Value;

use super::{AdmissionAttributes, Operation, forbidden};
use crate::registry::core::resource_quota::write_used;
use crate::registry::generic::Scope;

pub const NAME: &str = "ResourceQuota";
/// How often a batch is tried when somebody else has written a quota in between.
const ATTEMPTS: usize = 10;
/// How long a request waits to be charged.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who waits to be charged, by namespace.
#[derive(Default)]
pub struct Ledger {
    namespaces: Mutex<HashMap<String, Arc<Line>>>,
}

/// The requests of one namespace, in the order in which they came.
#[derive(Default)]
struct Line {
    /// Held by who charges for all.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Arc<Charge>>>,
}

/// A request that waits.
struct Charge {
    object: Object<'static>,
    old: Option<Object<'static>>,
    group: String,
    resource: String,
    is_status: bool,
    dry_run: bool,
    answer: Mutex<Option<Answer>>,
}

type Answer = Result<(), Refused>;

#[derive(Clone)]
enum Refused {
    ByQuota(Refusal),
    ByStore(Box<Status>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Charges a write to the quotas of its namespace; with nothing to charge it costs a look at a range of keys.
    ///
    /// # Errors
    /// 403 when a quota has no room, or cannot say so yet.
    pub(super) async fn charge(
        &self,
        scope: &Scope<'_>,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        limited: &[Limited],
    ) -> Result<(), Status> {
        let write = match a.operation {
            Operation::Create => Write::Create,
            Operation::Update => Write::Update,
            Operation::Delete | Operation::Connect => return Ok(()),
        };
        if a.namespace.is_empty()
            || !matches!(a.subresource, "" | "resize" | "status")
            || quota::is_ignored(a.group, a.resource)
        {
            return Ok(());
        }
        let Some(quotas) = api::resource("", "v1", "resourcequotas") else { return Ok(()) };
        if limited.is_empty() && !scope.server.storage.has_any(quotas, a.namespace) {
            return Ok(());
        }
        let read = |value: &Value| {
            let object =
                Object::read(a.group, a.resource, value).map_err(|e| Status::bad_request(e.to_string()))?;
            Ok::<_, Status>(object.into_owned())
        };
        let (new, old) = (read(object)?, a.old.map(read).transpose()?);
        if !new.is_charged(write, a.subresource, old.as_ref()) {
            return Ok(());
        }
        let charge = Arc::new(Charge {
            object: new,
            old: old.filter(|_| write == Write::Update),
            group: a.group.to_owned(),
            resource: a.resource.to_owned(),
            is_status: a.subresource == "status",
            dry_run: a.dry_run,
            answer: Mutex::new(None),
        });
        let place = self.enter(a.namespace, charge);
        let answer = tokio::time::timeout(PATIENCE, place.wait(scope, quotas, limited)).await;
        match answer.map_err(|_| Status::internal("resource quota evaluation timed out"))? {
            Ok(()) => Ok(()),
            Err(Refused::ByQuota(Refusal::Forbidden(why))) => Err(forbidden(a, object, why)),
            Err(Refused::ByQuota(Refusal::Plain(why))) => Err(Status::failure(500, "", why)),
            Err(Refused::ByStore(status)) => Err(*status),
        }
    }

    fn enter<'a>(&'a self, namespace: &'a str, charge: Arc<Charge>) -> Place<'a> {
        let line = lock(&self.namespaces).entry(namespace.to_owned()).or_default().clone();
        lock(&line.waiting).push(charge.clone());
        Place { ledger: self, namespace, line, charge }
    }
}

/// A place in a line, left when dropped.
struct Place<'a> {
    ledger: &'a Ledger,
    namespace: &'a str,
    line: Arc<Line>,
    charge: Arc<Charge>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.line.waiting).retain(|other| !Arc::ptr_eq(other, &self.charge));
        let mut all = lock(&self.ledger.namespaces);
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.line) == 2 {
            all.remove(self.namespace);
        }
    }
}

impl Place<'_> {
    /// Waits until somebody has charged this request too, or does it for all who wait.
    ///
    /// Who gives up on the way leaves the others in line: the next of them begins anew, so a charge may count
    /// twice until the quota controller corrects it, and never too little.
    async fn wait(&self, scope: &Scope<'_>, quotas: &'static Resource, limited: &[Limited]) -> Answer {
        let _turn = self.line.turn.lock().await;
        if let Some(answer) = lock(&self.charge.answer).take() {
            return answer;
        }
        let batch = lock(&self.line.waiting).clone();
        let book = Book { scope, quotas, namespace: self.namespace, limited };
        let answers = book.settle(&batch).await;
        for (charge, answer) in batch.iter().zip(answers) {
            *lock(&charge.answer) = Some(answer);
        }
        lock(&self.line.waiting).retain(|charge| lock(&charge.answer).is_none());
        lock(&self.charge.answer).take().unwrap_or(Ok(()))
    }
}

/// The quotas of a namespace while they are charged.
struct Book<'a> {
    scope: &'a Scope<'a>,
    quotas: &'static Resource,
    namespace: &'a str,
    limited: &'a [Limited],
}

impl Book<'_> {
    async fn settle(&self, batch: &[Arc<Charge>]) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; batch.len()];
        let mut stored = self.stored();
        for attempt in 1..=ATTEMPTS {
            let mut quotas: Vec<Quota> = stored.iter().map(|(_, quota)| quota.clone()).collect();
            let before = quotas.clone();
            for (charge, answer) in batch.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
                *answer = self.try_one(charge, &mut quotas);
            }
            if answers.iter().all(Option::is_some) {
                break;
            }
            let mut failed = Vec::new();
            for (((kv, _), before), after) in stored.iter().zip(&before).zip(&quotas) {
                if before.used != after.used
                    && let Err(status) = self.write(kv, after).await
                {
                    failed.push((after.name.clone(), status));
                }
            }
            let Some((_, status)) = failed.last().filter(|_| attempt == ATTEMPTS) else {
                if failed.is_empty() {
                    break;
                }
                // What was written is paid; only the others are asked again.
                stored = self.stored();
                stored.retain(|(_, quota)| failed.iter().any(|(name, _)| *name == quota.name));
                continue;
            };
            let refused = Err(Refused::ByStore(Box::new(status.clone())));
            answers.iter_mut().filter(|answer| answer.is_none()).for_each(|a| *a = Some(refused.clone()));
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Ok(()))).collect()
    }

    /// The answer, unless it depends on whether the quotas can be written.
    fn try_one(&self, charge: &Charge, quotas: &mut Vec<Quota>) -> Option<Answer> {
        let request = Request {
            object: &charge.object,
            old: charge.old.as_ref(),
            is_status: charge.is_status,
            group: &charge.group,
            resource: &charge.resource,
            now: self.scope.server.clock.now(),
        };
        let before = charge.dry_run.then(|| quotas.clone());
        let charged = quota::charge(quotas, self.limited, &request);
        if let Some(before) = before {
            *quotas = before;
        }
        match charged {
            Err(refusal) => Some(Err(Refused::ByQuota(refusal))),
            Ok(changed) if !changed || charge.dry_run => Some(Ok(())),
            Ok(_) => None,
        }
    }

    fn stored(&self) -> Vec<(Arc<KeyValue>, Quota)> {
        let storage = &self.scope.server.storage;
        let all = storage.all(self.quotas, self.namespace);
        all.into_iter()
            .filter_map(|kv| {
                let quota = Quota::of(&*storage.keep(self.quotas, &kv)?);
                Some((kv, quota))
            })
            .collect()
    }

    async fn write(&self, kv: &KeyValue, quota: &Quota) -> Result<(), Status> {
        write_used(self.scope, self.quotas, self.namespace, (kv, &quota.name), quota.used_value()).await
    }
}
