//! Turning what the engine found into an answer.

use std::sync::Arc;

use apimachinery::status::Status;
use etcd::KeyValue;
use http::Response;
use serde_json::Value;

use super::{Call, list, table, transform};
use crate::{
    custom,
    negotiation::{Format, Output, Transform},
    registry::generic::Outcome,
    response,
    server::Body,
    storage::codec,
};

impl Call<'_> {
    pub(super) fn respond(
        &self,
        code: u16,
        outcome: Outcome,
        output: Output,
    ) -> Result<Response<Body>, Status> {
        match outcome {
            Outcome::Stored(kv) => self.respond_stored(code, &kv, output),
            Outcome::Object(value) => self.respond_value(code, value, output),
            Outcome::Done(status) => {
                let value = serde_json::to_value(status).map_err(Status::internal)?;
                Ok(response::value(code, &value, output))
            }
        }
    }

    /// An object as it is stored; in plain JSON from the kept bytes.
    pub(super) fn respond_stored(
        &self,
        code: u16,
        kv: &Arc<KeyValue>,
        output: Output,
    ) -> Result<Response<Body>, Status> {
        if output.transform == Transform::None && output.format == Format::Protobuf {
            list::refuse_protobuf(self.resource)?;
            let packed = self.server.storage.protobuf(self.resource, kv)?;
            let length = packed.len();
            let mut response = response::bytes(code, output.format.media_type(), packed);
            response::compress(&self.headers, &mut response, length);
            return Ok(response);
        }
        if output.transform == Transform::None {
            let frame = self.server.storage.frame(self.resource, kv)?;
            let mut response = response::json_text(code, frame.object(), output);
            response::compress(&self.headers, &mut response, frame.size());
            return Ok(response);
        }
        let value = self.server.storage.decode(self.resource, kv)?;
        self.respond_value(code, value, output)
    }

    pub(super) fn respond_value(
        &self,
        code: u16,
        value: Value,
        output: Output,
    ) -> Result<Response<Body>, Status> {
        match output.transform {
            Transform::None => {
                let mut json = Vec::new();
                match api_type(&value) {
                    Some(ty) => codec::write_json(ty, &value, &mut json),
                    None if custom::of(self.resource).is_some() => custom::write(&value, &mut json),
                    None => codec::write_json(self.resource.object, &value, &mut json),
                }
                Ok(response::json_text(code, json.into(), output))
            }
            Transform::Metadata(version) => {
                Ok(response::value(code, &transform::metadata(value, version), output))
            }
            Transform::MetadataList(_) => Err(Status::failure(
                406,
                "NotAcceptable",
                format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list (*v1.{})",
                    self.resource.kind
                ),
            )),
            Transform::Table(version) => {
                let options = table::Options::parse(self.query)?;
                let metadata = value["metadata"].clone();
                let list = transform::ListMeta {
                    resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                    ..transform::ListMeta::default()
                };
                let table = table::build(
                    self.resource,
                    version,
                    options,
                    vec![value],
                    &list,
                    self.server.clock.now(),
                );
                Ok(response::value(code, &table, output))
            }
        }
    }
}

/// The type of an object by what it calls itself.
fn api_type(value: &Value) -> Option<apimachinery::schema::TypeId> {
    let (group, version) = apimachinery::gvk::split(value["apiVersion"].as_str()?).ok()?;
    api::object_type(group, version, value["kind"].as_str()?)
}
