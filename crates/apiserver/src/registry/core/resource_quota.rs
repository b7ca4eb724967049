//! What admission writes into a ResourceQuota.

use apimachinery::{schema::Resource, status::Status};
use etcd::KeyValue;
use serde_json::Value;

use crate::{
    handlers::options::WriteOptions,
    registry::generic::{Scope, Warnings},
    request::UserInfo,
    storage,
};

/// Writes what is used into the status of a quota, as the API server's own client would, if the quota is still what
/// was read.
///
/// # Errors
/// 409 if somebody else has written it in between.
pub async fn write_used(
    scope: &Scope<'_>,
    quotas: &'static Resource,
    namespace: &str,
    (kv, name): (&KeyValue, &str),
    used: Value,
) -> Result<(), Status> {
    let server = scope.server;
    let user = UserInfo::loopback();
    let warnings = Warnings::default();
    let own = Scope {
        server,
        user: &user,
        user_agent: "kube-apiserver",
        verb: "update",
        resource: quotas,
        subresource: "status",
        kind: "ResourceQuota",
        namespace,
        name,
        warnings: &warnings,
    };
    let old = server.storage.decode(quotas, kv)?;
    let mut new = old.clone();
    new["status"]["used"] = used;
    own.manage_fields(Some(&old), &mut new, &WriteOptions::default());
    let value = storage::encode(quotas, &mut new)?;
    let key = storage::key(quotas, namespace, name)?;
    match server.storage.put(quotas, key, value, kv.mod_revision).await? {
        Ok(_) => Ok(()),
        Err(_) => Err(Status::modified(&quotas.group, &quotas.plural, name)),
    }
}
