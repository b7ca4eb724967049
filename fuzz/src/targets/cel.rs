//! Expressions, on the first line; on a second one the object that they are evaluated against, in JSON.

use std::sync::{Arc, LazyLock};

use ::cel::{DeclType, Environment, Type, Value as CelValue};
use serde_json::Value;

use super::first_line;
use crate::is_large;

/// What a rule of a custom resource may cost in all.
const BUDGET: u64 = 100_000;

static DECLARED: LazyLock<Arc<DeclType>> = LazyLock::new(|| {
    let schema = serde_json::json!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "name": {"type": "string", "maxLength": 63}, "on": {"type": "boolean"},
        "ratio": {"type": "number"}, "at": {"type": "string", "format": "date-time"},
        "data": {"type": "string", "format": "byte"}, "port": {"x-kubernetes-int-or-string": true},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "items": {"type": "array", "maxItems": 20, "items": {"type": "object", "properties": {
            "key": {"type": "string"}, "namespace": {"type": "string"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    Arc::new(DeclType::from_schema(&schema, true).expect("a schema of an object").named("self"))
});

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    Environment::new().with_variable("self", DECLARED.clone()).with("claims", Type::Dyn).with_mutation()
});

pub fn run(bytes: &[u8]) {
    let (source, object) = first_line(bytes);
    let source = String::from_utf8_lossy(source);
    let compiled = match ::cel::compile(&source, &ENVIRONMENT) {
        Ok(compiled) => compiled,
        Err(issues) => {
            assert!(
                !issues.is_empty() && !issues.to_string().is_empty(),
                "{source:?} is refused without a word"
            );
            return;
        }
    };
    let estimate = compiled.estimate(&ENVIRONMENT);
    assert!(estimate.min <= estimate.max, "{source:?} costs from {} to {}", estimate.min, estimate.max);
    let _ = (compiled.result().to_string(), compiled.selects(Some("self"), "name"), compiled.uses("self"));
    if is_large(bytes) {
        return;
    }
    let Ok(program) = compiled.program(&ENVIRONMENT) else { return };
    let object: Value = serde_json::from_slice(object).unwrap_or_else(|_| serde_json::json!({}));
    let variables = [CelValue::declared(&object, &DECLARED).ok(), Some(CelValue::json(&object))];
    let first = program.evaluate(&variables, BUDGET);
    let again = program.evaluate(&variables, BUDGET);
    match (&first.value, &again.value) {
        (Ok(a), Ok(b)) => {
            assert_eq!(a.show(), b.show(), "{source:?} twice");
            assert_eq!(first.cost, again.cost, "{source:?} twice");
            assert!(first.cost <= BUDGET, "{source:?} costs {}", first.cost);
            let _ = a.to_json();
        }
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string(), "{source:?} twice"),
        (a, b) => panic!("{source:?} gives {a:?} and then {b:?}"),
    }
}
