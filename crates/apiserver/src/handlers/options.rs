//! The options that requests carry in their query, or for deletions in their body: parsed and held to
//! upstream's rules (`ValidateListOptions`, `ValidateCreateOptions`, `ValidateDeleteOptions`, …).

use apimachinery::{
    field::{self, ErrorList, Path, quote},
    fields, labels, names,
    status::Status,
};
use serde_json::Value;

use crate::request::Query;

/// How unknown and duplicate fields in a body are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// Empty when not given.
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// An apply takes what others own.
    pub force: bool,
}

impl WriteOptions {
    /// `kind` names the options in the 422: `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        if kind == "PatchOptions" && query.get("force").is_some() {
            boolean(query, "force")?;
            errors.push(field::Error::forbidden(
                &Path::new("force"),
                "may not be specified for non-apply patch",
            ));
        }
        Self::read(query, kind, errors)
    }

    /// Options of an apply, which has to say who applies.
    pub fn parse_apply(query: &Query) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        if query.get("fieldManager").unwrap_or_default().is_empty() {
            let path = Path::new("fieldManager");
            errors.push(field::Error::required(&path, "is required for apply patch"));
        }
        let force = boolean(query, "force")?.unwrap_or(false);
        Ok(Self { force, ..Self::read(query, "PatchOptions", errors)? })
    }

    fn read(query: &Query, kind: &str, mut errors: ErrorList) -> Result<Self, Status> {
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        errors.extend(names::validate_field_manager(&field_manager, &Path::new("fieldManager")));
        let dry_run = dry_run(query.all("dryRun").map(str::to_owned).collect(), &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let allowed = ["", "Ignore", "Strict", "Warn"];
                let path = Path::new("fieldValidation");
                errors.push(field::Error::not_supported(&path, other, allowed));
                FieldValidation::Warn
            }
        };
        invalid(kind, errors)?;
        Ok(Self { dry_run, field_manager, field_validation, force: false })
    }

    /// As an object of `meta.k8s.io/v1`, without what is as usual.
    pub fn describe(&self, kind: &str) -> Value {
        let mut options = described(kind, self.dry_run);
        if !self.field_manager.is_empty() {
            options["fieldManager"] = self.field_manager.as_str().into();
        }
        match self.field_validation {
            FieldValidation::Warn => {}
            FieldValidation::Ignore => options["fieldValidation"] = "Ignore".into(),
            FieldValidation::Strict => options["fieldValidation"] = "Strict".into(),
        }
        options
    }
}

fn described(kind: &str, dry_run: bool) -> Value {
    let mut options = serde_json::json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if dry_run {
        options["dryRun"] = serde_json::json!(["All"]);
    }
    options
}

fn dry_run(values: Vec<String>, errors: &mut ErrorList) -> bool {
    if values.iter().any(|v| v != "All") {
        errors.push(field::Error::not_supported(&Path::new("dryRun"), Value::from(values.clone()), ["All"]));
    }
    !values.is_empty()
}

