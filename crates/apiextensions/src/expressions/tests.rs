//! Upstream's answers, in tables: what objects are told, what rules are told, and what both cost (v1.36, of the cases
//! of `schema/cel`'s own tests).

use std::fmt::Write;

use apimachinery::field::{Error, Path};
use serde_json::{Value, json};

use super::*;
use crate::structural;

fn schema(line: &Value, rules: Value) -> Structural {
    let mut schema = line["schema"].clone();
    let full = |rule: &Value| if rule.is_string() { json!({ "rule": rule }) } else { rule.clone() };
    let rules: Vec<Value> = rules.as_array().into_iter().flatten().map(full).collect();
    schema["x-kubernetes-validations"] = rules.into();
    structural::compile(&schema).expect("a schema")
}

fn sorted(errors: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut errors: Vec<String> = errors.into_iter().collect();
    errors.sort();
    errors
}

fn texts(value: &Value) -> Vec<String> {
    sorted(value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned))
}

#[test]
fn objects() {
    let (mut wrong, mut count) = (String::new(), 0);
    for line in include_str!("tables/objects.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        for case in line["cases"].as_array().into_iter().flatten() {
            count += 1;
            let rules = if case["rule"].is_string() { json!([case["rule"]]) } else { case["rules"].clone() };
            let schema = schema(&line, rules);
            let at_root = Rules::at(&schema, line["root"] == true);
            let old = line.get("old");
            let started = line["budget"].as_i64().unwrap_or(Rules::BUDGET);
            let mut budget = started;
            let path = Path::new("root");
            let errors = match line["ratchet"] == true {
                true => at_root.validate(&schema, &line["obj"], old, &path, &mut budget).errors,
                false => at_root.validate_strictly(&schema, &line["obj"], old, &path, &mut budget),
            };
            let told = sorted(errors.iter().map(Error::to_string));
            let cost = (budget >= 0).then_some(started - budget);
            let expected = texts(&case["errors"]);
            if told != expected || cost != case["cost"].as_i64() {
                let _ = writeln!(
                    wrong,
                    "{case}\n  told {told:#?}\n  {cost:?}\n  obj {}\n  schema {}",
                    line["obj"], line["schema"]
                );
            }
        }
    }
    assert!(count > 1000);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn rules() {
    let (mut wrong, mut count) = (String::new(), 0);
    for line in include_str!("tables/rules.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        for case in line["cases"].as_array().into_iter().flatten() {
            count += 1;
            let schema = schema(&line, json!([case["rule"]]));
            let Some(declared) = compile::declare(&schema, case["root"] == true) else {
                panic!("{line}");
            };
            let mut environments = compile::Environments::new(&declared);
            let compiled = compile::compile(&schema.rules[0], &schema, &mut environments, true);
            let mut told = json!({ "rule": case["rule"] });
            if case["root"] == true {
                told["root"] = true.into();
            }
            if let Some(error) = compiled.error {
                told["error"] = error.into();
            } else {
                told["cost"] = compiled.cost.into();
                told["times"] = declared.max_cardinality().into();
            }
            if let Some(error) = compiled.message_error {
                told["merror"] = error.into();
            }
            if compiled.message_cost > 0 {
                told["mcost"] = compiled.message_cost.into();
            }
            if compiled.uses_old {
                told["uses"] = true.into();
            }
            if !compiled.field_path.is_empty() {
                told["path"] = (*compiled.field_path).into();
            }
            if told != *case {
                let _ = writeln!(wrong, "{case}\n  told {told}\n  schema {}", line["schema"]);
            }
        }
    }
    assert!(count > 400);
    assert!(wrong.is_empty(), "{wrong}");
}
