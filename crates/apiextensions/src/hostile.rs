//! Schemas and objects that are made to hurt: what is done with them ends, and what is said of them is bounded. None of
//! this asserts a time; a test that hangs is one that fails.

use apimachinery::codec::MAX_DEPTH;
use apimachinery::field::{ErrorList, Path};
use apimachinery::schema::{Schema, Type};
use serde_json::{Value, json};

use crate::definition::{self, Strictness};
use crate::expressions::Rules;
use crate::structural::{self, MOST_FAULTS, compile, defaults, lists, prune, validate};

/// Bytes of the longest text about a fault: two paths, and a value of ours.
const LONGEST: usize = 64 << 10;

fn check(schema: &Value) -> ErrorList {
    let mut meta = Schema::new();
    let id = meta.add(Type::new("Meta", Vec::new()));
    let mut errors = ErrorList::new();
    let accept = |_: &Value, _: &Path<'_>, _: &mut ErrorList| {};
    definition::check(
        schema,
        false,
        Strictness::FULL,
        (&meta, id),
        &accept,
        &Path::new("schema"),
        &mut errors,
    );
    Strictness::after([schema], (&meta, id));
    bounded(&errors);
    errors
}

fn bounded(errors: &ErrorList) {
    assert!(errors.len() <= MOST_FAULTS + 50, "{}", errors.len());
    for error in errors {
        let length = error.field.len() + error.detail.len();
        assert!(length < LONGEST, "{} {length} {:.300}", error.field.len(), error.detail);
    }
}

/// Everything that is done with an object, as an update of itself.
fn hold(schema: &Value, object: &Value) -> (ErrorList, ErrorList) {
    let schema = compile(schema).expect("a schema").as_root();
    let mut copy = object.clone();
    prune::prune(&mut copy, &schema);
    // Too much of them is refused, and no more is kept of it than the limit.
    let _ = defaults::default(&mut copy, &schema);
    let mut faults = validate::validate(object, &schema, None, &Path::NIL);
    validate::validate(object, &schema, Some(object), &Path::NIL);
    lists::check(object, &schema, &Path::NIL, &mut faults);
    let mut budget = Rules::BUDGET;
    let found = Rules::compile(&schema).validate(&schema, object, Some(object), &Path::NIL, &mut budget);
    let mut budget = Rules::BUDGET;
    let new = Rules::compile(&schema).validate(&schema, object, None, &Path::NIL, &mut budget);
    bounded(&found.errors);
    bounded(&new.errors);
    assert!(found.warnings.len() <= MOST_FAULTS);
    (faults, new.errors)
}

#[test]
fn depth() {
    let rules = json!([{"rule": "has(self.a)"}]);
    let mut schema = json!({"type": "string"});
    let mut object = json!("x");
    // Each level of the schema is two of its JSON.
    for _ in 0..MAX_DEPTH / 2 - 1 {
        schema = json!({"type": "object", "properties": {"a": schema}, "x-kubernetes-validations": rules,
            "default": {}});
        object = json!({ "a": object });
    }
    schema.as_object_mut().expect("an object").remove("default");
    assert!(!check(&schema).is_empty());
    let (faults, broken) = hold(&schema, &object);
    assert_eq!((faults, broken), (ErrorList::new(), ErrorList::new()));
    let mut lists = json!({"type": "string"});
    for _ in 0..MAX_DEPTH - 4 {
        lists = json!({"type": "array", "items": lists});
    }
    let schema = json!({"type": "object", "properties": {"l": lists},
        "x-kubernetes-validations": [{"rule": "self.l == self.l"}]});
    check(&schema);
    let mut nested = json!({"not": {}});
    for _ in 0..MAX_DEPTH / 2 - 4 {
        nested = json!({"allOf": [nested]});
    }
    let schema = json!({"type": "object", "properties": {"l": {"type": "string", "allOf": [nested]}}});
    assert_eq!(check(&schema), ErrorList::new());
    hold(&schema, &json!({"l": "x"}));
}

#[test]
fn long_names() {
    let name = "n".repeat(1 << 20);
    let many: serde_json::Map<String, Value> = (0..3000)
        .map(|index| {
            (format!("p{index}"), json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x"}]}))
        })
        .collect();
    let at = |below: Value| {
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "true"}],
            "properties": {(&name): {"type": "object", "properties": below}}})
    };
    assert!(check(&at(many.into())).len() >= MOST_FAULTS);
    // No types at all.
    let many: serde_json::Map<String, Value> =
        (0..3000).map(|index| (format!("p{index}"), json!({}))).collect();
    assert!(check(&at(many.into())).len() >= MOST_FAULTS);
}

