//! Requests over resources that are known only at run time.

use api::meta::v1::DeleteOptions;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::client::{JSON, json, one};
use crate::request::path;
use crate::{Client, Gvr, List, ListParams, PartialObject, Patch, Result, WatchStream};

/// What asks for `PartialObjectMetadata` in place of one object.
pub(crate) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// The same for lists.
pub(crate) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A resource by group, version and plural, with objects as JSON values or as their metadata alone.
#[derive(Clone)]
pub struct Dynamic {
    client: Client,
    gvr: Gvr,
}

impl Dynamic {
    pub(crate) fn new(client: Client, gvr: Gvr) -> Dynamic {
        Dynamic { client, gvr }
    }

    /// Which resource this is.
    pub fn gvr(&self) -> &Gvr {
        &self.gvr
    }

    /// Reads one object.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Value> {
        self.client.call(Method::GET, one(&self.gvr, namespace, name, "")?, "", Bytes::new()).await
    }

    /// Reads one object's metadata.
    pub async fn get_metadata(&self, namespace: &str, name: &str) -> Result<PartialObject> {
        let uri = one(&self.gvr, namespace, name, "")?;
        self.client.call_accepting(Method::GET, uri, "", METADATA, Bytes::new()).await
    }

    /// Lists one namespace, or with an empty `namespace` all of them.
    pub async fn list(&self, namespace: &str, params: &ListParams) -> Result<List<Value>> {
        self.client.list_as(&self.gvr, namespace, params, JSON).await
    }

    /// Lists metadata alone.
    pub async fn list_metadata(&self, namespace: &str, params: &ListParams) -> Result<List<PartialObject>> {
        self.client.list_as(&self.gvr, namespace, params, METADATA_LIST).await
    }

    /// Watches metadata alone.
    pub async fn watch_metadata(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<WatchStream<PartialObject>> {
        self.client.watch_as(&self.gvr, namespace, params, METADATA).await
    }

    /// Creates an object in a namespace.
    pub async fn create(&self, namespace: &str, object: &Value) -> Result<Value> {
        self.client.call(Method::POST, path(&self.gvr, namespace, "", "")?, JSON, json(object)?).await
    }

    /// Replaces an object, or a subresource of it.
    pub async fn update(
        &self,
        namespace: &str,
        name: &str,
        object: &Value,
        subresource: &str,
    ) -> Result<Value> {
        let uri = one(&self.gvr, namespace, name, subresource)?;
        self.client.call(Method::PUT, uri, JSON, json(object)?).await
    }

    /// Changes an object, or a subresource of it.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
        subresource: &str,
    ) -> Result<Value> {
        self.client.patch_as(&self.gvr, namespace, name, patch, subresource, JSON).await
    }

    /// Changes an object and reads its metadata back.
    pub async fn patch_metadata(&self, namespace: &str, name: &str, patch: &Patch) -> Result<PartialObject> {
        self.client.patch_as(&self.gvr, namespace, name, patch, "", METADATA).await
    }

    /// Deletes an object.
    pub async fn delete(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<()> {
        self.client.delete_as(&self.gvr, namespace, name, options).await
    }

    /// Deletes everything that the parameters select in a namespace.
    pub async fn delete_collection(
        &self,
        namespace: &str,
        options: &DeleteOptions,
        params: &ListParams,
    ) -> Result<()> {
        self.client.delete_collection_as(&self.gvr, namespace, options, params).await
    }
}
