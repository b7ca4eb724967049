use serde_json::{Value, json};

use crate::table::Table;

fn version(name: &str, patch: Value) -> Value {
    let mut version = json!({"name": name, "served": true, "storage": name == "v1",
        "schema": {"openAPIV3Schema": {"type": "object"}}});
    version.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    version
}

fn table() -> Table {
    Table::new(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        json!({"metadata": {"name": "crontabs.stable.example.com"}, "spec": {"group": "stable.example.com",
            "scope": "Namespaced", "names": {"plural": "crontabs", "kind": "CronTab"}, "versions": [version("v1", json!({}))]}}),
    )
}

fn spec(patch: Value) -> Value {
    json!({ "spec": patch })
}

fn versions(list: &[Value]) -> Value {
    spec(json!({ "versions": list }))
}

fn named(patch: Value) -> Value {
    spec(json!({ "names": patch }))
}

#[test]
fn new_definitions() {
    let v1 = |patch: Value| versions(&[version("v1", patch)]);
    let two = |first: Value, second: Value| versions(&[version("v1", first), version("v2", second)]);
    let scale = |patch: Value| {
        let mut scale =
            json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
        scale.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        json!({"subresources": {"scale": scale}})
    };
    let column = |patch: Value| {
        let mut column = json!({"name": "a", "type": "string", "jsonPath": ".spec.a"});
        column.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        json!({"additionalPrinterColumns": [column]})
    };
    let fields = |count: usize| -> Value {
        json!({"selectableFields": (0..count).map(|i| json!({"jsonPath": format!(".spec.f{i}")})).collect::<Vec<_>>()})
    };
    let webhook = |patch: Value| {
        let mut hook =
            json!({"clientConfig": {"url": "https://example.com"}, "conversionReviewVersions": ["v1"]});
        hook.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        spec(json!({"conversion": {"strategy": "Webhook", "webhook": hook}}))
    };
    let group = |group: &str, annotation: Value| json!({"metadata": {"name": format!("crontabs.{group}"), "annotations": {"api-approved.kubernetes.io": annotation}}, "spec": {"group": group}});
    let stored = |list: Value| json!({"status": {"storedVersions": list}});
    table().create(&[
        (json!({"metadata": {"name": "other"}}), &["metadata.name: Invalid"]),
        (json!({"metadata": {"name": "crontabs."}, "spec": {"group": ""}}), &["spec.group: Required"]),
        (json!({"metadata": {"name": "crontabs.example"}, "spec": {"group": "example"}}), &["spec.group: Invalid"]),
        (json!({"metadata": {"name": "crontabs.a_b.c"}, "spec": {"group": "a_b.c"}}), &["spec.group: Invalid"]),
        (spec(json!({"scope": ""})), &["spec.scope: Required"]),
        (spec(json!({"scope": "Undefined"})), &["spec.scope: NotSupported"]),
        (named(json!({"kind": "cron tab", "singular": "A", "listKind": "cron tab"})), &[
            "spec.names.singular: Invalid",
            "spec.names.kind: Invalid",
            "spec.names.listKind: Invalid",
            "spec.names.listKind: Invalid",
        ]),
        (named(json!({"kind": ""})), &["spec.names.singular: Required", "spec.names.kind: Required", "spec.names.listKind: Required"]),
        (named(json!({"shortNames": ["ct", "C"], "categories": ["all", "a b"]})), &["spec.names.shortNames[1]: Invalid", "spec.names.categories[1]: Invalid"]),
        (versions(&[]), &["spec.versions: Invalid", "status.storedVersions: Invalid"]),
        (v1(json!({"schema": null})), &["spec.versions[0].schema.openAPIV3Schema: Required"]),
        (two(json!({}), json!({"schema": {}})), &["spec.versions[1].schema.openAPIV3Schema: Required"]),
        (versions(&[version("v1", json!({})), version("v1", json!({"storage": false}))]), &["spec.versions: Invalid"]),
        (two(json!({}), json!({"storage": true})), &["spec.versions: Invalid", "status.storedVersions: Invalid"]),
        (
            versions(&[version("V1", json!({"storage": true}))]),
            &["spec.versions[0].name: Invalid", "spec.version: Invalid"],
        ),
        (v1(json!({"deprecated": true, "deprecationWarning": "go"})), &[]),
        (v1(json!({"deprecationWarning": "go"})), &["spec.versions[0].deprecationWarning: Invalid"]),
        (v1(json!({"deprecated": true, "deprecationWarning": "a\nb"})), &["spec.versions[0].deprecationWarning: Invalid"]),
        (v1(json!({"deprecated": true, "deprecationWarning": ""})), &["spec.versions[0].deprecationWarning: Invalid"]),
        (v1(json!({"deprecated": true, "deprecationWarning": "x".repeat(257)})), &["spec.versions[0].deprecationWarning: Invalid"]),
        (v1(scale(json!({"labelSelectorPath": ".spec.selector"}))), &[]),
        (v1(scale(json!({"specReplicasPath": ""}))), &["spec.subresources.scale.specReplicasPath: Required"]),
        (v1(scale(json!({"specReplicasPath": "foo{}[]"}))), &["spec.subresources.scale.specReplicasPath: Invalid"]),
        (v1(scale(json!({"statusReplicasPath": ".spec.replicas"}))), &["spec.subresources.scale.statusReplicasPath: Invalid"]),
        (two(scale(json!({})), scale(json!({"labelSelectorPath": ".x"}))), &["spec.versions[1].subresources.scale.labelSelectorPath: Invalid"]),
        (v1(column(json!({"format": "int32"}))), &[]),
        (v1(column(json!({"name": "", "type": "bool", "format": "x", "jsonPath": "a"}))), &[
            "spec.additionalPrinterColumns[0].name: Required",
            "spec.additionalPrinterColumns[0].type: Invalid",
            "spec.additionalPrinterColumns[0].format: Invalid",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid",
        ]),
        (two(column(json!({})), column(json!({"type": ""}))), &["spec.versions[1].additionalPrinterColumns[0].type: Required"]),
        (v1(fields(8)), &[]),
        (v1(fields(9)), &["spec.selectableFields: TooMany"]),
        (
            v1(json!({"selectableFields": [{"jsonPath": ""}, {"jsonPath": ".metadata.name"}, {"jsonPath": ".a"}, {"jsonPath": ".a"}]})),
            &["spec.selectableFields[0].jsonPath: Required", "spec.selectableFields[1].jsonPath: Invalid", "spec.selectableFields[3].jsonPath: Duplicate"],
        ),
        (webhook(json!({})), &[]),
        (webhook(json!({"clientConfig": null})), &["spec.conversion.webhookClientConfig: Required"]),
        (webhook(json!({"clientConfig": {}})), &["spec.conversion.webhookClientConfig: Required"]),
        (webhook(json!({"clientConfig": {"url": "http://a"}})), &["spec.conversion.webhookClientConfig.url: Invalid"]),
        (webhook(json!({"clientConfig": {"service": {"name": "n", "namespace": "m", "port": 65536}}})), &["spec.conversion.webhookClientConfig.service.port: Invalid"]),
        (webhook(json!({"conversionReviewVersions": []})), &["spec.conversion.conversionReviewVersions: Required"]),
        (webhook(json!({"conversionReviewVersions": ["invalid-version"]})), &["spec.conversion.conversionReviewVersions: Invalid"]),
        (webhook(json!({"conversionReviewVersions": ["0v", "0v", "v1"]})), &["spec.conversion.conversionReviewVersions[0]: Invalid", "spec.conversion.conversionReviewVersions[1]: Invalid"]),
        (spec(json!({"conversion": {"strategy": "x"}})), &["spec.conversion.strategy: NotSupported"]),
        (
            spec(json!({"conversion": {"strategy": "None", "webhook": {"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]}}})),
            &["spec.conversion.webhookClientConfig: Forbidden", "spec.conversion.conversionReviewVersions: Forbidden"],
        ),
        (spec(json!({"preserveUnknownFields": true})), &["spec.preserveUnknownFields: Invalid"]),
        (group("crd.k8s.io", Value::Null), &["metadata.annotations[api-approved.kubernetes.io]: Required"]),
        (group("kubernetes.io", json!("why not")), &["metadata.annotations[api-approved.kubernetes.io]: Invalid"]),
        (group("crd.k8s.io", json!("unapproved, an experiment")), &[]),
        (group("crd.k8s.io", json!("https://github.com/kubernetes/kubernetes/pull/78458")), &[]),
        (stored(json!(["v0"])), &["status.storedVersions: Invalid", "status.storedVersions[0]: Invalid"]),
        (json!({"status": {"acceptedNames": {"plural": "A", "kind": "a"}, "storedVersions": ["v1"]}}), &["status.acceptedNames.plural: Invalid"]),
    ]);
}

#[test]
fn changes() {
    let table = table();
    let check = |old: &Value, new: &Value, expect: &[&str]| table.change(old, new, "", expect);
    let established = json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}});
    let with = |mut patch: Value| {
        patch["status"] = established["status"].clone();
        patch
    };
    let empty = json!({});
    check(&empty, &spec(json!({"scope": "Cluster", "names": {"kind": "Other"}})), &[]);
    check(
        &established,
        &with(spec(json!({"scope": "Cluster", "names": {"kind": "Other"}}))),
        &["spec.scope: Invalid", "spec.names.kind: Invalid"],
    );
    check(&empty, &spec(json!({"group": "other.example.com"})), &["spec.group: Invalid"]);
    check(&empty, &named(json!({"plural": "others"})), &["spec.names.plural: Invalid"]);
    let bare = versions(&[version("v1", json!({"schema": null}))]);
    check(&bare, &bare, &[]);
    check(&empty, &bare, &["spec.versions[0].schema.openAPIV3Schema: Required"]);
    let preserving = spec(json!({"preserveUnknownFields": true}));
    check(&preserving, &preserving, &[]);
    let many: Vec<Value> = (0..9).map(|i| json!({"jsonPath": format!(".spec.f{i}")})).collect();
    let many = versions(&[version("v1", json!({"selectableFields": many}))]);
    check(&many, &many, &[]);
    let hook = |bundle: &str| {
        spec(json!({"conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a", "caBundle": bundle}}}}))
    };
    check(&empty, &hook("AAAA"), &[]);
    check(&established, &with(hook("AAAA")), &["spec.conversion.webhookClientConfig.caBundle: Invalid"]);
    check(&with(hook("AAAA")), &with(hook("BBBB")), &[]);
    let names = json!({"status": {"acceptedNames": {"plural": "A", "kind": "a"}}});
    table.change(&empty, &names, "status", &["status.acceptedNames.plural: Invalid"]);
}

#[test]
fn the_stored_version_is_noted() {
    let strategy = crate::strategy("apiextensions.k8s.io", "CustomResourceDefinition");
    let mut made =
        json!({"spec": {"versions": [version("v1", json!({}))]}, "status": {"storedVersions": null}});
    (strategy.prepare_for_create)(&mut made);
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let old = made.clone();
    made["spec"]["versions"][0]["name"] = json!("v2");
    (strategy.prepare_for_update)(&mut made, &old, "");
    assert_eq!(made["status"]["storedVersions"], json!(["v1", "v2"]));
}
