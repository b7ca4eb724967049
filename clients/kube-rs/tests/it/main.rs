//! What programs written with kube-rs do, against our API server.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::core::Status;
use kube_rs::{PATIENCE, Server};

mod discovery;
mod informers;
mod lease;
mod ownership;
mod reads;
mod streams;
mod subresources;
mod writes;

/// Asks again and again until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}: not so in all that time"))
}

/// What the server has against it.
#[track_caller]
fn refusal<T: Debug>(answer: kube::Result<T>) -> Status {
    match answer {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("no refusal: {other:?}"),
    }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some([("made-by".to_owned(), "kube-rs".to_owned())].into()),
            ..Default::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..Default::default()
    }
}

/// A server, a client that may do all, and the config maps of the namespace `default`.
async fn world() -> (Server, kube::Client, Api<ConfigMap>) {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    until("the namespace default", async || namespaces.get_opt("default").await.unwrap()).await;
    let maps = Api::default_namespaced(client.clone());
    (server, client, maps)
}

async fn make(maps: &Api<ConfigMap>, count: usize) {
    for n in 0..count {
        maps.create(&PostParams::default(), &config_map(&format!("m-{n:03}"), "first")).await.unwrap();
    }
}
