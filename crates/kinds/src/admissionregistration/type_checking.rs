//! What expressions of a policy would stumble over, told from the types of the kinds that it is about. It is only
//! told: evaluation goes by what is there (upstream's `plugin/policy/validating/typechecking.go`).

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::Path;
use apimachinery::gvk::{self, GroupVersionKind};
use apimachinery::schema::{Schema, Shape, TypeId};
use cel::DeclType;
use serde_json::{Map, Value, json};

use super::expression::{Typed, Variables, environment};
use super::parts::ASKING;
use crate::check::{items, present, text};
use crate::meta::texts;

/// Kinds that one policy is checked against.
const MOST_KINDS: usize = 10;

/// An expression that does not fit a kind it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `spec.validations[0].expression`
    pub field_ref: String,
    pub warning: String,
}

/// The warnings about a ValidatingAdmissionPolicy's validations, and their messages.
pub fn warnings(policy: &Value) -> Vec<Warning> {
    let spec = &policy["spec"];
    let kinds: Vec<(GroupVersionKind, Arc<DeclType>)> =
        kinds(spec).into_iter().filter_map(|kind| Some((kind.clone(), declared(&kind)?))).collect();
    let param_kind = present(spec, "paramKind").and_then(|kind| {
        let (group, version) = gvk::split(text(kind, "apiVersion")).ok()?;
        Some(GroupVersionKind::new(group.to_owned(), version.to_owned(), text(kind, "kind").to_owned()))
    });
    let params = param_kind.as_ref().and_then(declared);
    let has_params = param_kind.is_some();
    let check = |source: &str| -> String {
        let found = kinds.iter().filter_map(|(kind, object)| {
            let typed = Typed { object: Some(object), params: params.as_ref() };
            let why = fault(source, spec, typed, has_params)?;
            Some(format!("{}/{}, Kind={}: {why}\n", kind.group, kind.version, kind.kind))
        });
        found.collect::<Vec<String>>().join("\n")
    };
    let path = Path::new("spec");
    let list = path.child("validations");
    let mut found = Vec::new();
    for (index, validation) in items(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, field);
            if field == "messageExpression" && source.is_empty() {
                continue;
            }
            let warning = check(source);
            if !warning.is_empty() {
                let field_ref = list.index(index).child(field).to_string();
                found.push(Warning { field_ref, warning });
            }
        }
    }
    found
}

/// What is wrong with an expression where objects have these types.
fn fault(source: &str, spec: &Value, typed: Typed<'_>, params: bool) -> Option<String> {
    let declared = super::expression::Declared { params, ..ASKING };
    let mut variables = Variables::default();
    for variable in items(spec, "variables") {
        let compiled =
            cel::compile(text(variable, "expression"), &environment(declared, Some(&variables), typed));
        variables.add(text(variable, "name"), compiled.ok().as_ref().map(cel::Compiled::result));
    }
    let compiled = cel::compile(source, &environment(declared, Some(&variables), typed));
    compiled.err().map(|issues| issues.to_string())
}

/// The kinds that the policy's rules name one by one, in order.
fn kinds(spec: &Value) -> Vec<GroupVersionKind> {
    let mut found = BTreeSet::new();
    for rule in items(&spec["matchConstraints"], "resourceRules") {
        let sorted = |field: &str| texts(rule, field).collect::<BTreeSet<&str>>();
        let (groups, versions) = (sorted("apiGroups"), sorted("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let plurals: BTreeSet<&str> =
            sorted("resources").into_iter().filter(|plural| !plural.contains(['*', '/'])).collect();
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for plural in &plurals {
                    let Some(resource) = api::resource(group, version, plural) else { continue };
                    let text = |name: &str| name.to_owned();
                    found.insert((text(&resource.group), text(&resource.version), text(&resource.kind)));
                    count += 1;
                    if count == MOST_KINDS {
                        return found.into_iter().map(|(g, v, k)| GroupVersionKind::new(g, v, k)).collect();
                    }
                }
            }
        }
    }
    found.into_iter().map(|(group, version, kind)| GroupVersionKind::new(group, version, kind)).collect()
}

/// The type of a built-in kind's objects.
fn declared(kind: &GroupVersionKind) -> Option<Arc<DeclType>> {
    let ty = api::object_type(&kind.group, &kind.version, &kind.kind)?;
    let schema = message(api::schema(), ty, &mut Vec::new());
    Some(Arc::new(DeclType::from_schema(&schema, true)?.named(&kind.kind)))
}

