use serde_json::json;

use super::*;
use crate::schema::{List, ListType, Member, Patch, Type};

fn list(element: Shape) -> Shape {
    Shape::List(Box::new(List { element, kind: ListType::Atomic, keys: Vec::new(), wrapped: false }))
}

fn map(value: Shape) -> Shape {
    Shape::Map(Box::new(crate::schema::Map { value }))
}

fn merged(name: &'static str, element: Shape, key: Option<&'static str>) -> Member {
    let patch = Patch { merge: true, key: key.map(Into::into), ..Patch::default() };
    Member::Field(Field { patch, ..Field::new(name, list(element)) })
}

fn plain(name: &'static str, shape: Shape) -> Member {
    Member::Field(Field::new(name, shape))
}

/// `T {name, value, items: merged []T by name, numbers: merged, plain: [], child: T, labels, free, whole: T}`
fn schema() -> (Schema, TypeId) {
    let mut schema = Schema::new();
    let id = schema.reserve("io.x.v1.Thing");
    let whole = Patch { replace: true, ..Patch::default() };
    let members = vec![
        plain("name", Shape::String),
        plain("value", Shape::Int32),
        merged("items", Shape::Message(id), Some("name")),
        merged("keyless", Shape::Message(id), None),
        merged("numbers", Shape::Int32, None),
        plain("plain", list(Shape::Int32)),
        plain("child", Shape::Message(id)),
        plain("labels", map(Shape::String)),
        plain("deep", map(Shape::Message(id))),
        plain("free", Shape::RawExtension),
        Member::Field(Field { patch: whole, ..Field::new("whole", Shape::Message(id)) }),
    ];
    schema.set(id, Type::new("io.x.v1.Thing", members));
    (schema, id)
}

fn check(object: Value, patch: Value, expect: Value) {
    let (schema, id) = schema();
    match apply(&schema, id, object, patch.clone()) {
        Ok(got) => assert_eq!(got, expect, "{patch}"),
        Err(error) => assert_eq!(json!(error.to_string()), expect, "{patch}"),
    }
}

#[test]
fn maps() {
    check(json!({"name": "a", "value": 1}), json!({"value": 2}), json!({"name": "a", "value": 2}));
    check(json!({"name": "a", "value": 1}), json!({"value": null}), json!({"name": "a"}));
    check(json!({}), json!({"value": null}), json!({}));
    check(
        json!({"labels": {"a": "1", "b": "2"}}),
        json!({"labels": {"a": null, "c": "3"}}),
        json!({"labels": {"b": "2", "c": "3"}}),
    );
    check(
        json!({"child": {"name": "a", "value": 1}}),
        json!({"child": {"$patch": "replace", "name": "b"}}),
        json!({"child": {"name": "b"}}),
    );
    check(json!({"child": {"name": "a"}}), json!({"child": {"$patch": "delete"}}), json!({"child": {}}));
    check(json!({}), json!({"child": {"$patch": "delete", "name": "x"}}), json!({}));
    check(json!({}), json!({"child": {"name": null, "value": 1}}), json!({"child": {"value": 1}}));
    check(json!({"child": null}), json!({"child": {"value": 1}}), json!({"child": {"value": 1}}));
    check(json!({"whole": {"name": "a"}}), json!({"whole": {"value": 1}}), json!({"whole": {"value": 1}}));
    check(json!({"plain": [1, 2]}), json!({"plain": [3]}), json!({"plain": [3]}));
    check(json!({"unknown": 1}), json!({"unknown": 2, "other": 3}), json!({"unknown": 2, "other": 3}));
}

