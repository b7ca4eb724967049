//! Lists of type `set` and `map` hold no element twice, as upstream's `schema/listtype` checks.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Structural;
use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::schema::ListType;

/// Every list below `value` that holds something twice.
pub fn check(value: &Value, schema: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(property) = schema.properties.get(name) {
                    check(value, property, &path.child(name), errors);
                } else if let Some(others) = schema.additional.schema() {
                    check(value, others, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                Some(ListType::Set) => twice(items, |index| {
                    errors.push(Error::duplicate(&path.index(index), items[index].clone()));
                }),
                Some(ListType::Map) => keys(items, schema, path, errors),
                _ => {}
            }
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(item, schema, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// Where an element stands for the second time; further times are not told.
fn twice(items: &[Value], mut found: impl FnMut(usize)) {
    let mut seen: HashMap<&Value, u32> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item).or_default();
        *times += 1;
        if *times == 2 {
            found(index);
        }
    }
}

fn keys(items: &[Value], schema: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let why = "must be an object for an array of list-type map";
        errors.push(Error::invalid(&path.index(index), items[index].clone(), why));
        return;
    }
    let key = |item: &Value| -> Value {
        let of = schema.list_keys.iter();
        let given = of.filter_map(|name| Some((name.to_string(), item.get(&**name)?.clone())));
        Value::Object(Map::from_iter(given))
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    twice(&keys, |index| errors.push(Error::duplicate(&path.index(index), keys[index].clone())));
}
