//! What a binding lends to its policy: objects of the policy's kind of parameters, by name or by labels.

use std::sync::Arc;

use apimachinery::labels::Selector;
use apimachinery::schema::ResourceRef;
use serde_json::Value;

use super::{Request, text};
use crate::custom;

/// `paramRef`.
pub(super) struct Reference {
    name: String,
    namespace: String,
    selector: Option<Result<Selector, String>>,
    /// `parameterNotFoundAction: Deny`.
    deny: bool,
}

impl Reference {
    pub(super) fn read(reference: &Value) -> Self {
        Self {
            name: text(reference, "name").to_owned(),
            namespace: text(reference, "namespace").to_owned(),
            selector: reference["selector"]
                .is_object()
                .then(|| Selector::of_value(&reference["selector"]).map_err(|why| why.to_string())),
            deny: text(reference, "parameterNotFoundAction") == "Deny",
        }
    }
}

impl Request<'_> {
    /// With what a policy is to be asked: once for each object, once with none if the policy or the binding wants
    /// none.
    ///
    /// # Errors
    /// What is wrong with the reference, in upstream's words (`CollectParams`).
    pub(super) fn params(
        &self,
        kind: Option<&ResourceRef>,
        reference: Option<&Reference>,
    ) -> Result<Vec<Option<Arc<Value>>>, String> {
        let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
        let namespace = match (kind.namespaced, reference.namespace.as_str(), self.a.namespace) {
            (false, "", _) => "",
            (false, ..) => {
                return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
            }
            (true, "", "") => {
                let why =
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.into());
            }
            (true, "", own) => own,
            (true, given, _) => given,
        };
        let Some(storage) = self.around.storage else { return Ok(Vec::new()) };
        let found: Vec<Arc<Value>> = match (&*reference.name, &reference.selector) {
            ("", None) => return Err("one of name or selector must be provided".into()),
            ("", Some(Err(why))) => return Err(why.clone()),
            ("", Some(Ok(selector))) => {
                let all = match custom::of(kind) {
                    None => storage.kept_all(kind, namespace),
                    Some(_) => storage.read_all(kind, namespace).into_iter().map(Arc::new).collect(),
                };
                all.into_iter().filter(|object| selector.matches_object(object)).collect()
            }
            (name, _) if custom::of(kind).is_none() => {
                storage.kept(kind, namespace, name).into_iter().collect()
            }
            // What is kept is of one version, and policies may want another.
            (name, _) => match storage.read(kind, namespace, name) {
                Ok(found) => found.into_iter().map(Arc::new).collect(),
                Err(status) => return Err(status.message),
            },
        };
        if found.is_empty() && reference.deny {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
        }
        Ok(found.into_iter().map(Some).collect())
    }
}
