//! DELETE of one object or of a collection.

use apimachinery::status::Status;
use etcd::KeyValue;
use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Response;
use serde_json::Value;

use super::{
    Call, body,
    body::Expected,
    list,
    options::{DeleteOptions, FieldValidation, ListOptions},
};
use crate::{
    negotiation,
    registry::{generic::Scope, strategy},
    server::Body,
    storage,
};

/// So many objects of a collection are deleted at a time: they become durable together.
const AT_ONCE: usize = 64;

pub(super) async fn delete(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let options = options(call, body).await?;
    warn_of_orphans(call, &options);
    let (outcome, gone) = call.scope().delete(&options).await?;
    let accepted = !gone && options.orphan_dependents == Some(false);
    call.respond(if accepted { 202 } else { 200 }, outcome, output)
}

pub(super) async fn delete_collection(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let wanted = ListOptions::parse(call.query, false)?;
    strategy::check_fields(call.resource, &wanted.fields)?;
    let shape = list::Shape::new(call, output)?;
    let options = options(call, body).await?;
    warn_of_orphans(call, &options);
    let name = wanted.fields.requires_exact_match("metadata.name").map(str::to_owned);
    let found = list::find(call, name.as_deref(), &wanted).await?;
    let mut running = FuturesUnordered::new();
    for kv in &found.items {
        if running.len() == AT_ONCE
            && let Some(done) = running.next().await
        {
            done?;
        }
        running.push(delete_found(call, &options, kv));
    }
    while let Some(done) = running.next().await {
        done?;
    }
    drop(running);
    // As they were listed, which is what upstream answers.
    list::respond(call, shape, output, found)
}

/// Deletes what a list has found, unless somebody was faster.
async fn delete_found(call: &Call<'_>, options: &DeleteOptions, kv: &KeyValue) -> Result<(), Status> {
    let (namespace, name) = storage::name_in(call.resource, &kv.key);
    let scope = Scope { namespace, ..call.scope_of(name) };
    match scope.delete(options).await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

/// From the body if there is one, else from the query.
async fn options(call: &Call<'_>, body: Body) -> Result<DeleteOptions, Status> {
    let bytes = body::read(call, body).await?;
    if bytes.is_empty() {
        return DeleteOptions::from_query(call.query);
    }
    let format = negotiation::input(&call.headers)?;
    DeleteOptions::from_value(&decode_options(&bytes, format, call)?)
}

/// `DeleteOptions` of `v1`, of `meta.k8s.io/v1`, or of any group, as old clients send it.
fn decode_options(bytes: &[u8], format: negotiation::Format, call: &Call<'_>) -> Result<Value, Status> {
    let object = api::object_type("", "v1", "DeleteOptions")
        .ok_or_else(|| Status::internal("the type of DeleteOptions is missing"))?;
    let decoded = match format {
        negotiation::Format::Json => apimachinery::codec::json::decode(api::schema(), object, bytes),
        negotiation::Format::Yaml => apimachinery::codec::yaml::decode(api::schema(), object, bytes),
        negotiation::Format::Protobuf => body::from_protobuf(object, bytes),
    };
    let decoded = decoded.map_err(|e| Status::bad_request(e.to_string()))?;
    let kind = decoded.value["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "DeleteOptions") {
        let expected = Expected { group: "", version: "v1", kind: "DeleteOptions", object };
        return body::decode(bytes, format, expected, FieldValidation::Ignore, &call.warnings);
    }
    Ok(decoded.value)
}

/// Jobs keep their pods unless told otherwise, which surprises people.
fn warn_of_orphans(call: &Call<'_>, options: &DeleteOptions) {
    let silent = options.orphan_dependents.is_some() || options.propagation_policy.is_some();
    if !silent && call.resource.kind == "Job" && call.resource.group == "batch" {
        call.warnings.add(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}
