//! The parameters of requests and the paths they go to.

use api::meta::v1::{DeleteOptions, Preconditions};
use serde_json::Value;

use crate::{Error, Gvr};

/// Parameters of list, watch and deletecollection.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListParams {
    /// `a=b,c in (d,e)`; empty selects all.
    pub label_selector: String,
    /// `spec.nodeName=n1`; empty selects all.
    pub field_selector: String,
    /// At most so many items an answer; 0 for no limit.
    pub limit: u32,
    /// The token of the answer before.
    pub continue_token: String,
    /// `""` for the newest, `"0"` for whatever the server has at hand, or a revision.
    pub resource_version: String,
    /// `NotOlderThan` or `Exact`; empty to leave it out.
    pub resource_version_match: String,
    /// How long a watch may last, in seconds; 0 leaves it to the server.
    pub timeout_seconds: u32,
}

impl ListParams {
    /// Those that match a label selector.
    pub fn labels(selector: impl Into<String>) -> ListParams {
        ListParams { label_selector: selector.into(), ..ListParams::default() }
    }

    /// Those that match a field selector.
    pub fn fields(selector: impl Into<String>) -> ListParams {
        ListParams { field_selector: selector.into(), ..ListParams::default() }
    }

    pub(crate) fn query(&self, query: &mut Query) {
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        if self.limit > 0 {
            query.text("limit", &self.limit.to_string());
        }
        query.text("continue", &self.continue_token);
        query.text("resourceVersion", &self.resource_version);
        query.text("resourceVersionMatch", &self.resource_version_match);
        if self.timeout_seconds > 0 {
            query.text("timeoutSeconds", &self.timeout_seconds.to_string());
        }
    }
}

/// A change to an object.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own merge, with lists merged by their keys.
    Strategic(Value),
    /// Server-side apply.
    Apply {
        /// The whole intent, with apiVersion and kind.
        object: Value,
        /// Who intends it.
        field_manager: String,
        /// Take fields from other managers.
        force: bool,
    },
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Patch::Json(_) => "application/json-patch+json",
            Patch::Merge(_) => "application/merge-patch+json",
            Patch::Strategic(_) => "application/strategic-merge-patch+json",
            Patch::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(&self) -> &Value {
        match self {
            Patch::Json(v) | Patch::Merge(v) | Patch::Strategic(v) | Patch::Apply { object: v, .. } => v,
        }
    }

    pub(crate) fn query(&self, query: &mut Query) {
        if let Patch::Apply { field_manager, force, .. } = self {
            query.text("fieldManager", field_manager);
            query.text("force", if *force { "true" } else { "false" });
        }
    }
}

/// Delete, and let the garbage collector remove what it owned afterwards.
pub fn background() -> DeleteOptions {
    DeleteOptions { propagation_policy: Some("Background".into()), ..DeleteOptions::default() }
}

/// Delete what it owns first.
pub fn foreground() -> DeleteOptions {
    DeleteOptions { propagation_policy: Some("Foreground".into()), ..DeleteOptions::default() }
}

/// Delete, and leave what it owned alone.
pub fn orphan() -> DeleteOptions {
    DeleteOptions { propagation_policy: Some("Orphan".into()), ..DeleteOptions::default() }
}

/// Delete only if it is still the object with this uid.
pub fn with_uid(options: DeleteOptions, uid: &str) -> DeleteOptions {
    let before = options.preconditions.unwrap_or_default();
    DeleteOptions { preconditions: Some(Preconditions { uid: Some(uid.into()), ..before }), ..options }
}

/// Delete with this grace period, in seconds.
pub fn with_grace(options: DeleteOptions, seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..options }
}

/// The path of a collection, or with a name of one object, or with a subresource of a part of it.
pub(crate) fn path(gvr: &Gvr, namespace: &str, name: &str, subresource: &str) -> Result<String, Error> {
    let mut path = String::with_capacity(64);
    if gvr.group.is_empty() {
        path.push_str("/api/");
    } else {
        path.push_str("/apis/");
        path.push_str(&gvr.group);
        path.push('/');
    }
    path.push_str(&gvr.version);
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        segment(&mut path, namespace)?;
    }
    path.push('/');
    path.push_str(&gvr.resource);
    if !name.is_empty() {
        path.push('/');
        segment(&mut path, name)?;
    }
    if !subresource.is_empty() {
        path.push('/');
        path.push_str(subresource);
    }
    Ok(path)
}

fn segment(path: &mut String, text: &str) -> Result<(), Error> {
    if text == "." || text == ".." || text.contains('/') {
        return Err(Error::request(format!("{text:?} cannot be a name in a path")));
    }
    escape(path, text);
    Ok(())
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A query string under construction.
#[derive(Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds `name=value` unless the value is empty.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        escape(&mut self.0, value);
    }

    pub(crate) fn on(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |gvr: Gvr, ns: &str, name: &str, sub: &str, expect: &str| {
            assert_eq!(path(&gvr, ns, name, sub).unwrap(), expect);
        };
        check(Gvr::new("", "v1", "pods"), "", "", "", "/api/v1/pods");
        check(Gvr::new("", "v1", "pods"), "a", "b", "status", "/api/v1/namespaces/a/pods/b/status");
        check(Gvr::new("apps", "v1", "deployments"), "a", "", "", "/apis/apps/v1/namespaces/a/deployments");
        check(
            Gvr::new("rbac.authorization.k8s.io", "v1", "clusterroles"),
            "",
            "system:node",
            "",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        );
        assert!(path(&Gvr::new("", "v1", "pods"), "..", "b", "").is_err());
    }

    #[test]
    fn queries() {
        let mut query = Query::default();
        ListParams { label_selector: "a in (b,c)".into(), limit: 5, ..Default::default() }.query(&mut query);
        assert_eq!(query.on("/x".into()), "/x?labelSelector=a%20in%20%28b%2Cc%29&limit=5");
    }
}
