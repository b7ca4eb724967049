//! Leader election as controllers written with kube-rs do it: a Lease that is taken and renewed by whoever wins the
//! race to write it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::{until, world};

/// Whether the candidate holds the lease after it has tried to.
async fn campaign(leases: &Api<Lease>, name: &str, seconds: i32) -> bool {
    let now = Timestamp::now();
    let spec = LeaseSpec {
        holder_identity: Some(name.into()),
        lease_duration_seconds: Some(seconds),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..Default::default()
    };
    let written = match leases.get_opt("leader").await.unwrap() {
        None => {
            let metadata = ObjectMeta { name: Some("leader".into()), ..Default::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
        Some(mut lease) => {
            let held = lease.spec.take().unwrap_or_default();
            let renewed = held.renew_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            let until = renewed + Duration::from_secs(held.lease_duration_seconds.unwrap_or(0) as u64);
            let mine = held.holder_identity.as_deref() == Some(name);
            if !mine && now < until {
                return false;
            }
            let acquired = if mine { held.acquire_time } else { Some(MicroTime(now)) };
            let changes = held.lease_transitions.unwrap_or(0) + i32::from(!mine);
            lease.spec = Some(LeaseSpec { acquire_time: acquired, lease_transitions: Some(changes), ..spec });
            leases.replace("leader", &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(_) => true,
        // somebody was faster
        Err(kube::Error::Api(status)) if status.code == 409 => false,
        Err(other) => panic!("{name}: {other}"),
    }
}

#[tokio::test]
async fn one_leader_at_a_time() {
    let (server, client, _) = world().await;
    let leases: Api<Lease> = Api::default_namespaced(client);
    let mut holders: Vec<String> = Vec::new();
    for round in 0..10 {
        let candidates = (0..8).map(|n| {
            let leases = leases.clone();
            let name = format!("candidate-{n}");
            async move { campaign(&leases, &name, 3600).await.then_some(name) }
        });
        let winners: Vec<String> =
            futures::future::join_all(candidates).await.into_iter().flatten().collect();
        let holder = leases.get("leader").await.unwrap().spec.unwrap();
        assert_eq!(winners, [holder.holder_identity.clone().unwrap()], "round {round}");
        holders.extend(winners.clone());
        holders.dedup();
        let changes = i32::try_from(holders.len()).unwrap() - 1;
        assert_eq!(holder.lease_transitions.unwrap_or(0), changes);
        // the holder renews, then gives up
        assert!(campaign(&leases, &winners[0], 3600).await);
        let mut lease = leases.get("leader").await.unwrap();
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(1);
        lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        leases.replace("leader", &PostParams::default(), &lease).await.unwrap();
        let loser = format!("candidate-{}", (winners[0].as_bytes()[10] - b'0' + 1) % 8);
        if round == 9 {
            until("another takes over", async || campaign(&leases, &loser, 1).await.then_some(())).await;
        }
    }
    drop(server);
}
