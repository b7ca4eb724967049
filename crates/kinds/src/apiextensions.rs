//! CustomResourceDefinition: names, scope, versions, subresources, columns, conversion; the schemas are judged by
//! crate `apiextensions`.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path, is_print};
use apimachinery::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates::pem;
use crate::check::{flag, items, messages, one_of, present, text};
use crate::meta::{same, texts, unchanged};
use crate::strategy::{GENERIC, Strategy};
use crate::webhook;

const APPROVAL: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Versions of ConversionReview that the server before this one spoke.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

mod schemas;
use schemas::Schemas;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const DEFINITION: Strategy = Strategy {
        generation: true,
        allow_unconditional_update: false,
        prepare_for_create: note_storage_version,
        prepare_for_update,
        validate: |object, errors| definition(object, None, errors),
        validate_update: definition_update,
        ..GENERIC
    };
    (kind == "CustomResourceDefinition").then_some(&DEFINITION)
}

fn prepare_for_update(new: &mut Value, _old: &Value, subresource: &str) {
    if subresource.is_empty() {
        note_storage_version(new);
    }
}

/// The version that is stored from now on is one of those that may be found in the store.
fn note_storage_version(definition: &mut Value) {
    let stored = items(&definition["spec"], "versions").iter().find(|version| flag(version, "storage"));
    let Some(name) = stored.map(|version| text(version, "name").to_owned()) else { return };
    let status = &mut definition["status"];
    if !status.is_object() {
        *status = json!({});
    }
    match status["storedVersions"].as_array_mut() {
        Some(all) if all.iter().any(|known| *known == name) => {}
        Some(all) => all.push(name.into()),
        None => status["storedVersions"] = json!([name]),
    }
}

fn definition_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => status(&new["status"], errors),
        _ => definition(new, Some(old), errors),
    }
}

fn is_established(definition: &Value) -> bool {
    items(&definition["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Established" && text(condition, "status") == "True")
}

fn definition(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let spec = &new["spec"];
    if old.is_none() {
        let wanted = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
        let name = text(&new["metadata"], "name");
        if name != wanted {
            let metadata = Path::new("metadata");
            let why = "must be spec.names.plural+\".\"+spec.group";
            errors.push(Error::invalid(&metadata.child("name"), name, why));
        }
    }
    let path = Path::new("spec");
    self::spec(spec, old, &path, errors);
    if let Some(old) = old {
        if is_established(old) {
            unchanged(&spec["scope"], &old["spec"]["scope"], &path.child("scope"), errors);
            let at = path.child("names");
            unchanged(&spec["names"]["kind"], &old["spec"]["names"]["kind"], &at.child("kind"), errors);
        }
        unchanged(&spec["group"], &old["spec"]["group"], &path.child("group"), errors);
        let at = path.child("names");
        unchanged(&spec["names"]["plural"], &old["spec"]["names"]["plural"], &at.child("plural"), errors);
    }
    status(&new["status"], errors);
    stored_versions(new, errors);
    approval(new, old, errors);
    let preserves = |object: &Value| flag(&object["spec"], "preserveUnknownFields");
    if preserves(new) && !old.is_some_and(preserves) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, why));
    }
}

/// A field that all versions have alike is told of as the spec's own: so upstream holds it.
fn is_common(spec: &Value, field: &str) -> bool {
    let versions = items(spec, "versions");
    versions.first().is_some_and(|first| versions.iter().all(|version| same(&version[field], &first[field])))
}

fn spec(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let group = text(spec, "group");
    match names::is_dns1123_subdomain(group) {
        _ if group.is_empty() => errors.push(Error::required(&path.child("group"), "")),
        faults if !faults.is_empty() => {
            errors.push(Error::invalid(&path.child("group"), group, faults.join(",")));
        }
        _ if !group.contains('.') => {
            let why = "should be a domain with at least one dot";
            errors.push(Error::invalid(&path.child("group"), group, why));
        }
        _ => {}
    }
    one_of(text(spec, "scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
    let versions = items(spec, "versions");
    let list = path.child("versions");
    let schemas = Schemas::new(spec, old);
    schemas.missing(spec, path, errors);
    let [schema, subresources, columns, selectable] =
        ["schema", "subresources", "additionalPrinterColumns", "selectableFields"]
            .map(|field| is_common(spec, field));
    let has_status = |version: &Value| present(&version["subresources"], "status").is_some();
    let mut seen = BTreeSet::new();
    let mut unique = true;
    for (index, version) in versions.iter().enumerate() {
        let at = list.index(index);
        let name = text(version, "name");
        unique &= seen.insert(name);
        joined(name, names::is_dns1035_label(name), &at.child("name"), errors);
        deprecation(version, &at.child("deprecationWarning"), errors);
        if !schema {
            schemas.check(version, has_status(version), &at.child("schema"), errors);
        }
        parts(version, !subresources, !columns, &at, errors);
        if !selectable {
            let apart =
                schema.then_some("may only be set when `version.schema.openAPIV3Schema` is not included");
            schemas.selectable(version, apart, &at, errors);
        }
    }
    let all = || spec["versions"].clone();
    if !unique {
        errors.push(Error::invalid(&list, all(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&list, all(), why));
    }
    let first = versions.first().map(|version| text(version, "name")).unwrap_or_default();
    if !first.is_empty() {
        joined(first, names::is_dns1035_label(first), &path.child("version"), errors);
    }
    let at = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], field).is_empty() {
            errors.push(Error::required(&at.child(field), ""));
        }
    }
    definition_names(&spec["names"], &at, errors);
    if let Some(version) = versions.first() {
        if schema {
            schemas.check(version, versions.iter().any(has_status), &path.child("validation"), errors);
        }
        parts(version, subresources, columns, path, errors);
        if selectable {
            let apart = (!schema).then_some("may only be set when validations.schema is included");
            schemas.selectable(version, apart, path, errors);
        }
    }
    conversion(spec, old, &path.child("conversion"), errors);
}

