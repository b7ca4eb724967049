//! The groups whose kinds have flags but few rules of their own.

use crate::strategy::{GENERIC, GarbageCollection, Strategy, label};
use crate::workload;

const GENERATION: Strategy = Strategy { generation: true, ..GENERIC };

pub fn apps(kind: &str) -> Option<&'static Strategy> {
    const DEPLOYMENT: Strategy = Strategy {
        validate: workload::deployment,
        validate_update: workload::deployment_update,
        ..GENERATION
    };
    const REPLICA_SET: Strategy = Strategy {
        validate: workload::replica_set,
        validate_update: workload::replica_set_update,
        selectable: &[("status.replicas", "/status/replicas", "0")],
        ..GENERATION
    };
    const DAEMON_SET: Strategy = Strategy {
        validate: workload::daemon_set,
        validate_update: workload::daemon_set_update,
        ..GENERATION
    };
    const STATEFUL_SET: Strategy = Strategy {
        name: label,
        validate: workload::stateful_set,
        validate_update: workload::stateful_set_update,
        ..GENERATION
    };
    Some(match kind {
        "DaemonSet" => &DAEMON_SET,
        "Deployment" => &DEPLOYMENT,
        "ReplicaSet" => &REPLICA_SET,
        "StatefulSet" => &STATEFUL_SET,
        _ => &GENERIC,
    })
}

pub fn batch(kind: &str) -> Option<&'static Strategy> {
    const JOB: Strategy = Strategy {
        garbage_collection: GarbageCollection::Orphan,
        validate: workload::job,
        validate_update: workload::job_update,
        selectable: &[("status.successful", "/status/succeeded", "0")],
        ..GENERATION
    };
    const CRON_JOB: Strategy = Strategy { garbage_collection: GarbageCollection::Orphan, ..GENERATION };
    Some(if kind == "Job" { &JOB } else { &CRON_JOB })
}

pub fn coordination(_kind: &str) -> Option<&'static Strategy> {
    const LEASE: Strategy =
        Strategy { allow_create_on_update: true, allow_unconditional_update: false, ..GENERIC };
    Some(&LEASE)
}

pub fn generation(_kind: &str) -> Option<&'static Strategy> {
    Some(&GENERATION)
}

pub fn networking(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "Ingress" | "IngressClass" | "NetworkPolicy" => &GENERATION,
        _ => &GENERIC,
    })
}

pub fn policy(_kind: &str) -> Option<&'static Strategy> {
    const BUDGET: Strategy = Strategy { generation: true, allow_unconditional_update: false, ..GENERIC };
    Some(&BUDGET)
}