/// A type as OpenAPI has it, with all that it refers to. Where it comes back to itself it ends.
fn message(schema: &Schema, ty: TypeId, above: &mut Vec<TypeId>) -> Value {
    if above.contains(&ty) {
        return json!({});
    }
    above.push(ty);
    let properties: Map<String, Value> = schema[ty]
        .fields
        .iter()
        .map(|field| (field.name.to_string(), shape(schema, &field.shape, above)))
        .collect();
    above.pop();
    json!({"type": "object", "properties": properties})
}

fn shape(schema: &Schema, shape_of: &Shape, above: &mut Vec<TypeId>) -> Value {
    match shape_of {
        Shape::String | Shape::Duration => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 | Shape::Int64 => json!({"type": "integer"}),
        Shape::Double => json!({"type": "number"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::IntOrString => json!({"x-kubernetes-int-or-string": true}),
        Shape::FieldsV1 | Shape::RawExtension => json!({"type": "object"}),
        // One of several types, which is none that an expression could use.
        Shape::Quantity
        | Shape::Json
        | Shape::SchemaOrBool(_)
        | Shape::SchemaOrArray(_)
        | Shape::SchemaOrStrings(_) => json!({}),
        Shape::Message(id) => message(schema, *id, above),
        Shape::List(list) => json!({"type": "array", "items": shape(schema, &list.element, above)}),
        Shape::Map(map) => {
            json!({"type": "object", "additionalProperties": shape(schema, &map.value, above)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of upstream's `typechecking_test.go`.
    #[test]
    fn policies() {
        let rule = |group: &str, version: &str, plural: &str| json!({"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [plural]});
        let check = |rules: Value, mut spec: Value, expect: &[(&str, &str)]| {
            spec["matchConstraints"] = json!({"resourceRules": rules});
            let found = warnings(&json!({"spec": spec}));
            let found: Vec<(String, String)> = found
                .iter()
                .map(|it| (it.field_ref.clone(), it.warning.lines().next().unwrap_or_default().to_owned()))
                .collect();
            let expect: Vec<(String, String)> =
                expect.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(found, expect, "{spec}");
        };
        let one = |source: &str| json!({"validations": [{"expression": source}]});
        let deployments = || json!([rule("apps", "v1", "deployments")]);
        let first = "spec.validations[0].expression";
        check(deployments(), one("object.spec.replicas > 1"), &[]);
        check(
            deployments(),
            one("object.spec.replicas > '1'"),
            &[(
                first,
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, \
                 string)'",
            )],
        );
        check(
            deployments(),
            one(
                "object.spec.replicsa > 1 && object.metadata.creationTimestamp < timestamp('2020-01-01T00:00:00Z')",
            ),
            &[(first, "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicsa'")],
        );
        check(
            deployments(),
            one(
                "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && c.ports.all(p, p.hostPort == 0))",
            ),
            &[],
        );
        check(json!([rule("*", "v1", "deployments")]), one("object.foo"), &[]);
        check(json!([rule("apps", "v1", "deployments/scale")]), one("object.foo"), &[]);
        check(json!([rule("example.com", "v1", "foos")]), one("object.foo"), &[]);
        check(
            json!([rule("apps", "v1", "deployments"), rule("", "v1", "configmaps")]),
            json!({"validations": [{"expression": "has(object.data)", "messageExpression": "string(object.data)"}]}),
            &[
                (first, "apps/v1, Kind=Deployment: ERROR: <input>:1:4: undefined field 'data'"),
                (
                    "spec.validations[0].messageExpression",
                    "/v1, Kind=ConfigMap: ERROR: <input>:1:7: found no matching overload for 'string' applied to \
                     '(map(string, string))'",
                ),
            ],
        );
        check(
            deployments(),
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "n", "expression": "object.spec.replicas"}],
                "validations": [{"expression": "variables.n == params.data.x"}]}),
            &[(
                first,
                "apps/v1, Kind=Deployment: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, \
                 string)'",
            )],
        );
        // A kind that holds itself.
        check(
            json!([rule("apiextensions.k8s.io", "v1", "customresourcedefinitions")]),
            one("object.spec.versions.all(v, v.schema.openAPIV3Schema.type == 'object')"),
            &[],
        );
    }
}
