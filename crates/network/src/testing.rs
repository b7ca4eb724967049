//! Objects for tests, as the API server would hand them out.

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::sync::Arc;

/// A Service from its spec.
pub fn service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// One EndpointSlice of a Service. `endpoints` is a list of Endpoint objects, `ports` of EndpointPort ones.
pub fn slice(
    namespace: &str,
    service: &str,
    family: &str,
    ports: Value,
    endpoints: Value,
) -> Arc<EndpointSlice> {
    let object = json!({
        "metadata": {
            "namespace": namespace,
            "name": format!("{service}-{}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}
