//! Defaults.

use apimachinery::codec::{json, normal};
use apimachinery::schema::TypeId;
use serde_json::json as value;

use crate::random::Random;
use crate::{Case, Difference, Gvk, same, text};

pub fn write(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Case> {
    let schema = api::schema();
    let mut objects = vec![value!({}), value!({"spec": {}})];
    for n in 0..count {
        let mut random = Random::new(seed.wrapping_add(n), &gvk.kind);
        random.nulls = false;
        let size = *random.pick(&[5, 20, 60, 120]);
        objects.push(random.object(schema, ty, size));
    }
    let case = |mut object: serde_json::Value| {
        gvk.stamp(&mut object);
        gvk.case("defaults", value!({"input": object.to_string()}))
    };
    objects.into_iter().map(case).collect()
}

pub fn compare(ty: TypeId, case: &Case, answer: &Case) -> Vec<Difference> {
    let schema = api::schema();
    let Ok(read) = json::decode(schema, ty, text(case, "input").as_bytes()) else { return Vec::new() };
    let mut ours = read.value;
    kinds::defaults::apply(ty, &mut ours);
    let mut normal = ours.clone();
    if let Err(e) = normal::normalize(schema, ty, &mut normal) {
        return same("normal form", "", &e.to_string()).into_iter().collect();
    }
    let written = |v: &serde_json::Value| String::from_utf8(json::to_vec(schema, ty, v)).unwrap_or_default();
    let theirs = serde_json::from_str(text(answer, "json")).unwrap_or_default();
    let theirs = match normal::conform(schema, ty, theirs) {
        Ok(theirs) => written(&theirs.value),
        Err(e) => e.to_string(),
    };
    same("not in normal form", &written(&normal), &written(&ours))
        .into_iter()
        .chain(same(&crate::at(case), &theirs, &written(&normal)))
        .collect()
}
