//! Role based access control: the stored roles and bindings, indexed by subject.
//!
//! [`Rule`]s are compared as upstream's `evaluation_helpers.go` compares them; [`Index`] is the compiled state,
//! pure; [`Rbac`] is one index that readers and the store's follower share. [`escalation`] answers whether
//! somebody may hand out a role.

pub mod escalation;
mod index;
mod rule;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

pub use index::{Binding, Index, RoleRef, Subject};
pub use rule::Rule;

use crate::authorization::{Attributes, Decision};
use crate::request::UserInfo;

/// The group of every kind here.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The shared index. The follower feeds it through [`observe`](Self::observe).
#[derive(Default)]
pub struct Rbac(RwLock<Index>);

impl Rbac {
    /// Takes note of an object of `clusterroles`, `roles`, `clusterrolebindings` or `rolebindings`; `None` when
    /// it is gone.
    pub fn observe(&self, resource: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match resource {
            "clusterroles" | "roles" => index.set_role(namespace, name, object.map(Rule::list)),
            "clusterrolebindings" | "rolebindings" => {
                index.set_binding(namespace, name, object.map(Binding::from_value));
            }
            _ => {}
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Index::default();
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn authorize(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        self.index().authorize(user, a)
    }

    /// Everything a user may do in a namespace (cluster-wide rights included), and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Option<String>) {
        self.index().rules_for(user, namespace)
    }

    /// The rules behind a reference from a binding in `namespace`; `Err` is upstream's text.
    pub fn rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Rule]>, String> {
        self.index().rules(role, namespace).cloned()
    }
}

#[cfg(test)]
mod tests;
