//! POST to a collection.

use apimachinery::status::Status;
use http::Response;

use super::{Call, body, options::WriteOptions};
use crate::{negotiation, registry, registry::meta, server::Body};

pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let output = if call.resource.storage.is_some() { negotiation::output } else { negotiation::plain };
    let output = output(&call.headers, call.query)?;
    negotiation::input(&call.headers)?;
    let bytes = body::read(call, body).await?;
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut object = call.decode(&bytes, call.expected()?, options.field_validation)?;
    let name = meta::name(&object).to_owned();
    let scope = call.scope_of(&name);
    if call.resource.storage.is_none() {
        scope.manage_fields(None, &mut object, &options);
        let answer = registry::create_virtual(&scope, object, &options).await?;
        return call.respond_value(201, answer, output);
    }
    let outcome = scope.create(object, &options).await?;
    call.respond(201, outcome, output)
}
