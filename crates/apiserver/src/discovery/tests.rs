//! Against the reference data where it is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use apimachinery::schema::ResourceRef;

use crate::server::Served;
use crate::server::features::Gates;

/// The reference data, or `None` where a checkout has none (never in CI).
fn reference() -> Option<Value> {
    let root = std::env::var("CORTEN_SPEC").map_or_else(
        |_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/spec/v1.36")),
        PathBuf::from,
    );
    match std::fs::read(root.join("discovery.json")) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(e) if std::env::var_os("CI").is_some() => panic!("the reference data is missing: {e}"),
        Err(_) => {
            eprintln!("skipped: no reference data");
            None
        }
    }
}

/// Groups, versions and resources by name, so that differences are readable.
fn flatten(document: &Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for group in document["items"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            for resource in version["resources"].as_array().unwrap() {
                let name = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
                let key = format!(
                    "{}/{}/{}",
                    name(&group["metadata"], "name"),
                    name(version, "version"),
                    name(resource, "resource")
                );
                out.insert(key, resource.clone());
            }
        }
    }
    out
}

fn all(served: &Served) -> Vec<ResourceRef> {
    served.iter().map(ResourceRef::from).collect()
}

#[test]
fn aggregated_as_upstream() {
    let Some(reference) = reference() else { return };
    let all = flatten(&reference["aggregated_apis"]);
    // Upstream's file lists alpha and beta versions, too, which nobody serves unasked.
    let stable = |key: &str| {
        let version = key.split('/').nth(1).unwrap();
        !version.contains("alpha") && !version.contains("beta")
    };
    let theirs: BTreeMap<_, _> = all.clone().into_iter().filter(|(k, _)| stable(k)).collect();
    let gates =
        "ClusterTrustBundle=true,GenericWorkload=true,PodCertificateRequest=true,StorageVersionMigrator=true";
    let everything = Served::parse("api/all=true", &Gates::parse(gates).unwrap()).unwrap();
    for (served, theirs) in [(Served::default(), theirs), (everything, all)] {
        let ours = flatten(&aggregated::document(false, &self::all(&served)));
        for (key, expect) in &theirs {
            assert_eq!(ours.get(key), Some(expect), "{key}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn core_as_upstream() {
    let Some(reference) = reference() else { return };
    assert_eq!(legacy::resources(&all(&Served::default()), "", "v1").unwrap(), reference["api_v1"]);
}

#[test]
fn groups_and_versions() {
    let served = &all(&Served::default())[..];
    let list = legacy::groups(served);
    let names: Vec<&str> =
        list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    let autoscaling = legacy::group(served, "autoscaling").unwrap();
    assert_eq!(
        autoscaling,
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": "autoscaling",
            "versions": [{"groupVersion": "autoscaling/v2", "version": "v2"}, {"groupVersion": "autoscaling/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"}})
    );
    assert_eq!(
        (legacy::group(served, "none"), legacy::group(served, ""), legacy::resources(served, "apps", "v9")),
        (None, None, None)
    );
}

#[test]
fn negotiated_form() {
    let table = [
        ("", Form::Legacy),
        ("*/*", Form::Legacy),
        ("application/json", Form::Legacy),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            Form::Aggregated(Format::Json),
        ),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            Form::Legacy,
        ),
        (
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Form::Aggregated(Format::Protobuf),
        ),
        (
            "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io;profile=nopeer",
            Form::Aggregated(Format::Json),
        ),
        (
            "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json",
            Form::Legacy,
        ),
        ("application/vnd.kubernetes.protobuf,application/json", Form::Legacy),
    ];
    for (accept, expect) in table {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(wanted(&headers), expect, "{accept}");
    }
}

#[test]
fn unchanged_documents_are_not_sent() {
    let served = &all(&Served::default())[..];
    let first = aggregated::answer(&aggregated::document(false, served), Format::Json, &HeaderMap::new());
    let tag = first.headers()[header::ETAG].clone();
    assert_eq!(tag.len(), 130);
    let whole = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    assert_eq!(first.headers()[header::CONTENT_TYPE], whole);
    let protobuf =
        aggregated::answer(&aggregated::document(false, served), Format::Protobuf, &HeaderMap::new());
    let media_type = protobuf.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert!(
        media_type.starts_with("application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io"),
        "{media_type}"
    );
    let mut headers = HeaderMap::new();
    headers.insert(header::IF_NONE_MATCH, tag);
    assert_eq!(
        aggregated::answer(&aggregated::document(false, served), Format::Json, &headers).status(),
        304
    );
    assert_eq!(aggregated::answer(&aggregated::document(true, served), Format::Json, &headers).status(), 200);
}
