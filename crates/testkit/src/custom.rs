//! Custom resources and policies: a thousand definitions, objects with rules, creates that policies look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::connection::{Ask, Connection, Target};
use crate::requests::{Load, config_map, measured};
use crate::usage::{micros, processor, quantile};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Each definition has a schema of about so many bytes.
const BYTES: usize = 20 << 10;
/// How often the index of OpenAPI is read.
const READS: u32 = 50;

/// Makes `count` definitions of 20 KiB, one after the other, and an object of each as soon as it can be made.
pub async fn definitions(target: &Target, pid: u32, count: usize) -> Result<Value> {
    let mut connection = target.connect().await?;
    let before = anonymous(pid)?;
    let mut usable = Vec::with_capacity(count);
    for n in 0..count {
        let group = format!("g{}.example.com", n / 10);
        let definition = definition(&group, &format!("kind{n}"), wide());
        let begin = Instant::now();
        connection.json(Method::POST, DEFINITIONS, Bytes::from(definition.to_string())).await?;
        let path = format!("/apis/{group}/v1/namespaces/default/kind{n}s");
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": format!("Kind{n}"),
            "metadata": {"name": "a"}, "spec": {"field0": "x"}});
        create_when_served(&mut connection, &path, &object).await.with_context(|| format!("kind{n}"))?;
        usable.push(micros(begin.elapsed()));
    }
    usable.sort_unstable();
    let after = anonymous(pid)?;
    let (used, begin) = (processor(pid)?, Instant::now());
    for _ in 0..READS {
        connection.exchange(Ask::get("/openapi/v3")).await?;
    }
    let (used, taken) = (processor(pid)?.saturating_sub(used), begin.elapsed());
    Ok(json!({
        "bytesEach": definition("g.example.com", "kind", wide()).to_string().len(),
        "kibEach": (after - before) / 1024.0 / count.max(1) as f64,
        "usableP50Millis": f64::from(quantile(&usable, 0.5)) / 1e3,
        "usableP99Millis": f64::from(quantile(&usable, 0.99)) / 1e3,
        "indexMillis": taken.as_secs_f64() * 1e3 / f64::from(READS),
        "indexServerMillis": used.as_secs_f64() * 1e3 / f64::from(READS),
    }))
}

/// Creates of custom objects without rules, and with ten.
pub async fn rules(target: &Target, load: Load) -> Result<Value> {
    let mut connection = target.connect().await?;
    let mut results = serde_json::Map::new();
    for (name, rules) in [("plain", 0), ("ruled", 10)] {
        let fields: serde_json::Map<String, Value> = (0..10)
            .map(|n| (format!("n{n}"), json!({"type": "integer", "minimum": 0})))
            .chain([("name".to_owned(), json!({"type": "string", "maxLength": 64}))])
            .collect();
        let rule = |n: usize| json!({"rule": format!("self.n{n} <= 100 && self.name.startsWith('a')"), "message": "too large"});
        let mut spec = json!({"type": "object", "properties": fields});
        if rules > 0 {
            spec["x-kubernetes-validations"] = (0..rules).map(rule).collect();
        }
        let definition =
            definition("rules.example.com", name, json!({"type": "object", "properties": {"spec": spec}}));
        connection.json(Method::POST, DEFINITIONS, Bytes::from(definition.to_string())).await?;
        let path = format!("/apis/rules.example.com/v1/namespaces/default/{name}s");
        let object = {
            let kind = kind_of(name);
            move |object: &str| {
                let mut spec: serde_json::Map<String, Value> =
                    (0..10).map(|n| (format!("n{n}"), n.into())).collect();
                spec.insert("name".into(), "a name".into());
                json!({"apiVersion": "rules.example.com/v1", "kind": kind, "metadata": {"name": object}, "spec": spec})
            }
        };
        create_when_served(&mut connection, &path, &object("first")).await?;
        let operation = move |n| Ask::new(Method::POST, &*path, object(&format!("o-{n}")).to_string());
        results.insert(name.to_owned(), measured(target, Arc::new(operation), load).await?);
    }
    Ok(results.into())
}

/// Creates of ConfigMaps that nobody looks at, and that a policy with three expressions looks at.
pub async fn policy(target: &Target, load: Load) -> Result<Value> {
    const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
    let mut connection = target.connect().await?;
    connection.namespace("policy").await?;
    let creates = |tag: &'static str| {
        let operation = move |n| {
            let body = config_map(&format!("{tag}-{n}"));
            Ask::new(Method::POST, "/api/v1/namespaces/policy/configmaps", body)
        };
        measured(target, Arc::new(operation), load)
    };
    let without = creates("without").await?;
    let validations = json!([
        {"expression": "size(object.metadata.name) < 64"},
        {"expression": "!has(object.metadata.labels) || object.metadata.labels.all(k, k != 'forbidden')"},
        {"expression": "object.data.all(k, size(object.data[k]) < 1024)"},
    ]);
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "bench"}, "spec": {"failurePolicy": "Fail", "validations": validations,
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["configmaps"]}]}}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "bench"}, "spec": {"policyName": "bench", "validationActions": ["Deny"]}});
    for (plural, object) in
        [("validatingadmissionpolicies", &policy), ("validatingadmissionpolicybindings", &binding)]
    {
        connection.json(Method::POST, &format!("{GROUP}/{plural}"), Bytes::from(object.to_string())).await?;
    }
    let with = creates("with").await?;
    for plural in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        connection.json(Method::DELETE, &format!("{GROUP}/{plural}/bench"), Bytes::new()).await?;
    }
    Ok(json!({"without": without, "with": with}))
}

async fn create_when_served(connection: &mut Connection, path: &str, object: &Value) -> Result<()> {
    for _ in 0..2000 {
        let body = Bytes::from(object.to_string());
        if connection.json(Method::POST, path, body).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("{path} is not served")
}

/// Anonymous memory of a process, in bytes.
fn anonymous(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?.parse()?;
    Ok(kib * 1024.0)
}

fn kind_of(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn definition(group: &str, name: &str, schema: Value) -> Value {
    let kind = kind_of(name);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{name}s.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": format!("{name}s"), "singular": name, "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]},
    })
}

/// A schema as generators write them: many described fields, some of them objects and lists.
fn wide() -> Value {
    let field = |n: usize| {
        let words =
            format!("Field number {n} of the thing that this kind describes, and what it is good for.");
        match n % 4 {
            0 => json!({"type": "string", "description": words, "maxLength": 253}),
            1 => json!({"type": "integer", "description": words, "minimum": 0, "format": "int32"}),
            2 => {
                json!({"type": "array", "description": words, "items": {"type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}})
            }
            _ => json!({"type": "object", "description": words, "additionalProperties": {"type": "string"}}),
        }
    };
    let mut fields = serde_json::Map::new();
    let mut length = 0;
    while length < BYTES {
        let n = fields.len();
        let one = field(n);
        length += one.to_string().len() + 12;
        fields.insert(format!("field{n}"), one);
    }
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}
