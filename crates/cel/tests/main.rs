//! The reference's answers, in tables: what an expression evaluates to, the faults it has, what it is estimated to cost
//! and what it costs. Each line of `tables/*.jsonl` is an expression with what upstream's v1.36 says of it: `compile`
//! (the faults) or `type`, `min` and `max` (the estimate), then `program` (why it cannot be planned), or `result` or
//! `error`, and `cost`. With `schema`, the variables `self` and `oldSelf` have it and their values; a `case` has all three
//! in `tables/cases.json`; `vars` are dynamic.

use std::fmt::Write;
use std::sync::Arc;

use cel::{DeclType, Environment, List, Map, Type, Value};
use serde_json::Value as Json;

mod behaviour;

/// A value as the tables write it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Uint(it) => format!("{it}u"),
        Value::Double(_) => format!("double({})", value.show()),
        Value::String(text) => Json::String(text.to_string()).to_string(),
        Value::Bytes(bytes) => bytes.iter().fold(String::from("b"), |mut out, it| {
            let _ = write!(out, "{it:02x}");
            out
        }),
        Value::Duration(_) => format!("duration({})", value.show()),
        Value::Timestamp(time) => {
            let utc = cel::Time { offset: 0, ..*time };
            format!("timestamp({utc})")
        }
        Value::Type(name) => format!("type({name})"),
        Value::Optional(Some(inner)) => format!("optional({})", show(inner)),
        Value::Optional(None) => "optional.none".to_owned(),
        Value::List(list) => show_list(list),
        Value::Map(map) => show_map(map),
        Value::Format(it) => format!("format({})", it.name),
        Value::Quantity(_) | Value::Url(_) | Value::Ip(_) | Value::Cidr(_) | Value::Semver(_) => {
            format!("{}({})", value.type_name(), value.show())
        }
        other => other.type_name().to_owned(),
    }
}

fn show_list(list: &List<'_>) -> String {
    let items: Vec<String> =
        list.iter().map(|it| it.map_or_else(|error| format!("error {error}"), |it| show(&it))).collect();
    format!("[{}]", items.join(", "))
}

fn show_map(map: &Map<'_>) -> String {
    let mut entries: Vec<String> = Vec::new();
    for key in map.keys() {
        let value = map.find(&key).ok().flatten().map_or_else(|| "?".to_owned(), |it| show(&it));
        entries.push(format!("{}: {value}", show(&key)));
    }
    entries.sort();
    format!("{{{}}}", entries.join(", "))
}

/// What is said of the expression in a line, in the order in which the reference says it.
fn answer(line: &Json) -> Vec<(&'static str, Json)> {
    let mut environment = Environment::new();
    let mut declared = None;
    if line["jsonpatch"] == true {
        environment = environment.with_mutation();
    }
    if line["schema"].is_object() {
        let root = line["root"] == true;
        match DeclType::from_schema(&line["schema"], root) {
            None => return vec![("compile", "no decl type".into())],
            Some(it) => declared = Some(Arc::new(it.named("selfType"))),
        }
    }
    let empty = serde_json::Map::new();
    let vars = line["vars"].as_object().unwrap_or(&empty);
    let mut values: Vec<Option<Value<'_>>> = Vec::new();
    if let Some(declared) = &declared {
        for name in ["self", "oldSelf"] {
            environment = environment.with_variable(name, declared.clone());
            values.push(match line.get(name) {
                None => None,
                Some(json) => match Value::declared(json, declared) {
                    Ok(value) => Some(value),
                    Err(error) => return vec![("error", error.to_string().into())],
                },
            });
        }
    }
    for (name, value) in vars {
        environment = environment.with(name, Type::Dyn);
        values.push(Some(Value::json(value)));
    }
    let source = line["expr"].as_str().unwrap_or_default();
    let compiled = match cel::compile(source, &environment) {
        Ok(compiled) => compiled,
        Err(issues) => return vec![("compile", issues.to_string().into())],
    };
    let estimate = compiled.estimate(&environment);
    let mut said = vec![
        ("type", compiled.result().to_string().into()),
        ("min", estimate.min.into()),
        ("max", estimate.max.into()),
    ];
    let program = match compiled.program(&environment) {
        Ok(program) => program,
        Err(reason) => {
            said.push(("program", reason.into()));
            return said;
        }
    };
    let limit = line["limit"].as_u64().unwrap_or(cel::cost::PER_CALL_LIMIT);
    let outcome = program.evaluate(&values, limit);
    match outcome.value {
        Ok(value) => {
            said.push(("result", show(&value).into()));
            said.push(("cost", outcome.cost.into()));
        }
        Err(error) => said.push(("error", error.to_string().into())),
    }
    said
}

fn check(name: &str, table: &str) {
    let cases: Json = serde_json::from_str(include_str!("tables/cases.json")).unwrap();
    let mut wrong = String::new();
    let mut count = 0;
    for (number, text) in table.lines().enumerate() {
        let mut line: Json = serde_json::from_str(text).unwrap();
        count += 1;
        if let Some(case) = line["case"].as_str().and_then(|it| cases[it].as_object()) {
            for (key, value) in case {
                line[key] = value.clone();
            }
        }
        for (key, said) in answer(&line) {
            if line.get(key) != Some(&said) {
                let expected = line.get(key).cloned().unwrap_or(Json::Null);
                let _ = writeln!(
                    wrong,
                    "{name}:{} {}\n  {key}: {said}\n  expected: {expected}{}",
                    number + 1,
                    line["expr"],
                    line.get("compile")
                        .or(line.get("error"))
                        .map(|it| format!("\n  reference: {it}"))
                        .unwrap_or_default()
                );
                break;
            }
        }
    }
    assert!(count > 0);
    if let Ok(path) = std::env::var("CEL_DIFFERENCES") {
        std::fs::write(format!("{path}/{name}.txt"), &wrong).unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn language() {
    check("language", include_str!("tables/language.jsonl"));
}

#[test]
fn faults() {
    check("faults", include_str!("tables/faults.jsonl"));
}

#[test]
fn libraries() {
    check("libraries", include_str!("tables/libraries.jsonl"));
}

#[test]
fn data() {
    check("data", include_str!("tables/data.jsonl"));
}
