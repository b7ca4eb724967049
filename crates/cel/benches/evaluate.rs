//! How long an evaluation takes: what a rule costs on every write.

use std::sync::Arc;

use cel::{DeclType, Environment, Program, Value};
use serde_json::json;

fn main() {
    divan::main();
}

const RULES: &[&str] = &[
    "self.replicas <= 10",
    "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
    "self.names.all(n, n.startsWith('a') && n.size() < 64)",
    "has(self.mode) && self.mode in ['on', 'off'] && self.host.matches('^[a-z.]+$')",
];

#[divan::bench(args = RULES)]
fn rule(bencher: divan::Bencher<'_, '_>, source: &str) {
    let schema = json!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "minReplicas": {"type": "integer"}, "maxReplicas": {"type": "integer"},
        "names": {"type": "array", "items": {"type": "string"}},
        "mode": {"type": "string"}, "host": {"type": "string"}}});
    let declared = Arc::new(DeclType::from_schema(&schema, false).expect("a type").named("self"));
    let environment = Environment::new().with_variable("self", declared.clone());
    let program: Program =
        cel::compile(source, &environment).expect("an expression").program(&environment).expect("a program");
    let object = json!({"replicas": 3, "minReplicas": 1, "maxReplicas": 5, "names": ["ab", "ac", "ad"], "mode": "on",
        "host": "example.org"});
    bencher.bench(|| {
        let variables = [Some(Value::declared(&object, &declared).expect("a value"))];
        program.evaluate(&variables, cel::cost::PER_CALL_LIMIT).value.expect("a result").as_bool()
    });
}

#[divan::bench(args = RULES)]
fn compile(bencher: divan::Bencher<'_, '_>, source: &str) {
    bencher.bench(|| cel::compile(source, &Environment::new().with("self", cel::Type::Dyn)).is_ok());
}
