//! GET of one object, or of a subresource that shows the object.

use apimachinery::status::Status;
use http::Response;

use super::Call;
use crate::{negotiation, server::Body};

pub(super) async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    if let Some(version) = call.query.get("resourceVersion").filter(|v| !matches!(*v, "" | "0")) {
        let newest = call.server.storage.store().revision().unsigned_abs();
        let wanted: u64 = version.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseUint: parsing {version:?}: invalid syntax"))
        })?;
        if wanted > newest {
            return Err(Status::too_large_resource_version(wanted, newest, 1));
        }
    }
    let kv = call.server.storage.get(call.resource, call.namespace(), &call.info.name)?;
    let kv = kv.ok_or_else(|| call.not_found())?;
    let kv = call.server.in_version(call.resource, kv).await?;
    call.respond_stored(200, &kv, output)
}
