//! The schemas of a definition's versions, with what depends on them.

use ::apiextensions::definition::{self, Strictness};
use ::apiextensions::structural;
use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::schema::{Schema, TypeId};
use serde_json::Value;

use super::{is_common, old_version};
use crate::check::{flag, items, present, text};
use crate::meta::same;
use crate::object_meta;

/// What is asked of the schemas of a definition, given what it was.
pub(super) struct Schemas<'a> {
    old: Option<&'a Value>,
    strictness: Strictness,
}

/// The type of metadata.
pub(super) fn meta() -> Option<(&'static Schema, TypeId)> {
    let schema = api::schema();
    schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").map(|id| (schema, id))
}

fn of(version: &Value) -> Option<&Value> {
    present(&version["schema"], "openAPIV3Schema")
}

impl<'a> Schemas<'a> {
    pub fn new(spec: &Value, old: Option<&'a Value>) -> Schemas<'a> {
        let before = old.map(|old| items(&old["spec"], "versions"));
        let mut strictness = match (before, meta()) {
            (Some(before), Some(meta)) => Strictness::after(before.iter().filter_map(of), meta),
            _ => Strictness::FULL,
        };
        strictness.structural |= !flag(spec, "preserveUnknownFields");
        Schemas { old, strictness }
    }

    /// Versions without a schema, and defaults where fields are preserved.
    pub fn missing(&self, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        let preserves = flag(spec, "preserveUnknownFields");
        let all = path.child("versions");
        let versions = items(spec, "versions");
        let had = |old: &Value| items(&old["spec"], "versions").iter().all(|version| of(version).is_some());
        // Definitions from before schemas were asked for go on without.
        let (asked, why) = match self.old.is_none_or(had) {
            true => (true, ""),
            false => (false, "because otherwise all fields are pruned"),
        };
        for (index, version) in versions.iter().enumerate().filter(|(_, version)| of(version).is_none()) {
            if asked || !preserves && flag(version, "served") {
                let at = all.index(index);
                errors.push(Error::required(&at.child("schema").child("openAPIV3Schema"), why));
            }
        }
        if preserves && versions.iter().filter_map(of).any(has_defaults) {
            let why = "must be false in order to use defaults in the schema";
            errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, why));
        }
    }

    /// The schema of a version, which stands at `path` (`…schema`, or `spec.validation` if all have the same).
    pub fn check(&self, version: &Value, has_status: bool, path: &Path<'_>, errors: &mut ErrorList) {
        let (Some(schema), Some(meta)) = (of(version), meta()) else { return };
        // What all versions had alike counts for those too that were not there.
        let shared = self.old.filter(|old| is_common(&old["spec"], "schema"));
        let shared = shared.and_then(|old| items(&old["spec"], "versions").first());
        let before = shared.or_else(|| old_version(self.old, text(version, "name")));
        let stays = before.and_then(of).is_some_and(|before| same(before, schema));
        let strictness = Strictness { rule_costs: self.strictness.rule_costs && !stays, ..self.strictness };
        let check_meta = object_meta::validate_embedded;
        let path = path.child("openAPIV3Schema");
        definition::check(schema, has_status, strictness, meta, &check_meta, &path, errors);
    }

    /// Fields that selectors may name. `apart`: the schema and the fields are not said in one place, since all versions
    /// have only one of the two alike, which is not allowed.
    pub fn selectable(&self, version: &Value, apart: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
        let fields = items(version, "selectableFields");
        if fields.is_empty() {
            return;
        }
        let at = path.child("selectableFields");
        let schema = of(version).filter(|_| apart.is_none());
        let Some(schema) = schema else {
            let why =
                apart.unwrap_or("may only be set when `version.schema.openAPIV3Schema` is not included");
            errors.push(Error::invalid(&at, "", why));
            return;
        };
        match structural::compile(schema) {
            Err(why) => {
                let at = path.child("schema.openAPIV3Schema");
                errors.push(Error::invalid(&at, "", why.to_string()));
            }
            Ok(schema) => {
                let before = old_version(self.old, text(version, "name"));
                let stay =
                    before.is_some_and(|old| same(&old["selectableFields"], &version["selectableFields"]));
                definition::selectable_fields(fields, &schema, stay, &at, errors);
            }
        }
    }
}

fn has_defaults(schema: &Value) -> bool {
    definition::any(schema, &|node| node.get("default").is_some_and(|default| !default.is_null()))
}
