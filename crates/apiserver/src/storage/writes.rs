//! Writes and deletions, each only if nobody was faster.

use std::sync::Arc;

use apimachinery::{schema::Resource, status::Status};
use bytes::Bytes;
use etcd::{Compare, KeyValue, Op, OpResponse, Put, Txn};

use super::{Storage, store_error};

impl Storage {
    /// Writes if the newest version is still the one of `revision` (0: none). `Ok(Err(newest))` if not.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn put(
        &self,
        resource: &Resource,
        key: Bytes,
        value: Bytes,
        revision: i64,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, Status> {
        self.put_with(resource, key, value, revision, Beside::default()).await
    }

    /// [`Storage::put`] together with what stands beside the object: all of it at one revision, or none. It also
    /// comes to nothing when something that is to be made beside it is there already.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn put_with(
        &self,
        resource: &Resource,
        key: Bytes,
        value: Bytes,
        revision: i64,
        beside: Beside,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, Status> {
        let lease = if crate::registry::hooks(resource).expires {
            self.leases.get(&self.store, self.event_ttl).await.map_err(|e| store_error(&e))?
        } else {
            0
        };
        let put = Put { key, value, lease };
        let began = tokio::time::Instant::now();
        let answer = match beside.is_empty() {
            true => self.store.put_if(put, revision).await.map(|answer| answer.map(|response| response.kv)),
            false => self.all_or_nothing(put.key.clone(), Op::Put(put), revision, beside).await,
        };
        self.times.observe(if revision == 0 { "create" } else { "update" }, began, answer.is_ok());
        answer.map_err(|e| store_error(&e))
    }

    async fn all_or_nothing(
        &self,
        key: Bytes,
        op: Op,
        revision: i64,
        beside: Beside,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, etcd::Error> {
        let mut compare = vec![Compare::mod_revision(key.clone(), revision)];
        compare.extend(beside.create.iter().map(|(key, _)| Compare::absent(key.clone())));
        let mut success = vec![op];
        success.extend(beside.create.into_iter().map(|(key, value)| Op::put(key, value)));
        success.extend(beside.delete.into_iter().map(Op::delete));
        let failure = vec![Op::get(key)];
        let answer = self.store.txn(Txn { compare, success, failure }).await?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Put(response)) => Ok(Ok(response.kv)),
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            other => unreachable!("a put was answered with {other:?}"),
        }
    }

    /// Deletes if the newest version is still the one of `revision`. The revision of the deletion, or the
    /// newest version instead.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn delete(
        &self,
        key: Bytes,
        revision: i64,
    ) -> Result<Result<i64, Option<Arc<KeyValue>>>, Status> {
        self.delete_with(key, revision, Vec::new()).await
    }

    /// [`Storage::delete`] together with other keys: all of them at one revision, or none.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn delete_with(
        &self,
        key: Bytes,
        revision: i64,
        beside: Vec<Bytes>,
    ) -> Result<Result<i64, Option<Arc<KeyValue>>>, Status> {
        let began = tokio::time::Instant::now();
        let mut success = vec![Op::delete(key.clone())];
        success.extend(beside.into_iter().map(Op::delete));
        let compare = vec![Compare::mod_revision(key.clone(), revision)];
        let answer = self.store.txn(Txn { compare, success, failure: vec![Op::get(key)] }).await;
        self.times.observe("delete", began, answer.is_ok());
        let answer = answer.map_err(|e| store_error(&e))?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            _ => Ok(Ok(answer.revision)),
        }
    }
}

/// What is written together with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Keys that must not be there yet, and their values.
    pub create: Vec<(Bytes, Bytes)>,
    pub delete: Vec<Bytes>,
}

impl Beside {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }
}