fn old_version<'a>(old: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    items(&old?["spec"], "versions").iter().find(|version| text(version, "name") == name)
}

/// The faults as one, with commas between them.
fn joined(value: &str, faults: Vec<String>, path: &Path<'_>, errors: &mut ErrorList) {
    if !faults.is_empty() {
        errors.push(Error::invalid(path, value, faults.join(",")));
    }
}

fn deprecation(version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(warning) = present(version, "deprecationWarning").and_then(Value::as_str) else { return };
    let mut faults = Vec::new();
    if !flag(version, "deprecated") {
        faults.push("can only be set for deprecated versions".to_owned());
    } else {
        if warning.len() > 256 {
            faults.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            faults.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| !is_print(*c)) {
            faults.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    messages(faults, &warning.into(), path, errors);
}

/// Subresources and columns of a version, if they are asked for.
fn parts(version: &Value, subresources: bool, columns: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if subresources && let Some(scale) = present(&version["subresources"], "scale") {
        self::scale(scale, &path.child("subresources"), errors);
    }
    let list = path.child("additionalPrinterColumns");
    for (index, column) in items(version, "additionalPrinterColumns").iter().enumerate().filter(|_| columns) {
        self::column(column, &list.index(index), errors);
    }
}

fn scale(scale: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (field, roots, told) in [
        ("specReplicasPath", &[".spec."][..], ".spec"),
        ("statusReplicasPath", &[".status."], ".status"),
        ("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status"),
    ] {
        let name = format!("scale.{field}");
        let (value, at) = (text(scale, field), path.child(&name));
        if value.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(Error::required(&at, ""));
            }
        } else if !value.starts_with('.') {
            errors.push(Error::invalid(&at, value, "must be a simple json path starting with ."));
        } else if !roots.iter().any(|root| value.starts_with(root)) {
            errors.push(Error::invalid(&at, value, format!("should be a json path under {told}")));
        }
    }
}

fn column(column: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if text(column, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let why = format!("must be one of {}", COLUMN_TYPES.join(","));
    match text(column, "type") {
        "" => errors.push(Error::required(&path.child("type"), why)),
        kind if !COLUMN_TYPES.contains(&kind) => errors.push(Error::invalid(&path.child("type"), kind, why)),
        _ => {}
    }
    let format = text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(Error::invalid(&path.child("format"), format, why));
    }
    let at = path.child("JSONPath");
    match text(column, "jsonPath") {
        "" => errors.push(Error::required(&at, "")),
        value if !value.starts_with('.') => {
            errors.push(Error::invalid(&at, value, "must be a simple json path starting with ."));
        }
        _ => {}
    }
}

fn definition_names(names: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let label = names::is_dns1035_label;
    for field in ["plural", "singular"] {
        let name = text(names, field);
        if !name.is_empty() {
            joined(name, label(name), &path.child(field), errors);
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        let faults = label(&name.to_lowercase());
        if !name.is_empty() && !faults.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            errors.push(Error::invalid(&path.child(field), name, why));
        }
    }
    let list = |field: &str, errors: &mut ErrorList| {
        let at = path.child(field);
        for (index, name) in texts(names, field).enumerate() {
            joined(name, label(name), &at.index(index), errors);
        }
    };
    list("shortNames", errors);
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), kind, why));
    }
    list("categories", errors);
}

