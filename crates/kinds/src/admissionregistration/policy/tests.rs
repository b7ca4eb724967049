use serde_json::{Value, json};

use crate::table::Table;

const GROUP: &str = "admissionregistration.k8s.io";

fn constraints() -> Value {
    json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["pods"]}]})
}

fn spec(patch: Value) -> Value {
    json!({ "spec": patch })
}

#[test]
fn validating_policies() {
    let table = Table::new(
        GROUP,
        "v1",
        "ValidatingAdmissionPolicy",
        json!({"metadata": {"name": "config"}, "spec": {"matchConstraints": constraints(),
            "validations": [{"expression": "object.x < 100"}]}}),
    );
    let validation = |patch: Value| {
        let mut whole = json!({"expression": "true"});
        whole.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        spec(json!({"validations": [whole]}))
    };
    let annotations = |list: Value| spec(json!({"auditAnnotations": list}));
    let kind = |version: &str, kind: &str| spec(json!({"paramKind": {"apiVersion": version, "kind": kind}}));
    table.create(&[
        (spec(json!({"failurePolicy": "other"})), &["spec.failurePolicy: NotSupported"]),
        (spec(json!({"matchConstraints": null})), &["spec.matchConstraints: Required"]),
        (spec(json!({"matchConstraints": {"resourceRules": null}})), &["spec.matchConstraints.resourceRules: Required"]),
        (spec(json!({"matchConstraints": {"matchPolicy": "other"}})), &["spec.matchConstraints.matchPolicy: NotSupported"]),
        (
            spec(json!({"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["a"], "apiVersions": ["v1"],
                "resources": ["pods"], "resourceNames": ["a", "a", "b/c"]}]}})),
            &["spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate", "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid"],
        ),
        (spec(json!({"matchConstraints": {"excludeResourceRules": [{}]}})), &[
            "spec.matchConstraints.excludeResourceRules[0].operations: Required",
            "spec.matchConstraints.excludeResourceRules[0].apiGroups: Required",
            "spec.matchConstraints.excludeResourceRules[0].apiVersions: Required",
            "spec.matchConstraints.excludeResourceRules[0].resources: Required",
        ]),
        (spec(json!({"validations": null})), &["spec.validations: Required", "spec.auditAnnotations: Required"]),
        (validation(json!({"expression": " "})), &["spec.validations[0].expression: Required"]),
        (validation(json!({"message": " "})), &["spec.validations[0].message: Invalid"]),
        (validation(json!({"message": "a\nb"})), &["spec.validations[0].message: Invalid"]),
        (validation(json!({"messageExpression": " "})), &["spec.validations[0].messageExpression: Invalid"]),
        (validation(json!({"reason": "other"})), &["spec.validations[0].reason: NotSupported"]),
        (validation(json!({"reason": "Forbidden"})), &[]),
        (kind("rules.example.com/v1", "ReplicaLimit"), &[]),
        (kind("v1", "ConfigMap"), &[]),
        (kind("", ""), &["spec.paramKind.apiVersion: Required", "spec.paramKind.kind: Required"]),
        (kind("a/b/c", "a"), &["spec.paramKind.apiVersion: Invalid"]),
        (kind("A_/v1", "a"), &["spec.paramKind.apiVersion: Invalid"]),
        (kind("a/", "a"), &["spec.paramKind.apiVersion: Invalid"]),
        (kind("a/1", "a_"), &["spec.paramKind.apiVersion: Invalid", "spec.paramKind.kind: Invalid"]),
        (annotations(json!([{"key": "k", "valueExpression": "'v'"}])), &[]),
        (annotations(json!([{"key": "k", "valueExpression": ""}])), &["spec.auditAnnotations[0].valueExpression: Required"]),
        (annotations(json!([{"key": "a b", "valueExpression": "'v'"}])), &["spec.auditAnnotations[0].key: Invalid"]),
        (
            annotations(json!([{"key": "k", "valueExpression": "'v'"}, {"key": "k", "valueExpression": "x".repeat(5 * 1024 + 1)}])),
            &["spec.auditAnnotations[1].valueExpression: Required", "spec.auditAnnotations[1].key: Duplicate"],
        ),
        (spec(json!({"variables": [{"name": "foo", "expression": "1"}]})), &[]),
        (
            spec(json!({"variables": [{"name": "", "expression": ""}, {"name": "in", "expression": "1"}, {"name": "a-b", "expression": "1"}]})),
            &["spec.variables[0].name: Required", "spec.variables[0].expression: Required", "spec.variables[1].name: Invalid", "spec.variables[2].name: Invalid"],
        ),
        (spec(json!({"matchConditions": [{"name": "a b", "expression": "true"}]})), &["spec.matchConditions[0].name: Invalid"]),
    ]);
    let bad = spec(json!({"matchConditions": [{"name": "a b", "expression": "true"}]}));
    table.change(&bad, &bad, "", &[]);
    let mut more = bad.clone();
    more["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    table.change(&bad, &more, "", &["spec.matchConditions[0].name: Invalid"]);
    table.change(
        &json!({}),
        &json!({"status": {"typeChecking": {"expressionWarnings": [{"warning": "", "fieldRef": " "}]}, "conditions": [{}]}}),
        "status",
        &[
            "status.typeChecking.expressionWarnings[0].warning: Required",
            "status.typeChecking.expressionWarnings[0].fieldRef: Required",
            "status.conditions[0].type: Invalid",
            "status.conditions[0].type: Invalid",
            "status.conditions[0].status: NotSupported",
            "status.conditions[0].lastTransitionTime: Required",
            "status.conditions[0].reason: Required",
        ],
    );
}