#[test]
fn a_path_for_every_rule() {
    let properties: serde_json::Map<String, Value> =
        (0..2000).map(|index| (format!("p{index}"), json!({"type": "string"}))).collect();
    let rules: Vec<Value> = (0..500).map(|_| json!({"rule": "true", "fieldPath": ".p1"})).collect();
    let schema = json!({"type": "object", "properties": properties, "x-kubernetes-validations": rules});
    assert_eq!(check(&schema), ErrorList::new());
}

#[test]
fn patterns() {
    let properties: serde_json::Map<String, Value> = (0..3000)
        .map(|index| {
            (
                format!("p{index}"),
                json!({"type": "string", "pattern": format!("((\\pL{{100}}){{9}}x{index})+")}),
            )
        })
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    assert_eq!(check(&schema), ErrorList::new());
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$",
        "x-kubernetes-validations": [{"rule": "!self.matches('^(a|a)*$') || self.size() < 3"}]}}});
    check(&schema);
    let (faults, broken) = hold(&schema, &json!({"a": "a".repeat(200_000)}));
    assert_eq!((faults.len(), broken.len()), (1, 1));
}

#[test]
fn many_items() {
    const MANY: i64 = 20_000;
    let keyed = |rule: &str| {
        json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "x-kubernetes-validations": [{"rule": rule}],
                "properties": {"k": {"type": "integer", "maximum": 10}}}}}})
    };
    let items: Vec<Value> = (0..MANY).map(|k| json!({ "k": k })).collect();
    let object = json!({ "l": items });
    // Costs nothing, and fails each time.
    let (faults, broken) = hold(&keyed("false"), &object);
    assert_eq!((faults.len(), broken.len()), (MOST_FAULTS, MOST_FAULTS));
    // What it was is found by key, however many keys there are; beyond the budget no rule is asked.
    let (_, broken) =
        hold(&keyed("self.k + self.k + self.k + self.k - self.k * self.k * 3 < oldSelf.k + 1000"), &object);
    assert_eq!(broken, ErrorList::new());
    let dear = "[self.k, 2, 3, 4, 5, 6, 7, 8, 9].map(x, [x, 2, 3, 4, 5, 6, 7, 8].map(y, [y + x])).size() > 0";
    let (_, broken) = hold(&keyed(dear), &object);
    assert_eq!(broken.len(), 1);
    assert!(broken[0].detail.contains("running out of cost budget"), "{broken:?}");
    // The same over and over.
    let twins: Vec<Value> = (0..MANY).map(|_| json!({"k": 1})).collect();
    let (faults, _) = hold(&keyed("true"), &json!({ "l": twins }));
    assert_eq!(faults.len(), 1);
}

#[test]
fn one_rule_for_everything() {
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "integer"}}},
        "x-kubernetes-validations": [{"rule": "self.l.all(a, self.l.all(b, a + b >= 0))"}]});
    let errors = check(&schema);
    assert!(errors[0].detail.contains("exceeds budget by factor of more than 100x"), "{errors:?}");
    let items: Vec<Value> = (0..100_000).map(Value::from).collect();
    let (_, broken) = hold(&schema, &json!({ "l": items }));
    assert!(broken[0].detail.contains("call cost exceeds limit"), "{broken:?}");
}

#[test]
fn references() {
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}});
    let told: Vec<String> = check(&schema).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["schema.properties[a].$ref: Forbidden: $ref is not supported"]);
    assert!(structural::compile(&schema).is_err());
}

/// A few megabytes that would be gigabytes with their defaults.
#[test]
fn defaults_that_multiply() {
    let long = "x".repeat(10_000);
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object",
        "properties": {"a": {"type": "string", "default": long}}}}}});
    let schema = compile(&schema).expect("a schema").as_root();
    let many = |count: usize| json!({"l": (0..count).map(|_| json!({})).collect::<Vec<_>>()});
    assert_eq!(defaults::default(&mut many(1_000_000), &schema), Err(defaults::TooLarge));
    assert_eq!(defaults::default(&mut many(1_000), &schema), Ok(()));
}
