//! This server among others on the same store: under `/registry/masterleases` each keeps its address alive
//! (upstream's lease endpoint reconciler), and the endpoints of the `kubernetes` Service are the addresses there.
//! In `kube-system` each keeps a Lease that names it (KEP-4020).
//!
//! The address goes with its lease in the store, 15 seconds after its server ended without a word.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apimachinery::status::Status;
use etcd::{KeyRange, Put, Range};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ensure, reconcile, write};
use crate::authentication::legacy_token;
use crate::registry::meta;
use crate::server::ApiServer;
use crate::storage;

/// Keys are this and the address.
const ADDRESSES: &str = "/registry/masterleases/";
/// Seconds after which an address is gone that nobody keeps.
const TTL: i64 = 15;
const BEAT: Duration = Duration::from_secs(10);
/// The Lease is renewed every so many beats; it counts for an hour. (Upstream renews it ten times as often.)
const RENEW: u64 = 6;
const IDENTITY_SECONDS: i64 = 3600;
/// Leases of servers that are gone are taken away every so many beats: once an hour.
const COLLECT: u64 = 360;
const IDENTITY_LABEL: &str = "apiserver.kubernetes.io/identity";
const IDENTITY: &str = "kube-apiserver";

/// Where other servers' addresses come and go.
pub fn range() -> KeyRange {
    KeyRange::prefix(ADDRESSES)
}

/// The addresses of all servers that live, as they sort; this one's unless it is going.
pub fn addresses(server: &ApiServer) -> Vec<IpAddr> {
    let found = server.storage.store().range(&Range::prefix(ADDRESSES));
    let kvs = found.map(|found| found.kvs).unwrap_or_default();
    let name = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(ADDRESSES)?.parse::<IpAddr>().ok();
    let mut out: Vec<IpAddr> = kvs.iter().filter_map(|kv| name(&kv.key)).collect();
    if let Some((own, _)) = server.settings.advertise {
        let going = server.terminating.load(Ordering::Acquire);
        out.retain(|address| *address != own);
        if !going {
            out.push(own);
        }
    }
    // As text, as upstream sorts them.
    out.sort_by_key(IpAddr::to_string);
    out.dedup();
    out
}

/// Writes this server's address and Lease.
pub async fn appear(server: &Arc<ApiServer>) -> Result<Presence, Status> {
    let mut presence = Presence { lease: 0, holder: String::new() };
    presence.keep_address(server).await?;
    let uid = meta::uid(&*server.entropy);
    presence.holder = format!("{}_{uid}", identity(&server.settings.hostname));
    presence.renew(server).await?;
    Ok(presence)
}

/// What keeps a server among those that live.
pub struct Presence {
    /// Of the store; 0: none yet.
    lease: i64,
    /// This process.
    holder: String,
}

impl Presence {
    /// Until the server ends.
    pub async fn keep(mut self, server: Arc<ApiServer>) {
        for beat in 1_u64.. {
            tokio::select! {
                biased;
                () = server.shutdown.cancelled() => return,
                () = tokio::time::sleep(BEAT) => {}
            }
            if server.terminating.load(Ordering::Acquire) {
                return;
            }
            let mut faults =
                vec![self.keep_address(&server).await.err(), note_legacy_tokens(&server).await.err()];
            if beat % RENEW == 0 {
                faults.push(self.renew(&server).await.err());
            }
            if beat % COLLECT == 0 {
                faults.push(collect(&server).await.err());
            }
            for status in faults.into_iter().flatten() {
                tracing::warn!(error = %status, "keeping this server among those that live");
            }
        }
    }

    async fn keep_address(&mut self, server: &ApiServer) -> Result<(), Status> {
        let Some((address, _)) = server.settings.advertise.filter(|_| server.settings.publish_endpoints)
        else {
            return Ok(());
        };
        let store = server.storage.store();
        let key = format!("{ADDRESSES}{address}");
        if self.lease != 0 && store.get(key.as_bytes()).is_some() {
            match store.lease_keep_alive(self.lease).await {
                Ok(_) => return Ok(()),
                Err(error) => tracing::info!(%error, "the lease of this server's address was lost"),
            }
        }
        let failed = |error: etcd::Error| storage::store_error(&error);
        self.lease = store.lease_grant(0, TTL).await.map_err(failed)?.id;
        let resource =
            api::resource("", "v1", "endpoints").ok_or_else(|| Status::internal("no endpoints"))?;
        let mut object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {},
            "subsets": [{"addresses": [{"ip": address.to_string()}]}]});
        let value = storage::encode(resource, &mut object)?;
        let put = Put { key: key.into(), value, lease: self.lease };
        store.put(put).await.map_err(failed)?;
        Ok(())
    }

    async fn renew(&self, server: &Arc<ApiServer>) -> Result<(), Status> {
        let hostname = &server.settings.hostname;
        let lease = lease(hostname, &self.holder, server.clock.now());
        ensure(server, &lease, reconcile::contain).await
    }
}

