//! Which of several processes does the work: a Lease that one of them holds and renews.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::v1::{MicroTime, ObjectMeta};
use apimachinery::clock::{Clock, Entropy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::jitter;
use crate::{Client, Result};

/// client-go's jitter factor of the retry period.
const JITTER: f64 = 1.2;

/// Which lease, under which name, and how long things take.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// The lease's namespace: `kube-system` for upstream's components.
    pub namespace: String,
    /// The lease's name: `kube-scheduler`.
    pub name: String,
    /// Who this process is: unique among all, such as `host_uuid`.
    pub identity: String,
    /// Others wait this long after the last renewal that they saw (15 s).
    pub lease_duration: Duration,
    /// The leader gives up when it could not renew for this long (10 s).
    pub renew_deadline: Duration,
    /// Between tries (2 s).
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// With upstream's times.
    pub fn new(namespace: &str, name: &str, identity: &str) -> LeaderConfig {
        LeaderConfig {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Competes for a lease.
pub struct LeaderElector {
    config: LeaderConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The lease as last seen, and when it was seen to change: other clocks are not trusted.
    seen: Option<(Lease, Instant)>,
}

impl LeaderElector {
    /// Nothing happens before [`LeaderElector::run`].
    pub fn new(
        config: LeaderConfig,
        client: Client,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> LeaderElector {
        LeaderElector { config, client, clock, entropy, seen: None }
    }

    /// Waits for the lease, then runs `lead` and renews meanwhile. Returns when `lead` is done, when the
    /// lease is lost (the token that `lead` got is cancelled then and `lead` is waited for no longer), or
    /// after `shutdown`, having given the lease up.
    pub async fn run<F>(mut self, shutdown: CancellationToken, lead: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()>,
    {
        while !self.attempt().await {
            let pause = jitter(self.config.retry_period, JITTER, self.entropy.as_ref());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        tracing::info!(lease = %self.config.name, "became leader");
        let leading = shutdown.child_token();
        let work = lead(leading.clone());
        tokio::pin!(work);
        let stopped = tokio::select! {
            biased;
            () = &mut work => true,
            () = self.renew() => false,
        };
        leading.cancel();
        if stopped {
            self.release().await;
        } else {
            tracing::error!(lease = %self.config.name, "leader election lost");
        }
    }

    /// Renews until that has failed for the renew deadline.
    async fn renew(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) if renewed.elapsed() < self.config.renew_deadline => {}
                _ => return,
            }
        }
    }

    async fn attempt(&mut self) -> bool {
        match self.acquire_or_renew().await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(lease = %self.config.name, error = %error.chain(), "lease could not be taken");
                false
            }
        }
    }

    async fn acquire_or_renew(&mut self) -> Result<bool> {
        let found = self.client.get::<Lease>(&self.config.namespace, &self.config.name).await;
        let lease = match found {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let fresh = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.config.name.clone()),
                        namespace: Some(self.config.namespace.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.claim(None)),
                };
                let made = self.client.create(&fresh).await?;
                self.seen = Some((made, Instant::now()));
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let same = self.seen.as_ref().is_some_and(|(before, _)| before.spec == lease.spec);
        if !same {
            self.seen = Some((lease.clone(), Instant::now()));
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if !holder.is_empty() && holder != self.config.identity {
            let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
            let since = self.seen.as_ref().map(|(_, at)| at.elapsed()).unwrap_or_default();
            if since < Duration::from_secs(seconds) {
                return Ok(false);
            }
        }
        let taken = Lease { spec: Some(self.claim(Some(&spec))), ..lease };
        let taken = self.client.update(&taken).await?;
        self.seen = Some((taken, Instant::now()));
        Ok(true)
    }

    /// The lease's spec with us as the holder.
    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let ours = before.is_some_and(|b| b.holder_identity.as_deref() == Some(&self.config.identity));
        let transitions = before.map_or(0, |b| b.lease_transitions.unwrap_or_default() + i32::from(!ours));
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
            acquire_time: before
                .filter(|_| ours)
                .and_then(|b| b.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Gives the lease up so that another can take it at once.
    async fn release(&mut self) {
        let Some((lease, _)) = self.seen.take() else { return };
        let now = MicroTime(self.clock.now());
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..lease.spec.clone().unwrap_or_default()
        };
        let free = Lease { spec: Some(spec), ..lease };
        let update = self.client.update(&free);
        if let Ok(Err(error)) = tokio::time::timeout(self.config.retry_period, update).await {
            tracing::debug!(error = %error.chain(), "lease could not be released");
        }
    }
}
