//! The objects of a request in the version in which a webhook or a policy wants to see them, and back.

use std::borrow::Cow;

use apimachinery::{codec, gvk::GroupVersionKind, managed_fields, status::Status};
use serde_json::Value;

use crate::{
    conversion, custom,
    registry::{generic::Scope, scale},
    storage,
};

/// An object of the request (or the stored one that it is about) as one of `kind`; `Null` stays `Null`. Of a request
/// for a scale, whose object is the workload here, its Scale.
///
/// # Errors
/// 500 for an object that cannot be shown so.
pub async fn shown<'v>(
    scope: &Scope<'_>,
    object: &'v Value,
    kind: &GroupVersionKind,
) -> Result<Cow<'v, Value>, Status> {
    if object.is_null() {
        return Ok(Cow::Borrowed(object));
    }
    if is_scale(scope) {
        return scale::of(scope.resource, object).map(Cow::Owned);
    }
    if !has_other_version(scope, kind) {
        return Ok(managed_fields::unfolded(object));
    }
    let mut object = converted(scope, object.clone(), &scope.resource.gvk(), kind).await?;
    managed_fields::unfold(&mut object);
    Ok(Cow::Owned(object))
}

/// What somebody has made of an object that was [`shown`], as the request has it: read anew, with defaults. `before`
/// is the request's object as it was.
///
/// # Errors
/// 500 for what is no object of the kind any more, 422 and others for a Scale that cannot be.
pub async fn taken(
    scope: &Scope<'_>,
    before: &Value,
    changed: Value,
    kind: &GroupVersionKind,
) -> Result<Value, Status> {
    let object = settled(scope, changed, kind)?;
    if is_scale(scope) {
        return scale::apply(scope.resource, &object, before);
    }
    if has_other_version(scope, kind) {
        return converted(scope, object, kind, &scope.resource.gvk()).await;
    }
    Ok(object)
}

async fn converted(
    scope: &Scope<'_>,
    mut object: Value,
    from: &GroupVersionKind,
    to: &GroupVersionKind,
) -> Result<Value, Status> {
    let api_version = to.group_version().to_string();
    if custom::of(scope.resource).is_some() {
        object = scope.server.shown_in(scope.resource, object, &api_version).await?;
    } else {
        conversion::convert(&mut object, &to.kind, (&from.group, &from.version), (&to.group, &to.version));
        object["apiVersion"] = api_version.into();
    }
    settled(scope, object, to)
}

/// An object of a kind in normal form, with defaults, whatever was written into it: what the kind does not have is
/// gone.
fn settled(scope: &Scope<'_>, mut object: Value, kind: &GroupVersionKind) -> Result<Value, Status> {
    let found;
    let own = match kind.kind == scope.resource.kind {
        true if has_other_version(scope, kind) => {
            found = scope.server.catalog.by_kind(&kind.group, &kind.version, &kind.kind);
            found.as_deref().and_then(custom::of)
        }
        true => custom::of(scope.resource),
        false => None,
    };
    if let Some(custom) = own {
        custom.coerce(&mut object).map_err(Status::internal)?;
        custom.default(&mut object)?;
        return Ok(object);
    }
    let ty = api::object_type(&kind.group, &kind.version, &kind.kind)
        .ok_or_else(|| Status::internal(format_args!("unable to convert to {kind}: unknown kind")))?;
    let decoded = codec::normal::conform(api::schema(), ty, object).map_err(Status::internal)?;
    let mut object = decoded.value;
    conversion::agree(&kind.group, &kind.kind, &mut object);
    kinds::defaults::apply(ty, &mut object);
    storage::codec::set_type_meta(&mut object, &kind.group_version().to_string(), &kind.kind);
    Ok(object)
}

fn is_scale(scope: &Scope<'_>) -> bool {
    scope.subresource == "scale"
}

/// Kinds that belong to a subresource (`Eviction`, `Scale`) are the same wherever the resource is served.
fn has_other_version(scope: &Scope<'_>, kind: &GroupVersionKind) -> bool {
    let own = &scope.resource;
    kind.kind == own.kind && (&kind.group, &kind.version) != (&own.group, &own.version)
}
