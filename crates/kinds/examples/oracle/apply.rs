//! Writes of several managers to one object: who owns what, and what server-side apply makes.

use apimachinery::codec::{json as codec, normal};
use apimachinery::managed_fields::{Reset, Writer};
use apimachinery::schema::TypeId;
use serde_json::{Value, json};

use crate::random::Random;
use crate::{Case, Difference, Gvk, same, text};

pub fn write(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Case> {
    let schema = api::schema();
    // only what is stored is applied
    let Some(resource) = api::resources().by_kind(&gvk.group, &gvk.version, &gvk.kind) else {
        return Vec::new();
    };
    let converts = gvk.kind == "DaemonSet" || gvk.kind == "HorizontalPodAutoscaler" && gvk.version == "v1";
    if resource.storage.is_none() || !resource.default_on || converts {
        return Vec::new();
    }
    let mut cases = Vec::new();
    for n in 0..count {
        let mut random = Random::new(seed.wrapping_add(n), &gvk.kind);
        random.nulls = false;
        let mut steps: Vec<Value> = Vec::new();
        for _ in 0..2 + random.below(4) {
            let size = *random.pick(&[5, 15, 40]);
            let update = random.chance(35);
            // what a storage in protobuf forgets is of no interest in what is written to it
            random.empties = !update;
            let mut object = random.object(schema, ty, size);
            if let Some(before) = steps.last()
                && random.chance(60)
            {
                keep(&mut object, &before["object"], &mut random);
            }
            without_converted(&mut object);
            gvk.stamp(&mut object);
            object["metadata"]["name"] = "a".into();
            if let Some(meta) = object["metadata"].as_object_mut() {
                for odd in [
                    "uid",
                    "resourceVersion",
                    "generation",
                    "creationTimestamp",
                    "deletionTimestamp",
                    "selfLink",
                ] {
                    meta.remove(odd);
                }
            }
            steps.push(json!({
                "do": if update { "update" } else { "apply" },
                "manager": random.pick(&["one", "two", "three"]),
                "force": random.chance(50),
                "object": object,
            }));
        }
        cases.push(gvk.case("apply", json!({"steps": steps})));
    }
    cases
}

/// Converted by the API server, which is another crate, and told of elsewhere.
const CONVERTED: &[&str] = &[
    "stringData",
    "serviceAccount",
    "serviceAccountName",
    "podCIDR",
    "podCIDRs",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
];

fn without_converted(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !CONVERTED.contains(&key.as_str()));
            map.values_mut().for_each(without_converted);
        }
        Value::Array(items) => items.iter_mut().for_each(without_converted),
        _ => {}
    }
}

/// The lines of a text in order: upstream tells faults in the order of a map.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What is there already stays as it is, mostly.
fn keep(object: &mut Value, before: &Value, random: &mut Random) {
    match (object, before) {
        (Value::Object(object), Value::Object(before)) => {
            for (key, value) in before {
                match object.get_mut(key) {
                    Some(there) => keep(there, value, random),
                    None if random.chance(50) => drop(object.insert(key.clone(), value.clone())),
                    None => {}
                }
            }
        }
        (object, before) if random.chance(50) => *object = before.clone(),
        _ => {}
    }
}

pub fn compare(ty: TypeId, case: &Case, answer: &Case) -> Vec<Difference> {
    let schema = api::schema();
    let api_version = apimachinery::gvk::api_version(text(case, "group"), text(case, "version"));
    let convert = |object: &Value, from: &str, _: &str| (from == api_version).then(|| (ty, object.clone()));
    let reset = Reset::of_fields(&[]);
    let mut live: Option<Value> = None;
    let empty = Vec::new();
    let steps = case.get("steps").and_then(Value::as_array).unwrap_or(&empty);
    let answers = answer.get("steps").and_then(Value::as_array).unwrap_or(&empty);
    for (at, (step, answer)) in steps.iter().zip(answers).enumerate() {
        let writer = Writer {
            schema,
            ty,
            api_version: &api_version,
            manager: step["manager"].as_str().unwrap_or_default(),
            subresource: "",
            now: jiff::Timestamp::UNIX_EPOCH,
            reset: &reset,
            convert: &convert,
        };
        let made: Result<Value, String> = match step["do"] == "apply" {
            true => writer
                .apply(live.as_ref(), &step["object"], text(case, "kind"), step["force"] == true)
                .map_err(|e| e.to_status().message)
                .and_then(|applied| {
                    let mut object = applied.object;
                    normal::normalize(schema, ty, &mut object).map_err(|e| e.to_string())?;
                    kinds::defaults::apply(ty, &mut object);
                    if let Some(managed) = applied.managed {
                        object["metadata"]["managedFields"] = managed;
                    }
                    Ok(object)
                }),
            false => {
                let mut object = step["object"].clone();
                normal::normalize(schema, ty, &mut object).map_err(|e| e.to_string()).map(|()| {
                    kinds::defaults::apply(ty, &mut object);
                    if let Some(managed) =
                        live.as_ref().and_then(|live| live["metadata"].get("managedFields"))
                    {
                        object["metadata"]["managedFields"] = managed.clone();
                    }
                    writer.update(live.as_ref(), &mut object);
                    object
                })
            }
        };
        let theirs = match (answer["json"].as_str(), answer["jsonError"].as_str()) {
            (Some(text), _) => {
                let mut theirs: Value = serde_json::from_str(text).unwrap_or_default();
                let _ = normal::normalize(schema, ty, &mut theirs);
                String::from_utf8(codec::to_vec(schema, ty, &theirs)).unwrap_or_default()
            }
            (None, error) => error.unwrap_or_default().to_owned(),
        };
        let ours = match made {
            Ok(mut object) => {
                let written = {
                    let mut shown = object.clone();
                    for entry in shown["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
                        entry.as_object_mut().map(|entry| entry.remove("time"));
                    }
                    let _ = normal::normalize(schema, ty, &mut shown);
                    String::from_utf8(codec::to_vec(schema, ty, &shown)).unwrap_or_default()
                };
                live = Some(std::mem::take(&mut object));
                written
            }
            Err(why) => why,
        };
        let verb = step["do"].as_str().unwrap_or_default();
        let (theirs, ours) = (sorted(&theirs), sorted(&ours));
        if let Some(difference) = same(&format!("{verb} {at}"), &theirs, &ours) {
            return vec![difference];
        }
    }
    Vec::new()
}