#[test]
fn mutating_policies() {
    let table = Table::new(
        GROUP,
        "v1",
        "MutatingAdmissionPolicy",
        json!({"metadata": {"name": "config"}, "spec": {"matchConstraints": constraints(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}}),
    );
    let mutation = |mutation: Value| spec(json!({"mutations": [mutation]}));
    table.create(&[
        (spec(json!({"mutations": null})), &["spec.mutations: Required"]),
        (spec(json!({"reinvocationPolicy": ""})), &["spec.reinvocationPolicy: Required"]),
        (spec(json!({"reinvocationPolicy": "other"})), &["spec.reinvocationPolicy: NotSupported"]),
        (mutation(json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}})), &[]),
        (mutation(json!({"patchType": ""})), &["spec.mutations[0].patchType: Required"]),
        (mutation(json!({"patchType": "x"})), &["spec.mutations[0].patchType: NotSupported"]),
        (mutation(json!({"patchType": "JSONPatch"})), &["spec.mutations[0].jsonPatch: Required"]),
        (
            mutation(json!({"patchType": "JSONPatch", "jsonPatch": {"expression": ""}, "applyConfiguration": {"expression": "x"}})),
            &["spec.mutations[0].jsonPatch.expression: Required", "spec.mutations[0].applyConfiguration: Invalid"],
        ),
        (
            spec(json!({"matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["pods"]}]}})),
            &["spec.matchConstraints.resourceRules.operations: NotSupported"],
        ),
    ]);
    table.update(&[
        (spec(json!({"reinvocationPolicy": "IfNeeded"})), &[]),
        (spec(json!({"mutations": null})), &["spec.mutations: Required"]),
    ]);
}

#[test]
fn bindings() {
    let rows: &[(Value, &[&str])] = &[
        (spec(json!({"policyName": ""})), &["spec.policyName: Required"]),
        (spec(json!({"policyName": "A"})), &["spec.policyName: Invalid"]),
        (spec(json!({"paramRef": {"name": "p", "parameterNotFoundAction": "Deny"}})), &[]),
        (spec(json!({"paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"}})), &[]),
        (spec(json!({"paramRef": {"parameterNotFoundAction": "Deny"}})), &["spec.paramRef: Required"]),
        (
            spec(
                json!({"paramRef": {"name": "a/b", "selector": {"matchLabels": {"a b": "c"}}, "parameterNotFoundAction": "x"}}),
            ),
            &[
                "spec.paramRef.name: Invalid",
                "spec.paramRef.name: Forbidden",
                "spec.paramRef.selector.matchLabels: Invalid",
                "spec.paramRef.selector: Forbidden",
                "spec.paramRef.parameterNotFoundAction: NotSupported",
            ],
        ),
        (spec(json!({"paramRef": {"name": "a"}})), &["spec.paramRef.parameterNotFoundAction: Required"]),
        (
            spec(json!({"matchResources": {"matchPolicy": "other"}})),
            &["spec.matchResources.matchPolicy: NotSupported"],
        ),
    ];
    let good = spec(json!({"policyName": "policy", "validationActions": ["Deny"]}));
    let table = Table::new(GROUP, "v1", "ValidatingAdmissionPolicyBinding", good);
    table.create(rows);
    let actions = |list: Value| spec(json!({"validationActions": list}));
    table.create(&[
        (actions(json!(["Audit", "Warn"])), &[]),
        (actions(json!([])), &["spec.validationActions: Required"]),
        (actions(json!(["x"])), &["spec.validationActions[0]: NotSupported"]),
        (actions(json!(["Audit", "Audit"])), &["spec.validationActions[1]: Duplicate"]),
        (actions(json!(["Deny", "Warn"])), &["spec.validationActions: Invalid"]),
    ]);
    let table =
        Table::new(GROUP, "v1", "MutatingAdmissionPolicyBinding", spec(json!({"policyName": "policy"})));
    table.create(rows);
    table.create(&[(
        spec(json!({"matchResources": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["pods"]}]}})),
        &["spec.matchResources.resourceRules.operations: NotSupported"],
    )]);
}

