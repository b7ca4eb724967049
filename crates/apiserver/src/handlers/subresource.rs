//! Subresources with a kind of their own: scale, binding, eviction, token.

use apimachinery::status::Status;
use http::Response;
use serde_json::Value;

use super::{Call, body, options::WriteOptions, patch};
use crate::{
    negotiation::{self, Output},
    registry::{self, generic::Outcome, meta, scale},
    server::Body,
};

/// POST to `pods/binding`, `pods/eviction`, `serviceaccounts/token`.
pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = negotiation::plain(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut object = call.decode(&bytes, call.expected()?, options.field_validation)?;
    meta::match_namespace(&mut object, call.namespace())?;
    let answer = registry::create_subresource(&call.scope(), object, &options).await?;
    call.respond_value(201, answer, output)
}

pub(super) async fn get_scale(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let kv = call.server.storage.get(call.resource, call.namespace(), &call.info.name)?;
    let kv = call.server.in_version(call.resource, kv.ok_or_else(|| call.not_found())?).await?;
    let object = call.server.storage.decode(call.resource, &kv)?;
    call.respond_value(200, scale::of(call.resource, &object)?, output)
}

pub(super) async fn update_scale(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let mut wanted = call.decode(&bytes, call.expected()?, options.field_validation)?;
    meta::match_namespace(&mut wanted, call.namespace())?;
    meta::match_name(&wanted, &call.info.name)?;
    write_scale(call, &options, output, &|_| Ok(wanted.clone())).await
}

pub(super) async fn patch_scale(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let patch_type = patch::patch_type(call)?;
    let output = negotiation::output(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = patch::options(call, patch_type)?;
    let expected = call.expected()?;
    if patch_type == patch::PatchType::Apply {
        let config = patch::Configuration::parse(&bytes)?;
        let scope = call.scope();
        let change = |old: Option<&Value>| {
            let old = old.ok_or_else(|| call.not_found())?;
            let new = scope.apply_to_scale(old, expected.object, &config.value, &options)?;
            config.complain(options.field_validation, &call.warnings)?;
            Ok(new)
        };
        let (outcome, _) = scope.apply(&options, &change).await?;
        return respond_scale(call, outcome, output);
    }
    write_scale(call, &options, output, &|old| {
        patch::apply(patch_type, &bytes, old, expected, None, options.field_validation, &call.warnings)
    })
    .await
}

async fn write_scale(
    call: &Call<'_>,
    options: &WriteOptions,
    output: Output,
    wanted: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<Response<Body>, Status> {
    let (scope, ty) = (call.scope(), call.expected()?.object);
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| call.not_found())?;
        scope.update_by_scale(old, ty, wanted(&scale::of(call.resource, old)?)?, options)
    };
    let (outcome, _) = scope.apply(options, &change).await?;
    respond_scale(call, outcome, output)
}

fn respond_scale(call: &Call<'_>, outcome: Outcome, output: Output) -> Result<Response<Body>, Status> {
    let object = match outcome {
        Outcome::Stored(kv) => call.server.storage.decode(call.resource, &kv)?,
        Outcome::Object(object) => object,
        Outcome::Done(_) => return Err(call.not_found()),
    };
    call.respond_value(200, scale::of(call.resource, &object)?, output)
}