/// Options of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the query, when there is no body.
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        let options = Self {
            grace_period_seconds: integer(query, "gracePeriodSeconds")?,
            uid: query.get("uid").map(str::to_owned),
            resource_version: query.get("resourceVersion").map(str::to_owned),
            orphan_dependents: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
            propagation_policy: query.get("propagationPolicy").map(str::to_owned),
            dry_run: dry_run(query.all("dryRun").map(str::to_owned).collect(), &mut errors),
        };
        options.validate(errors)
    }

    /// From a decoded `DeleteOptions` object.
    pub fn from_value(body: &Value) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let dry_runs = body["dryRun"].as_array().into_iter().flatten().filter_map(text).collect();
        let options = Self {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            orphan_dependents: body["orphanDependents"].as_bool(),
            propagation_policy: text(&body["propagationPolicy"]),
            dry_run: dry_run(dry_runs, &mut errors),
        };
        options.validate(errors)
    }

    /// As an object of `meta.k8s.io/v1`.
    pub fn describe(&self) -> Value {
        let mut options = described("DeleteOptions", self.dry_run);
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        for (key, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                options["preconditions"][key] = value.as_str().into();
            }
        }
        if let Some(orphan) = self.orphan_dependents {
            options["orphanDependents"] = orphan.into();
        }
        if let Some(policy) = &self.propagation_policy {
            options["propagationPolicy"] = policy.as_str().into();
        }
        options
    }

    fn validate(self, dry_run_errors: ErrorList) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        if let Some(policy) = &self.propagation_policy {
            let path = Path::new("propagationPolicy");
            if self.orphan_dependents.is_some() {
                errors.push(field::Error::invalid(
                    &path,
                    policy.as_str(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
                let allowed = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(field::Error::not_supported(&path, policy.as_str(), allowed));
            }
        }
        errors.extend(dry_run_errors);
        invalid("DeleteOptions", errors)?;
        Ok(self)
    }
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Exact,
    NotOlderThan,
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: labels::Selector,
    pub fields: fields::Selector,
    pub watch: bool,
    pub allow_bookmarks: bool,
    /// `None`: not given.
    pub resource_version: Option<u64>,
    pub resource_version_match: Option<Match>,
    pub timeout_seconds: Option<i64>,
    /// 0: no limit.
    pub limit: usize,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
        let labels = match query.get("labelSelector") {
            Some(text) => labels::Selector::parse(text).map_err(|e| bad(&e))?,
            None => labels::Selector::everything(),
        };
        let fields = match query.get("fieldSelector") {
            Some(text) => fields::Selector::parse(text).map_err(|e| bad(&e))?,
            None => fields::Selector::everything(),
        };
        let version = query.get("resourceVersion").unwrap_or_default();
        let continue_token = query.get("continue").unwrap_or_default();
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        let send = query.get("sendInitialEvents");
        let mut errors = ErrorList::new();
        let match_path = Path::new("resourceVersionMatch");
        let mut forbid = |path: &Path<'_>, why: &str| errors.push(field::Error::forbidden(path, why));
        if watch {
            if !continue_token.is_empty() && matching.is_empty() {
                forbid(&match_path, "resourceVersionMatch is forbidden when continue is provided");
            }
            if send.is_some() && matching != "NotOlderThan" {
                forbid(
                    &match_path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            if !matching.is_empty() && send.is_none() {
                forbid(
                    &match_path,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !matching.is_empty() && !continue_token.is_empty() {
                forbid(&match_path, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !matching.is_empty() && matching != "NotOlderThan" {
                errors.push(field::Error::not_supported(&match_path, matching, ["NotOlderThan"]));
            }
        } else {
            if !matching.is_empty() {
                if version.is_empty() {
                    forbid(
                        &match_path,
                        "resourceVersionMatch is forbidden unless resourceVersion is provided",
                    );
                }
                if !continue_token.is_empty() {
                    forbid(&match_path, "resourceVersionMatch is forbidden when continue is provided");
                }
                if matching == "Exact" && version == "0" {
                    forbid(
                        &match_path,
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    );
                }
            }
            if send.is_some() {
                forbid(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
            }
            if !matches!(matching, "" | "Exact" | "NotOlderThan") {
                let allowed = ["Exact", "NotOlderThan", ""];
                errors.push(field::Error::not_supported(&match_path, matching, allowed));
            }
        }
        invalid("ListOptions", errors)?;
        let resource_version = match version {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let why = format!("strconv.ParseUint: parsing {}: invalid syntax", quote(text));
                let error = field::Error::invalid(&Path::new("resourceVersion"), text, why);
                if watch {
                    // Upstream's watch does not turn this error into a Status of its own.
                    Status::failure(500, "", error.to_string())
                } else {
                    Status::bad_request(format!("invalid resource version: {error}"))
                }
            })?),
        };
        if !continue_token.is_empty() && !watch {
            crate::storage::continue_token::decode(continue_token)?;
        }
        if !continue_token.is_empty() && resource_version.is_some_and(|v| v != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Ok(Self {
            labels,
            fields,
            watch,
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            resource_version,
            resource_version_match: match matching {
                "Exact" => Some(Match::Exact),
                "NotOlderThan" => Some(Match::NotOlderThan),
                _ => None,
            },
            timeout_seconds: integer(query, "timeoutSeconds")?,
            limit: integer(query, "limit")?.map_or(0, |l| usize::try_from(l).unwrap_or(0)),
            continue_token: continue_token.to_owned(),
            // A watch from any version begins with the state, as it always did.
            send_initial_events: match send {
                None if watch && matches!(version, "" | "0") => Some(true),
                send => send.map(|_| query.flag("sendInitialEvents")),
            },
        })
    }

    /// A request whose path names an object selects that one. The name may have come from the field selector.
    ///
    /// # Errors
    /// 400 when the field selector selects another.
    pub fn select_name(&mut self, name: &str) -> Result<(), Status> {
        if name.is_empty() {
            return Ok(());
        }
        if self.fields.is_empty() {
            self.fields = fields::Selector::equals("metadata.name", name);
        } else if self.fields.requires_exact_match("metadata.name") != Some(name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        Ok(())
    }
}

fn integer(query: &Query, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text)))
    })
}

fn boolean(query: &Query, key: &str) -> Result<Option<bool>, Status> {
    Ok(query.get(key).map(|_| query.flag(key)))
}

fn invalid(kind: &str, errors: ErrorList) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", &errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options() {
        let check = |query: &str, watch: bool, expect: &str| {
            let got = ListOptions::parse(&Query::parse(Some(query)), watch);
            assert_eq!(got.map(|_| ()).map_err(|e| e.message).err().unwrap_or_default(), expect, "{query}");
        };
        check("", false, "");
        check("limit=5&resourceVersion=7&resourceVersionMatch=Exact", false, "");
        check("limit=x", false, r#"strconv.ParseInt: parsing "x": invalid syntax"#);
        check(
            "resourceVersionMatch=Exact",
            false,
            r#"ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"#,
        );
        check("resourceVersionMatch=NotOlderThan&sendInitialEvents=true&allowWatchBookmarks=true", true, "");
        check(
            "sendInitialEvents=true",
            true,
            r#"ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"#,
        );
    }

    #[test]
    fn write_options() {
        let check = |query: &str, kind: &str, expect: Result<(bool, FieldValidation), &str>| {
            let got = WriteOptions::parse(&Query::parse(Some(query)), kind);
            let got = got.map(|o| (o.dry_run, o.field_validation)).map_err(|e| e.message);
            assert_eq!(got, expect.map_err(str::to_owned), "{query}");
        };
        check("", "CreateOptions", Ok((false, FieldValidation::Warn)));
        check("dryRun=All&fieldValidation=Strict", "CreateOptions", Ok((true, FieldValidation::Strict)));
        check(
            "fieldValidation=Bad",
            "CreateOptions",
            Err(
                r#"CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Bad": supported values: "", "Ignore", "Strict", "Warn""#,
            ),
        );
    }
}
