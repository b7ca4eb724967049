//! Leases of objects that expire (Events). As upstream's lease manager, one lease serves all objects written
//! within a while, so that a thousand events do not make a thousand leases.

use std::time::Duration;

use etcd::Store;
use tokio::{sync::Mutex, time::Instant};

/// A lease is used for so long, or for so many objects, before the next is made.
const REUSE: Duration = Duration::from_secs(60);
const MAX_OBJECTS: u32 = 1000;

#[derive(Default)]
pub struct Leases(Mutex<Option<Current>>);

struct Current {
    id: i64,
    ttl: i64,
    until: Instant,
    objects: u32,
}

impl Leases {
    /// A lease that gives an object at least `ttl` seconds.
    pub async fn get(&self, store: &Store, ttl: i64) -> Result<i64, etcd::Error> {
        let mut slot = self.0.lock().await;
        let now = Instant::now();
        if let Some(current) = &mut *slot
            && current.ttl == ttl
            && current.until > now
            && current.objects < MAX_OBJECTS
        {
            current.objects += 1;
            return Ok(current.id);
        }
        let granted = store.lease_grant(0, ttl + REUSE.as_secs() as i64).await?;
        *slot = Some(Current { id: granted.id, ttl, until: now + REUSE, objects: 1 });
        Ok(granted.id)
    }
}
