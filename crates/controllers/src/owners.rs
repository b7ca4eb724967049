//! Controller references: which object looks after which, and how one comes to look after an orphan.

use std::sync::Arc;

use api::meta::v1::{ObjectMeta, OwnerReference};
use apimachinery::labels::Selector;
use client::{Client, Kind, Patch};
use serde_json::json;

use crate::context::{name, namespace, uid};
use crate::error::Doing;
use crate::{Error, Result};

/// The one owner that is marked as the controller.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_ref<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: name(owner).into(),
        uid: uid(owner).into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The index under which [`index_value`] files objects.
pub(crate) const INDEX: &str = "controller";

/// Where the index finds an object: under its controller's uid, or with its namespace's orphans.
pub(crate) fn index_value(meta: &ObjectMeta) -> String {
    match controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphans(meta.namespace.as_deref().unwrap_or_default()),
    }
}

/// Where the index finds the orphans of a namespace.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("{namespace}/")
}

/// What an owner does about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the owner's, and stays so.
    Keep,
    /// It is nobody's and matches.
    Adopt,
    /// It is the owner's and matches no longer.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

/// The rules of upstream's controller reference manager.
pub(crate) fn claim(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let leaving = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if leaving => Claim::Ignore,
        Some(_) => Claim::Release,
        None if leaving || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None if owner.namespace != object.namespace => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Keeps, adopts and releases; answers the objects that are the owner's afterwards, in the given order.
pub(crate) async fn claim_all<O: Kind, K: Kind>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    candidates: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>> {
    let mut claimed = Vec::new();
    let mut failed = None;
    let mut rechecked = false;
    for object in candidates {
        let matches = selector.matches_map(object.metadata().labels.as_ref());
        let change = match claim(owner.metadata(), object.metadata(), matches) {
            Claim::Ignore => continue,
            Claim::Keep => {
                claimed.push(object);
                continue;
            }
            Claim::Adopt => {
                if !rechecked {
                    may_adopt(client, owner).await?;
                    rechecked = true;
                }
                json!({"metadata": {"ownerReferences": [controller_ref(owner)], "uid": uid(&*object)}})
            }
            Claim::Release => json!({"metadata": {
                "ownerReferences": [{"$patch": "delete", "uid": uid(owner)}], "uid": uid(&*object)}}),
        };
        let adopts = matches;
        let patch = Patch::Strategic(change);
        match client.patch::<K>(namespace(&*object), name(&*object), &patch).await {
            Ok(changed) if adopts => claimed.push(Arc::new(changed)),
            Ok(_) => {}
            // It is gone, or (when releasing) another object has its name by now.
            Err(error) if error.is_not_found() || (!adopts && error.is_invalid()) => {}
            Err(error) => {
                let doing = || format!("changing the owner of {} {}", K::KIND, name(&*object));
                failed = failed.or(Err::<(), _>(error).doing(doing).err());
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(claimed),
    }
}

/// The store may be behind: before the first adoption the owner itself is asked for.
async fn may_adopt<O: Kind>(client: &Client, owner: &O) -> Result<()> {
    let what = || format!("looking at {} {} before adopting", O::KIND, name(owner));
    let fresh = client.get::<O>(namespace(owner), name(owner)).await.doing(what)?;
    if uid(&fresh) != uid(owner) {
        return Err(Error::NotYet(format!("{} {} is another object by now", O::KIND, name(owner))));
    }
    if fresh.metadata().deletion_timestamp.is_some() {
        return Err(Error::NotYet(format!("{} {} has just been deleted", O::KIND, name(owner))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let meta = |uid: &str, owner: Option<&str>, deleted: bool| ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("n".into()),
            owner_references: owner.map(|uid| {
                vec![OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() }]
            }),
            deletion_timestamp: deleted.then_some(api::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        let check = |owner_deleted, owned_by, object_deleted, matches, expect| {
            let got = claim(&meta("o", None, owner_deleted), &meta("x", owned_by, object_deleted), matches);
            assert_eq!(got, expect, "{owner_deleted} {owned_by:?} {object_deleted} {matches}");
        };
        check(false, Some("o"), false, true, Claim::Keep);
        check(false, Some("o"), false, false, Claim::Release);
        check(true, Some("o"), false, false, Claim::Ignore);
        check(false, Some("p"), false, true, Claim::Ignore);
        check(false, None, false, true, Claim::Adopt);
        check(false, None, true, true, Claim::Ignore);
        check(true, None, false, true, Claim::Ignore);
        check(false, None, false, false, Claim::Ignore);
    }
}
