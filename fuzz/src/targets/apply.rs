//! Server-side apply, and the owners that other writes record. An input is a line with the live object (or none)
//! and then the configuration, in YAML or JSON.

use apimachinery::codec::{json, normal, yaml};
use apimachinery::managed_fields::{Applied, Reset, Writer, decode, equal_but_for_times};
use apimachinery::schema::TypeId;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Kind, first_line};
use crate::bounded;

pub fn run(bytes: &[u8]) {
    let (live, config) = first_line(bytes);
    let Ok((config, _)) = bounded(|| yaml::parse(config)) else { return };
    let (api_version, kind_name) = (text(&config, "apiVersion"), text(&config, "kind"));
    if api_version.is_empty() {
        return; // a request has a version
    }
    let kind = Kind::of(&api_version, &kind_name);
    let schema = api::schema();
    let live = match live.is_empty() {
        true => None,
        false => match json::decode(schema, kind.ty, live) {
            Ok(decoded) => Some(decoded.value),
            Err(_) => return,
        },
    };

    let convert = |object: &Value, from: &str, to: &str| -> Option<(TypeId, Value)> {
        (from == to || to == api_version).then(|| (kind.ty, object.clone()))
    };
    let reset = Reset::of_fields(&[&["status"]]);
    let writer = |manager, now| Writer {
        schema,
        ty: kind.ty,
        api_version: &api_version,
        manager,
        subresource: "",
        now: Timestamp::from_second(now).unwrap_or_default(),
        reset: &reset,
        convert: &convert,
    };

    let _ = writer("first", 1).apply(live.as_ref(), &config, &kind_name, false);
    let applied = bounded(|| writer("first", 1).apply(live.as_ref(), &config, &kind_name, true));
    let Ok(applied) = applied else { return };
    let Some(stored) = store(kind.ty, applied) else { return };

    // applying the same again changes nothing
    let again = writer("first", 2).apply(Some(&stored), &config, &kind_name, false);
    let again = again.expect("what was just applied has no conflicts");
    let again = store(kind.ty, again).expect("it fitted before");
    assert!(equal_but_for_times(&again, &stored), "applied again:\n{again}\nand before:\n{stored}");

    // another writer owns what it changes, and the list can be read back
    let mut changed = stored.clone();
    changed["metadata"]["labels"]["fuzz"] = "x".into();
    let Ok(()) = normal::normalize(schema, kind.ty, &mut changed) else { return };
    writer("second", 3).update(Some(&stored), &mut changed);
    let owners = decode(changed["metadata"].get("managedFields")).expect("managed fields that were written");
    if changed["metadata"]["labels"] != stored["metadata"]["labels"] {
        assert!(owners.iter().any(|entry| entry.manager == "second"), "{changed}");
    }
    // and what an applier gives up that nobody else owns is gone
    let mut nothing = Map::new();
    nothing.insert("apiVersion".into(), api_version.as_str().into());
    nothing.insert("kind".into(), kind_name.as_str().into());
    nothing.insert("metadata".into(), serde_json::json!({"name": config["metadata"]["name"]}));
    let _ = writer("first", 4).apply(Some(&changed), &Value::Object(nothing), &kind_name, true);
}

/// The object as it would be stored; `None` if it does not fit its type.
fn store(ty: TypeId, applied: Applied) -> Option<Value> {
    let Applied { mut object, managed, .. } = applied;
    if let Some(managed) = managed {
        let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        metadata.as_object_mut()?.insert("managedFields".into(), managed);
    }
    normal::normalize(api::schema(), ty, &mut object).ok()?;
    Some(object)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
