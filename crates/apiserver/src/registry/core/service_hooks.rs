//! Services hold addresses and ports from their creation to their end.

use std::sync::Arc;

use apimachinery::status::Status;
use serde_json::Value;

use super::service::{Reservation, addresses};
use crate::{registry::generic::Scope, server::ApiServer};

pub use super::service::addresses::{beside_delete, beside_write};

pub fn begin_write(
    scope: &Scope<'_>,
    service: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Option<Reservation>, Status> {
    addresses::look(scope.server, |known| scope.server.allocators.reserve(service, old, dry_run, known))
        .map(Some)
}

pub fn after_delete(server: &Arc<ApiServer>, service: &Value) {
    server.allocators.release(service);
}