/// Expressions that do not compile, as upstream's `validation_test.go` has them: where, and how the reason begins.
#[test]
fn expressions() {
    let check = |kind: &str, patch: Value, expect: &[&str]| {
        let mut policy = match kind {
            "ValidatingAdmissionPolicy" => json!({"validations": [{"expression": "true"}]}),
            _ => json!({"reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}),
        };
        policy["failurePolicy"] = json!("Fail");
        policy["matchConstraints"] = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
            "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["p"]}]});
        policy.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        let mut errors = apimachinery::field::ErrorList::new();
        let object = json!({"metadata": {"name": "config"}, "spec": policy});
        (crate::strategy(GROUP, kind).validate)(&object, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expect.len(), "{patch}: {found:?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.starts_with(expect), "{patch}: {found}");
        }
    };
    let params = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    for (patch, expect) in [
        (
            json!({"validations": [{"expression": "object.x in [1, 2, "}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"object.x in [1, 2, \": compilation failed: ERROR: <input>:1:20: \
             Syntax error: missing ']' at '<EOF>'",
            ][..],
        ),
        (
            json!({"validations": [{"expression": "1"}]}),
            &["spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int"],
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "object.x in [1, 2, "}]}),
            &[
                "spec.validations[0].messageExpression: Invalid value: \"object.x in [1, 2, \": compilation failed: ERROR: \
             <input>:1:20: Syntax error: missing ']' at '<EOF>",
            ],
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "0 == 0"}]}),
            &["spec.validations[0].messageExpression: Invalid value: \"0 == 0\": must evaluate to string"],
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "string(authorizer.path('/x').check('get').allowed())"}]}),
            &[
                "spec.validations[0].messageExpression: Invalid value: \"string(authorizer.path('/x').check('get').allowed())\": \
             compilation failed: ERROR: <input>:1:8: undeclared reference to 'authorizer'",
            ],
        ),
        (
            json!({"validations": [{"expression": "params.x == 1"}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: \
             undeclared reference to 'params'",
            ],
        ),
        (
            json!({"paramKind": params, "validations": [{"expression": "params.x == 1", "messageExpression": "string(params.x)"}],
            "matchConditions": [{"name": "x", "expression": "params.y"}]}),
            &[
                "spec.matchConditions[0].expression: Invalid value: \"params.y\": must evaluate to bool but got dyn",
            ],
        ),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "true"}]}),
            &[
                "spec.auditAnnotations[0].valueExpression: Invalid value: \"true\": must evaluate to one of [string null_type] but got bool",
            ],
        ),
        (
            json!({"variables": [{"name": "foo", "expression": "114514 + '514'"}]}),
            &[
                "spec.variables[0].expression: Invalid value: \"114514 + '514'\": compilation failed: ERROR: <input>:1:8: found no \
             matching overload for '_+_' applied to '(int, string)",
            ],
        ),
        (
            json!({"variables": [{"name": "foo", "expression": "1 + 1"}, {"name": "bar", "expression": "variables.foo + 1"}],
            "validations": [{"expression": "variables.bar > 1"}, {"expression": "variables.baz > 1"}]}),
            &[
                "spec.validations[1].expression: Invalid value: \"variables.baz > 1\": compilation failed: ERROR: <input>:1:10: \
             undefined field 'baz'",
            ],
        ),
        (
            json!({"variables": [{"name": "foo", "expression": "'x'"}], "validations": [{"expression": "variables.foo > 1"}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"variables.foo > 1\": compilation failed: ERROR: <input>:1:15: \
             found no matching overload for '_>_' applied to '(string, int)'",
            ],
        ),
        (
            json!({"validations": [{"expression": "variables.foo > 1"}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"variables.foo > 1\": compilation failed: ERROR: <input>:1:1: \
             undeclared reference to 'variables'",
            ],
        ),
        (
            json!({"validations": [{"expression": "Object{}.x == 1"}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"Object{}.x == 1\": compilation failed: ERROR: <input>:1:7: \
             undeclared reference to 'Object'",
            ],
        ),
    ] {
        check("ValidatingAdmissionPolicy", patch, expect);
    }
    let mutation = |kind: &str, field: &str, source: &str| json!({"mutations": [{"patchType": kind, field: {"expression": source}}]});
    for (patch, expect) in [
        (
            mutation(
                "JSONPatch",
                "jsonPatch",
                "[JSONPatch{op: 'add', path: '/' + jsonpatch.escapeKey('a/b'), value: 1}]",
            ),
            &[][..],
        ),
        (
            mutation("JSONPatch", "jsonPatch", "Object{}"),
            &[
                "spec.mutations[0].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch) but got Object",
            ],
        ),
        (
            mutation("ApplyConfiguration", "applyConfiguration", "[]"),
            &[
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"[]\": must evaluate to Object but got list(dyn)",
            ],
        ),
        (
            mutation("ApplyConfiguration", "applyConfiguration", "Object{spec: Object.spec{x: variables.y}}"),
            &[
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object{spec: Object.spec{x: variables.y}}\": \
             compilation failed: ERROR: <input>:1:38: undefined field 'y'",
            ],
        ),
    ] {
        check("MutatingAdmissionPolicy", patch, expect);
    }
}
