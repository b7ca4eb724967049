//! PUT of an object or of its status, approval, finalizers, …

use apimachinery::status::Status;
use http::Response;

use super::{Call, body, options::WriteOptions};
use crate::{negotiation, registry::meta, server::Body};

pub(super) async fn update(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let mut object = call.decode(&bytes, call.expected()?, options.field_validation)?;
    meta::match_namespace(&mut object, call.namespace())?;
    meta::match_name(&object, &call.info.name)?;
    let (outcome, created) = call.scope().update(&options, &|_| Ok(object.clone())).await?;
    call.respond(if created { 201 } else { 200 }, outcome, output)
}