/// `apiserver-` and the hash of the host's name and of what the server is, each after its length, as upstream makes it.
fn identity(hostname: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = Sha256::new();
    for part in [hostname, IDENTITY] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    let sum = hash.finalize();
    let mut out = String::from("apiserver-");
    let (mut bits, mut count) = (0_u32, 0);
    for byte in &sum[..16] {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            out.push(LETTERS[(bits >> count & 31) as usize] as char);
        }
    }
    // What is left, filled up with zeros.
    out.push(LETTERS[(bits << (5 - count) & 31) as usize] as char);
    out
}

fn lease(hostname: &str, holder: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": identity(hostname), "namespace": "kube-system",
            "labels": {IDENTITY_LABEL: IDENTITY, "kubernetes.io/hostname": hostname}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": IDENTITY_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()},
    })
}

/// Takes away the Leases of servers that have not renewed theirs for as long as they count.
async fn collect(server: &Arc<ApiServer>) -> Result<(), Status> {
    let Some(resource) = api::resource("coordination.k8s.io", "v1", "leases") else { return Ok(()) };
    let now = server.clock.now();
    for lease in server.storage.read_all(resource, "kube-system") {
        if is_expired(&lease, now) {
            match write(server, resource, Method::DELETE, &lease).await {
                Err(status) if status.is_not_found() => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn is_expired(lease: &Value, now: Timestamp) -> bool {
    if lease["metadata"]["labels"][IDENTITY_LABEL] != IDENTITY {
        return false;
    }
    let renewed = lease["spec"]["renewTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64();
    let (Some(renewed), Some(seconds)) = (renewed, seconds) else { return true };
    renewed.as_second().saturating_add(seconds) < now.as_second()
}

/// Writes on the Secrets of old tokens when they were last used: the day.
async fn note_legacy_tokens(server: &Arc<ApiServer>) -> Result<(), Status> {
    let Some(verifier) = server.authenticator.service_accounts() else { return Ok(()) };
    let Some(resource) = api::resource("", "v1", "secrets") else { return Ok(()) };
    let today = server.clock.now().strftime("%Y-%m-%d").to_string();
    for (namespace, name) in verifier.legacy_used.take() {
        let Some(mut secret) = server.storage.read(resource, &namespace, &name)? else { continue };
        if secret["metadata"]["labels"][legacy_token::LAST_USED] == today.as_str() {
            continue;
        }
        let metadata = meta::of(&mut secret);
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        labels[legacy_token::LAST_USED] = today.as_str().into();
        match write(server, resource, Method::PUT, &secret).await {
            // Its next use comes by again.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes this server's address away, before it stops to answer.
pub async fn disappear(server: &Arc<ApiServer>) -> Result<(), Status> {
    let Some((address, _)) = server.settings.advertise.filter(|_| server.settings.publish_endpoints) else {
        return Ok(());
    };
    let key = KeyRange::key(format!("{ADDRESSES}{address}"));
    server.storage.store().delete(key).await.map_err(|error| storage::store_error(&error))?;
    super::keep_endpoints(server).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        // The Lease of upstream's server on a host of that name.
        assert_eq!(identity("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }

    #[test]
    fn leases_of_the_gone() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let own = lease("node-a", "x", now);
        assert_eq!(own["spec"]["renewTime"], "2026-11-21T12:00:00.000000Z");
        let later = |seconds| now + jiff::SignedDuration::from_secs(seconds);
        let mut other = own.clone();
        other["metadata"]["labels"] = json!({});
        for (lease, at, expect) in
            [(&own, later(3600), false), (&own, later(3601), true), (&other, later(9999), false)]
        {
            assert_eq!(is_expired(lease, at), expect);
        }
    }
}
