//! What happens to an object after it is decoded: defaults, validation, table cells, pod security, quota. An input
//! is an object in JSON on one line, or in protobuf, and on a second line another version of it.

use apimachinery::codec::protobuf::envelope;
use apimachinery::codec::{json, normal, protobuf};
use apimachinery::field::ErrorList;
use apimachinery::schema::Resource;
use apiserver::conversion;
use jiff::Timestamp;
use kinds::pod_security::{Level, Standard, Version};
use kinds::quota::Object;
use serde_json::Value;

use super::{Kind, first_line};

pub fn run(bytes: &[u8]) {
    let (first, second) = first_line(bytes);
    let (kind, resource, new) = if envelope::is_envelope(bytes) {
        let Ok(opened) = envelope::unwrap(bytes) else { return };
        let kind = Kind::of(opened.api_version, opened.kind);
        let Ok(value) = protobuf::decode(api::schema(), kind.ty, opened.raw) else { return };
        (Named::of(&kind), resource(&kind), value)
    } else {
        let (api_version, name) = json::type_meta(first).unwrap_or_default();
        let kind = Kind::of(&api_version, &name);
        let Ok(decoded) = json::decode(api::schema(), kind.ty, first) else { return };
        (Named::of(&kind), resource(&kind), decoded.value)
    };
    let Some(new) = prepared(&kind, new) else { return };
    let old = json::decode(api::schema(), kind.ty, second).ok().map(|decoded| decoded.value);
    let old = old.and_then(|old| prepared(&kind, old)).unwrap_or_else(|| new.clone());
    written(&kind, resource, &new, &old);
    shown(&kind, &new);
    if let Some(resource) = resource {
        counted(resource, &new);
    }
}

struct Named {
    group: String,
    version: String,
    kind: String,
    ty: apimachinery::schema::TypeId,
}

impl Named {
    fn of(kind: &Kind<'_>) -> Named {
        let text = str::to_owned;
        Named { group: text(kind.group), version: text(kind.version), kind: text(kind.kind), ty: kind.ty }
    }
}

fn resource(kind: &Kind<'_>) -> Option<&'static Resource> {
    api::resources().by_kind(kind.group, kind.version, kind.kind)
}

/// With its defaults.
fn prepared(kind: &Named, mut value: Value) -> Option<Value> {
    conversion::agree(&kind.group, &kind.kind, &mut value);
    kinds::defaults::apply(kind.ty, &mut value);
    let mut again = value.clone();
    kinds::defaults::apply(kind.ty, &mut again);
    assert_eq!(again, value, "defaults twice");
    normal::normalize(api::schema(), kind.ty, &mut again).expect("defaults have the types of their fields");
    assert_eq!(again, value, "with defaults it is still normal");
    Some(value)
}

fn written(kind: &Named, resource: Option<&Resource>, new: &Value, old: &Value) {
    const NOW: &str = "2023-11-14T22:13:20Z";
    let strategy = kinds::strategy(&kind.group, &kind.kind);
    let mut created = new.clone();
    (strategy.prepare_for_create)(&mut created);
    (strategy.stamp_new)(&mut created, NOW);
    let mut errors = ErrorList::new();
    (strategy.validate)(&created, &mut errors);
    for error in errors {
        assert!(!error.to_string().is_empty());
    }
    let _ = (strategy.warnings)(&created, None, "");
    let _ = (strategy.name)(new["metadata"]["name"].as_str().unwrap_or_default(), false);
    let subresources = resource.into_iter().flat_map(|r| r.subresources.iter().map(|s| &*s.name));
    for subresource in std::iter::once("").chain(subresources) {
        let mut updated = new.clone();
        (strategy.prepare_for_update)(&mut updated, old, subresource);
        (strategy.stamp)(&mut updated, old, subresource, NOW);
        (strategy.validate_update)(&updated, old, subresource, &mut ErrorList::new());
        let _ = (strategy.warnings)(&updated, Some(old), subresource);
    }
}

fn shown(kind: &Named, value: &Value) {
    let columns = kinds::columns(&kind.group, &kind.kind);
    let now = Timestamp::from_second(1_700_000_000).unwrap_or_default();
    let cells = (columns.cells)(value, now);
    // upstream's rows of IPAddresses have one more
    assert!(cells.len() >= columns.definitions.len(), "a cell for each column");
    let _ = (columns.conditions)(value);
    if let Some(order) = columns.order {
        assert_eq!(order(value, value), std::cmp::Ordering::Equal);
    }
    for other in ["v1", "v1beta1", "v2"] {
        let mut converted = value.clone();
        let from = (&*kind.group, &*kind.version);
        conversion::convert(&mut converted, &kind.kind, from, (&kind.group, other));
    }
}

fn counted(resource: &Resource, value: &Value) {
    if &*resource.kind == "Pod" {
        for level in [Level::Baseline, Level::Restricted] {
            let standard = Standard { level, version: Version::Latest };
            let violations = kinds::pod_security::evaluate(standard, &value["metadata"], &value["spec"]);
            assert_eq!(violations.is_empty(), kinds::pod_security::reasons(&violations).is_empty());
        }
    }
    if let Ok(object) = Object::read(&resource.group, &resource.plural, value) {
        let _ = object.usage(Timestamp::UNIX_EPOCH);
    }
}