#[test]
fn lists() {
    let items = |list: Value| json!({"items": list});
    let two = || items(json!([{"name": "a", "value": 1}, {"name": "b", "value": 2}]));
    check(
        two(),
        items(json!([{"name": "b", "value": 3}])),
        items(json!([{"name": "a", "value": 1}, {"name": "b", "value": 3}])),
    );
    // what the patch names comes first unless the object's own order says otherwise
    check(
        two(),
        items(json!([{"name": "c", "value": 3}])),
        items(json!([{"name": "c", "value": 3}, {"name": "a", "value": 1}, {"name": "b", "value": 2}])),
    );
    check(
        two(),
        items(json!([{"name": "a", "$patch": "delete"}])),
        items(json!([{"name": "b", "value": 2}])),
    );
    check(two(), items(json!([{"$patch": "replace"}, {"name": "c"}])), items(json!([{"name": "c"}])));
    check(two(), items(json!([{"$patch": "replace"}])), items(json!([])));
    check(two(), json!({"items": null}), json!({}));
    check(two(), items(json!([])), two());
    check(
        json!({}),
        items(json!([{"name": "a", "$patch": "delete"}, {"name": "b"}])),
        items(json!([{"name": "b"}])),
    );
    check(
        two(),
        json!({"$setElementOrder/items": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "items": [{"name": "c", "value": 9}]}),
        items(json!([{"name": "c", "value": 9}, {"name": "b", "value": 2}, {"name": "a", "value": 1}])),
    );
    // a new element takes the place of a deleted one in the order that counts as the object's
    check(
        items(json!([{"name": "a"}, {"name": "b"}, {"name": "d"}])),
        json!({"$setElementOrder/items": [{"name": "b"}, {"name": "c"}],
            "items": [{"name": "c"}, {"name": "a", "$patch": "delete"}]}),
        items(json!([{"name": "b"}, {"name": "d"}, {"name": "c"}])),
    );
    check(
        items(json!([{"name": "a"}, {"name": "server"}, {"name": "b"}])),
        json!({"$setElementOrder/items": [{"name": "b"}, {"name": "a"}]}),
        items(json!([{"name": "server"}, {"name": "b"}, {"name": "a"}])),
    );
    check(
        items(json!([{"name": "a", "items": [{"name": "x", "value": 1}]}])),
        items(json!([{"name": "a", "items": [{"name": "x", "value": 2}]}])),
        items(json!([{"name": "a", "items": [{"name": "x", "value": 2}]}])),
    );
}

#[test]
fn scalars() {
    let numbers = |list: Value| json!({"numbers": list});
    check(numbers(json!([1, 2, 3])), numbers(json!([4, 2])), numbers(json!([4, 1, 2, 3])));
    check(
        numbers(json!([1, 2, 3])),
        json!({"$deleteFromPrimitiveList/numbers": [1, 3]}),
        numbers(json!([2])),
    );
    check(json!({}), json!({"$deleteFromPrimitiveList/numbers": [1]}), json!({}));
    check(
        numbers(json!([1, 2, 3])),
        json!({"$setElementOrder/numbers": [4, 3, 1], "$deleteFromPrimitiveList/numbers": [2], "numbers": [4]}),
        numbers(json!([4, 3, 1])),
    );
}

#[test]
fn retained() {
    let object = json!({"child": {"name": "a", "value": 1}});
    check(
        object.clone(),
        json!({"child": {"$retainKeys": ["value"], "value": 2}}),
        json!({"child": {"value": 2}}),
    );
    check(object.clone(), json!({"child": {"$retainKeys": ["name"]}}), json!({"child": {"name": "a"}}));
    check(
        object.clone(),
        json!({"child": {"$retainKeys": ["name"], "value": 2}}),
        json!("invalid patch format of retainKeys"),
    );
    check(object, json!({"child": {"$retainKeys": "name"}}), json!("invalid patch format of retainKeys"));
}

#[test]
fn faults() {
    let one = json!({"items": [{"name": "a"}], "numbers": [1], "keyless": [{"name": "a"}], "deep": {"a": {"name": "x"}}, "free": {"a": {}}});
    let check = |patch: Value, expect: &str| check(one.clone(), patch, json!(expect));
    check(json!([]), "invalid JSON document");
    check(json!({"items": [{"value": 1}]}), "map: map[value:1] does not contain declared merge key: name");
    check(
        json!({"items": [{"name": "a", "$patch": "merge"}]}),
        "merging lists cannot yet be specified in the patch",
    );
    check(
        json!({"items": [{"name": "a", "$patch": "x"}]}),
        "unknown patch type: x in map: map[$patch:x name:a]",
    );
    check(json!({"$patch": "x"}), "unknown patch type: x in map: map[$patch:x]");
    check(
        json!({"$patch": null, "a": null}),
        "unknown patch type: %!s(<nil>) in map: map[$patch:<nil> a:<nil>]",
    );
    check(json!({"$patch": 1}), "unknown patch type: %!s(int64=1) in map: map[$patch:1]");
    check(json!({"items": [1]}), "list element types are not identical: [[map[name:a]] [1]]");
    check(json!({"numbers": [[1]]}), "list element types are not identical: [[1] [[1]]]");
    check(json!({"keyless": [{"name": "b"}]}), "cannot merge lists without merge key for struct");
    check(
        json!({"deep": {"a": {"value": 1}}}),
        "merging an object in json but data type is not struct, instead is: map",
    );
    check(
        json!({"free": {"a": {"b": 1}}}),
        "unable to find api field in struct RawExtension for the json field \"a\"",
    );
    check(json!({"$setElementOrder/items": 1}), "expected a []interface {}, but received a int64");
    check(
        json!({"$setElementOrder/items": [{"name": "b"}], "items": [{"name": "a"}]}),
        "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
    );
    check(json!({"$setElementOrder": []}), "invalid patch format of setElementOrder list");
    check(json!({"$deleteFromPrimitiveList": []}), "invalid patch format of primitive list");
}
