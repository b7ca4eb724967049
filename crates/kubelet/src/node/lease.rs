//! The node's lease: the cheap sign of life.

use std::sync::Arc;

use api::coordination::v1::{Lease, LeaseSpec};
use api::core::v1::Node;
use api::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease four times in its duration until `shutdown`.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let period = context.config.node_lease_duration / 4;
    let mut held: Option<Lease> = None;
    loop {
        let pause = match renew(&context, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                period
            }
            Err(error) => {
                tracing::debug!("renewing the node's lease: {}", error.chain());
                std::time::Duration::from_secs(1)
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(context: &Context, held: Option<Lease>) -> client::Result<Lease> {
    let name = &context.config.node_name;
    let mut lease = match held {
        Some(lease) => lease,
        None => match context.client.get::<Lease>(NAMESPACE, name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let mut lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        namespace: Some(NAMESPACE.into()),
                        ..ObjectMeta::default()
                    },
                    spec: None,
                };
                if let Ok(node) = context.client.get::<Node>("", name).await {
                    lease.metadata.owner_references = Some(vec![OwnerReference {
                        api_version: "v1".into(),
                        kind: "Node".into(),
                        name: name.clone(),
                        uid: node.metadata.uid.unwrap_or_default(),
                        ..OwnerReference::default()
                    }]);
                }
                lease.spec = Some(spec(context));
                return context.client.create(&lease).await;
            }
            Err(error) => return Err(error),
        },
    };
    lease.spec = Some(spec(context));
    context.client.update(&lease).await
}

fn spec(context: &Context) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(context.config.node_name.clone()),
        lease_duration_seconds: i32::try_from(context.config.node_lease_duration.as_secs()).ok(),
        renew_time: Some(MicroTime(context.clock.now())),
        ..LeaseSpec::default()
    }
}
