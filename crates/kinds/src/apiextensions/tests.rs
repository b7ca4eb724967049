use ::apiextensions::definition::{self, Strictness};
use apimachinery::field::{Error, ErrorList, Path};
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
        let names = || (0..count).map(|i| format!("f{i}"));
        let properties: serde_json::Map<_, _> =
            names().map(|name| (name, json!({"type": "string"}))).collect();
        json!({"selectableFields": names().map(|name| json!({"jsonPath": format!(".spec.{name}")})).collect::<Vec<_>>(),
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}})
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
            v1(json!({"selectableFields": [{"jsonPath": ""}, {"jsonPath": ".metadata.name"}, {"jsonPath": ".a"}, {"jsonPath": ".a"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}})),
            &["spec.selectableFields[0].jsonPath: Required", "spec.selectableFields[1].jsonPath: Invalid", "spec.selectableFields[3].jsonPath: Duplicate"],
        ),
        (
            two(json!({"schema": {"openAPIV3Schema": {"type": "object", "required": ["a"]}}, "selectableFields": [{"jsonPath": ".a"}]}),
                json!({"storage": false, "selectableFields": [{"jsonPath": ".a"}]})),
            &["spec.selectableFields: Invalid"],
        ),
        (
            v1(json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.a == 'x'"}]}}})),
            &["spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid"],
        ),
        (
            two(json!({"schema": {"openAPIV3Schema": {"type": "string"}}}), json!({"storage": false, "schema": {"openAPIV3Schema": {"type": "object", "nullable": true}}})),
            &["spec.versions[0].schema.openAPIV3Schema.type: Invalid", "spec.versions[1].schema.openAPIV3Schema.nullable: Forbidden"],
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
    check(&bare, &bare, &["spec.versions[0].schema.openAPIV3Schema: Required"]);
    let unserved = versions(&[version("v1", json!({"schema": null, "served": false}))]);
    check(&unserved, &unserved, &[]);
    check(&empty, &bare, &["spec.versions[0].schema.openAPIV3Schema: Required"]);
    let preserving = spec(json!({"preserveUnknownFields": true}));
    check(&preserving, &preserving, &[]);
    let fields: Vec<Value> = (0..9).map(|i| json!({"jsonPath": format!(".f{i}")})).collect();
    let properties: serde_json::Map<_, _> =
        (0..9).map(|i| (format!("f{i}"), json!({"type": "string"}))).collect();
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    let many = versions(&[version("v1", json!({"selectableFields": fields, "schema": schema}))]);
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

/// Upstream's answers about whole schemas (v1.36, of the cases of its own tests): `asked` says what a definition from
/// before a rule was made is asked for, in the order of [`Strictness`].
#[test]
fn schemas() {
    let (mut wrong, mut count) = (String::new(), 0);
    for line in include_str!("schemas.jsonl").lines() {
        count += 1;
        let line: Value = serde_json::from_str(line).unwrap();
        let asked = |index: usize| line["asked"].get(index) != Some(&Value::Bool(false));
        let strictness = Strictness {
            structural: asked(0),
            known_types: asked(1),
            pruned_defaults: asked(2),
            atomic_sets: asked(3),
            keyed_maps: asked(4),
            rule_costs: asked(5),
        };
        let mut errors = ErrorList::new();
        let (path, has_status) = (Path::new(line["path"].as_str().unwrap()), line["status"] == true);
        let (meta, check_meta) = (super::schemas::meta().unwrap(), crate::object_meta::validate_embedded);
        definition::check(&line["schema"], has_status, strictness, meta, &check_meta, &path, &mut errors);
        let mut told: Vec<String> = errors.iter().map(Error::to_string).collect();
        let mut expected: Vec<&str> =
            line["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        told.sort();
        expected.sort_unstable();
        if told != expected {
            let extra: Vec<_> = told.iter().filter(|it| !expected.contains(&&***it)).collect();
            let missing: Vec<_> = expected.iter().filter(|it| !told.contains(&it.to_string())).collect();
            wrong.push_str(&format!("{}\n  extra {extra:#?}\n  missing {missing:#?}\n", line["schema"]));
        }
    }
    assert!(count > 50);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Upstream's answers about whole definitions (v1.36, of the cases of its own tests), metadata aside.
#[test]
fn definitions() {
    let strategy = crate::strategy("apiextensions.k8s.io", "CustomResourceDefinition");
    let (mut wrong, mut count) = (String::new(), 0);
    for line in include_str!("definitions.jsonl").lines() {
        count += 1;
        let mut line: Value = serde_json::from_str(line).unwrap();
        let (new, old) = (line["new"].take(), line["old"].take());
        let mut errors = ErrorList::new();
        match old.is_null() {
            true => (strategy.validate)(&new, &mut errors),
            false => (strategy.validate_update)(&new, &old, "", &mut errors),
        }
        // Upstream shows a list of versions as it holds it.
        let cut = |text: &str| match text.split_once("Invalid value: [{") {
            Some((start, rest)) => format!("{start}{}", rest.rsplit("]: ").next().unwrap_or_default()),
            None => text.to_owned(),
        };
        let mut told: Vec<String> = errors.iter().map(|error| cut(&error.to_string())).collect();
        let expected = line["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut expected: Vec<String> = expected.map(cut).collect();
        told.sort();
        expected.sort_unstable();
        if told != expected {
            let extra: Vec<_> = told.iter().filter(|it| !expected.contains(it)).collect();
            let missing: Vec<_> = expected.iter().filter(|it| !told.contains(it)).collect();
            wrong.push_str(&format!("{new}\n{old}\n  extra {extra:#?}\n  missing {missing:#?}\n"));
        }
    }
    assert!(count > 20);
    assert!(wrong.is_empty(), "{wrong}");
}
