//! Strategic merge patch.

use apimachinery::patch::strategic;
use apimachinery::schema::{Schema, Shape, TypeId};
use serde_json::{Map, Value, json};

use crate::random::Random;
use crate::{Case, Difference, Gvk, same, text};

pub fn write(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Case> {
    let schema = api::schema();
    let mut cases = Vec::new();
    for n in 0..count {
        let mut random = Random::new(seed.wrapping_add(n), &gvk.kind);
        random.nulls = false;
        let mut original = random.object(schema, ty, 60);
        random.nulls = true;
        let mut patch = random.object(schema, ty, 40);
        if random.chance(60) {
            mix(&mut patch, &original, &mut random);
        }
        for _ in 0..random.below(4) {
            direct(schema, ty, &mut patch, &original, &mut random);
        }
        gvk.stamp(&mut original);
        cases.push(gvk.case("strategic", json!({"input": original.to_string(), "patch": patch.to_string()})));
    }
    cases
}

/// Takes some of the original over, so that there is something to meet.
fn mix(patch: &mut Value, original: &Value, random: &mut Random) {
    match (patch, original) {
        (Value::Object(patch), Value::Object(original)) => {
            for (key, value) in original {
                if random.chance(30) {
                    let into = patch.entry(key.clone()).or_insert_with(|| value.clone());
                    mix(into, value, random);
                }
            }
        }
        (Value::Array(patch), Value::Array(original)) if random.chance(30) => {
            patch.extend(original.iter().take(1).cloned());
        }
        _ => {}
    }
}

/// Puts one directive somewhere.
fn direct(schema: &Schema, ty: TypeId, patch: &mut Value, original: &Value, random: &mut Random) {
    let Some(map) = patch.as_object_mut() else { return };
    let inner: Vec<(String, TypeId, bool)> = schema[ty]
        .fields
        .iter()
        .filter_map(|field| match &field.shape {
            Shape::Message(id) => Some((field.name.to_string(), *id, false)),
            Shape::List(list) => Some((field.name.to_string(), list.element.message()?, true)),
            _ => None,
        })
        .filter(|(name, _, _)| map.get(name).is_some_and(|v| v.is_object() || v.is_array()))
        .collect();
    if !inner.is_empty() && random.chance(85) {
        let (name, id, list) = random.pick(&inner).clone();
        let below = &original[name.as_str()];
        let Some(value) = map.get_mut(&name) else { return };
        if !list {
            return direct(schema, id, value, below, random);
        }
        let Some(items) = value.as_array_mut() else { return };
        if items.is_empty() || random.chance(15) {
            let item = match random.below(5) {
                0 => json!({"$patch": "replace"}),
                1 => json!({"$patch": "delete", "name": "a", "type": "a", "containerPort": 80}),
                2 => json!({"$patch": "merge", "name": "b"}),
                3 => json!({"$patch": "odd"}),
                _ => json!({}),
            };
            items.push(item);
            return;
        }
        let at = random.below(items.len());
        return direct(schema, id, &mut items[at], below.get(0).unwrap_or(&Value::Null), random);
    }
    let lists: Vec<_> = schema[ty].fields.iter().filter(|f| matches!(f.shape, Shape::List(_))).collect();
    let scalars = |random: &mut Random| {
        let all = ["x", "y", "z", "a", "some"];
        let count = random.below(4);
        Value::Array((0..count).map(|_| json!(random.pick(&all))).collect())
    };
    match random.below(6) {
        0 => drop(map.insert("$patch".into(), json!(random.pick(&["replace", "delete", "merge", "odd"])))),
        1 => {
            let mut keys: Vec<Value> = map.keys().cloned().map(Value::from).collect();
            if random.chance(50) {
                keys.extend(
                    original.as_object().into_iter().flat_map(Map::keys).take(2).cloned().map(Value::from),
                );
            }
            map.insert("$retainKeys".into(), keys.into());
        }
        n @ (2 | 3) if !lists.is_empty() => {
            let merged: Vec<_> = lists.iter().filter(|f| f.patch.merge).copied().collect();
            let any = merged.is_empty() || random.chance(20);
            let field = *random.pick(if any { &lists } else { &merged });
            let prefix = if n == 2 { "$deleteFromPrimitiveList" } else { "$setElementOrder" };
            let order = match (&field.patch.key, n) {
                (Some(key), 3) => {
                    let mut seen = Vec::new();
                    for side in [map.get(&*field.name), original.get(&*field.name)].into_iter().flatten() {
                        for item in side.as_array().into_iter().flatten() {
                            let item = json!({&**key: item[&**key]});
                            if !seen.contains(&item) && random.chance(85) {
                                seen.push(item);
                            }
                        }
                    }
                    if random.chance(50) {
                        seen.reverse();
                    }
                    Value::Array(seen)
                }
                (None, 3) => {
                    let mut all: Vec<Value> =
                        map.get(&*field.name).and_then(Value::as_array).cloned().unwrap_or_default();
                    all.extend(scalars(random).as_array().cloned().unwrap_or_default());
                    Value::Array(all)
                }
                _ => scalars(random),
            };
            map.insert(format!("{prefix}/{}", field.name), order);
        }
        _ => {
            if let Some(key) = map.keys().next().cloned() {
                map.insert(key, Value::Null);
            }
        }
    }
}

pub fn compare(ty: TypeId, case: &Case, answer: &Case) -> Vec<Difference> {
    let read = |field| serde_json::from_str::<Value>(text(case, field)).unwrap_or_default();
    let ours = match strategic::apply(api::schema(), ty, read("input"), read("patch")) {
        Ok(value) => value.to_string(),
        Err(e) => e.to_string(),
    };
    let theirs = match answer.get("json").and_then(Value::as_str) {
        Some(text) => serde_json::from_str::<Value>(text).unwrap_or_default().to_string(),
        None => text(answer, "jsonError").to_owned(),
    };
    same("", &theirs, &ours).into_iter().collect()
}
