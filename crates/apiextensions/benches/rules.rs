//! What ten rules cost on every write, next to what the schema costs without them.

use apiextensions::expressions::Rules;
use apiextensions::structural::{compile, validate};
use apimachinery::field::Path;
use divan::Bencher;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

const RULES: [&str; 10] = [
    "self.replicas <= 10",
    "self.minReplicas <= self.replicas",
    "self.replicas <= self.maxReplicas",
    "has(self.mode) && self.mode in ['on', 'off']",
    "self.host.startsWith('a') || self.host.endsWith('.org')",
    "!has(self.absent) || self.absent == 'x'",
    "self.names.all(n, n.size() < 64)",
    "self.names.exists(n, n == 'ab')",
    "self.mode != 'off' || self.replicas == 0",
    "size(self.names) <= 16",
];

fn schema(rules: usize) -> Value {
    let rules: Vec<Value> = RULES.iter().take(rules).map(|rule| json!({ "rule": rule })).collect();
    json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules, "properties": {
        "replicas": {"type": "integer"}, "minReplicas": {"type": "integer"}, "maxReplicas": {"type": "integer"},
        "names": {"type": "array", "maxItems": 16, "items": {"type": "string", "maxLength": 64}},
        "mode": {"type": "string"}, "host": {"type": "string"}, "absent": {"type": "string"}}}}})
}

#[divan::bench(args = [0, 1, 10])]
fn held_to(bencher: Bencher<'_, '_>, rules: usize) {
    let schema = compile(&schema(rules)).expect("a schema");
    let rules = Rules::compile(&schema);
    let object = json!({"apiVersion": "example.com/v1", "kind": "Example", "metadata": {"name": "a"}, "spec": {
        "replicas": 3, "minReplicas": 1, "maxReplicas": 5, "names": ["ab", "ac", "ad"], "mode": "on",
        "host": "example.org"}});
    bencher.bench(|| {
        let faults = validate::validate(&object, &schema, None, &Path::NIL);
        let mut budget = Rules::BUDGET;
        let found = rules.validate(&schema, &object, None, &Path::NIL, &mut budget);
        assert!(faults.is_empty() && found.errors.is_empty());
        budget
    });
}
