//! What is asked of a custom object before it is written: its schema, its lists, resources inside it (upstream's
//! `registry/customresource/{strategy,validator}.go`). The metadata is the engine's matter.

use apiextensions::{
    expressions::{Rules, is_blocking, unchecked},
    structural::{lists, metadata, validate},
};
use apimachinery::field::{ErrorList, Path};
use kinds::object_meta::validate_embedded;
use serde_json::Value;

use super::{Compiled, Custom};

impl Custom {
    /// Every fault of a new object, its metadata aside.
    pub fn validate(&self, object: &Value, errors: &mut ErrorList) {
        let compiled = self.compiled();
        let schema = &compiled.structural;
        errors.extend(validate::validate(object, schema, None, &Path::NIL));
        if let Some(paths) = &compiled.scale {
            paths.faults(object, true, errors);
        }
        self.inside(object, errors);
        lists::check(object, schema, &Path::NIL, errors);
        let _ = self.rules(object, None, errors);
    }

    /// Every fault of a change of the object, or of its status. Returns what the client is to be warned of.
    pub fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        subresource: &str,
        errors: &mut ErrorList,
    ) -> Vec<String> {
        let compiled = self.compiled();
        let schema = &compiled.structural;
        let is_status = subresource == "status";
        if is_status {
            if let (Some(status), Some(schema)) = (new.get("status"), schema.field("status")) {
                let path = Path::new("status");
                errors.extend(validate::validate(status, schema, old.get("status"), &path));
            }
        } else {
            errors.extend(validate::validate(new, schema, Some(old), &Path::NIL));
        }
        if let Some(paths) = &compiled.scale {
            paths.faults(new, !is_status, errors);
        }
        if !is_status {
            self.inside(new, errors);
        }
        let mut before = ErrorList::new();
        lists::check(old, schema, &Path::NIL, &mut before);
        if before.is_empty() {
            lists::check(new, schema, &Path::NIL, errors);
        }
        self.rules(new, Some(old), errors)
    }

    /// Resources inside the object.
    fn inside(&self, object: &Value, errors: &mut ErrorList) {
        let schema = &self.compiled().structural;
        if schema.any(&|node| node.embedded) {
            let mut copy = object.clone();
            metadata::validate(&mut copy, schema, &Path::NIL, &validate_embedded, errors);
        }
    }

    /// `x-kubernetes-validations`, unless the object is so wrong that they could not be trusted. Returns what was wrong
    /// before and has not changed.
    fn rules(&self, object: &Value, old: Option<&Value>, errors: &mut ErrorList) -> Vec<String> {
        let Compiled { structural, rules, .. } = self.compiled();
        if rules.is_empty() {
            return Vec::new();
        }
        if is_blocking(errors) {
            errors.push(unchecked());
            return Vec::new();
        }
        let mut budget = Rules::BUDGET;
        let findings = rules.validate(structural, object, old, &Path::NIL, &mut budget);
        errors.extend(findings.errors);
        findings.warnings
    }
}