fn conversion(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(conversion) = present(spec, "conversion") else { return };
    let strategy = text(conversion, "strategy");
    if strategy != "None" && flag(spec, "preserveUnknownFields") {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(Error::invalid(&path.child("strategy"), strategy, why));
    }
    one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let hook = &conversion["webhook"];
    let (config, versions) = (present(hook, "clientConfig"), items(hook, "conversionReviewVersions"));
    let (config_at, versions_at) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            errors.push(Error::forbidden(&config_at, why));
        }
        if !versions.is_empty() {
            errors.push(Error::forbidden(&versions_at, why));
        }
        return;
    }
    match config {
        None => errors.push(Error::required(&config_at, "required when strategy is set to Webhook")),
        Some(config) => {
            match (present(config, "url").and_then(Value::as_str), present(config, "service")) {
                (Some(url), None) => webhook::url(url, &config_at.child("url"), errors),
                // Upstream takes the name for the namespace here and the other way round.
                (None, Some(service)) => {
                    webhook::service(service, ["namespace", "name"], &config_at.child("service"), errors);
                }
                _ => errors.push(Error::required(&config_at, "exactly one of url or service is required")),
            }
            let bundle = |object: &Value| {
                text(&object["spec"]["conversion"]["webhook"]["clientConfig"], "caBundle").to_owned()
            };
            let stays = |old: &Value| !bundle(old).is_empty() && bundle_fault(&bundle(old)).is_some();
            if old.is_some_and(|old| is_established(old) && !stays(old))
                && let Some(why) = bundle_fault(text(config, "caBundle"))
            {
                errors.push(Error::invalid(&config_at.child("caBundle"), config["caBundle"].clone(), why));
            }
        }
    }
    let is_known =
        |version: &Value| version.as_str().is_some_and(|version| REVIEW_VERSIONS.contains(&version));
    let before = old.map(|old| items(&old["spec"]["conversion"]["webhook"], "conversionReviewVersions"));
    let wants_known = before.is_none_or(|before| before.is_empty() || before.iter().any(is_known));
    if versions.is_empty() {
        errors.push(Error::required(&versions_at, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let at = versions_at.index(index);
        if versions.iter().take(index).any(|earlier| earlier == version) {
            errors.push(Error::invalid(&at, version.clone(), "duplicate version"));
            continue;
        }
        messages(names::is_dns1035_label(version.as_str().unwrap_or_default()), version, &at, errors);
    }
    if wants_known && !versions.iter().any(is_known) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(Error::invalid(&versions_at, versions.to_vec(), why));
    }
}

/// What is wrong with certificates of authorities, given in PEM in base64; none at all are fine.
fn bundle_fault(encoded: &str) -> Option<&'static str> {
    if encoded.is_empty() {
        return None;
    }
    let blocks = pem::blocks(&STANDARD.decode(encoded).unwrap_or_default());
    let good = blocks.iter().any(|block| {
        block.label == "CERTIFICATE"
            && !block.has_headers
            && X509Certificate::from_der(&block.content).is_ok()
    });
    match blocks.is_empty() {
        _ if good => None,
        true => Some("unable to load root certificates: unable to parse bytes as PEM block"),
        false => Some("unable to load root certificates: failed to parse certificate"),
    }
}

fn status(status: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    definition_names(&status["acceptedNames"], &path.child("acceptedNames"), errors);
}

fn stored_versions(definition: &Value, errors: &mut ErrorList) {
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let stored = items(&definition["status"], "storedVersions");
    if stored.is_empty() {
        let why = "must have at least one stored version";
        errors.push(Error::invalid(&path, definition["status"]["storedVersions"].clone(), why));
        return;
    }
    let versions = items(&definition["spec"], "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        if !stored.contains(&version["name"]) {
            let why = format!("must have the storage version {}", text(version, "name"));
            errors.push(Error::invalid(&path, stored.to_vec(), why));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let shown = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {shown} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {shown} and removes \
                 {shown} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(index), name.clone(), why));
        }
    }
}

#[derive(PartialEq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn approval_of(definition: &Value) -> Approval {
    let annotation = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    let is_url = annotation
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
    match annotation {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed,
        _ if is_url => Approval::Approved,
        _ => Approval::Invalid,
    }
}

/// Groups of the community need a link to where they were approved.
fn approval(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let group = text(&new["spec"], "group");
    let guarded = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    let state = approval_of(new);
    if !(guarded("k8s.io") || guarded("kubernetes.io")) || old.is_some_and(|old| approval_of(old) == state) {
        return;
    }
    const MORE: &str = ", see https://github.com/kubernetes/enhancements/pull/1111";
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let (path, start) =
        (annotations.key(APPROVAL), format!("protected groups must have approval annotation {APPROVAL:?}"));
    match state {
        Approval::Missing => errors.push(Error::required(&path, format!("{start}{MORE}"))),
        Approval::Invalid => {
            let why = format!("{start} with either a URL or a reason starting with \"unapproved\"{MORE}");
            errors.push(Error::invalid(&path, new["metadata"]["annotations"][APPROVAL].clone(), why));
        }
        Approval::Bypassed | Approval::Approved => {}
    }
}

#[cfg(test)]
mod tests;
