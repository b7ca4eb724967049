//! GET of a collection: the kept bytes of its objects, strung together.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use apimachinery::{schema::Resource, status::Status};
use bytes::{Bytes, BytesMut};
use etcd::KeyValue;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;

use super::{Call, options::ListOptions, table, transform};
use crate::{
    negotiation::{self, Format, Transform},
    registry::strategy,
    response::{self, Gzip},
    server::{Body, BoxError},
    storage::{Storage, list::Listing},
};

/// How much of a list is put together at once. Large lists never lie in memory as a whole.
const CHUNK: usize = 128 * 1024;

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let options = ListOptions::parse(call.query, false)?;
    strategy::check_fields(call.resource, &options.fields)?;
    let name = options.fields.requires_exact_match("metadata.name").map(str::to_owned);
    let found = call.server.storage.list(call.resource, call.namespace(), name.as_deref(), &options).await?;
    let meta = transform::ListMeta {
        resource_version: found.revision.to_string(),
        continue_token: found.continue_token.clone(),
        remaining: found.remaining,
    };
    let decode = || -> Result<Vec<_>, Status> {
        found.items.iter().map(|kv| call.server.storage.decode(call.resource, kv)).collect()
    };
    match output.transform {
        Transform::None => {}
        Transform::Table(version) => {
            let options = table::Options::parse(call.query)?;
            let now = call.server.clock.now();
            let table = table::build(call.resource, version, options, decode()?, &meta, now);
            return Ok(response::value(200, &table, output));
        }
        Transform::MetadataList(version) => {
            return Ok(response::value(200, &transform::metadata_list(decode()?, &meta, version), output));
        }
        Transform::Metadata(_) => {
            return Err(Status::failure(
                406,
                "NotAcceptable",
                format!(
                    "you requested PartialObjectMetadata, but the requested object is a list (*v1.{}List)",
                    call.resource.kind
                ),
            ));
        }
    }
    let mut body = ListBody::new(call.server.storage.clone(), call.resource, found, &meta);
    if output.format != Format::Json || output.pretty {
        let mut all = BytesMut::new();
        while let Some(chunk) = body.chunk()? {
            all.extend_from_slice(&chunk);
        }
        return Ok(response::json_text(200, all.freeze(), output));
    }
    let first = body.chunk()?.unwrap_or_default();
    if body.is_done() {
        let mut response = response::bytes(200, "application/json", first.clone());
        response::compress(&call.headers, &mut response, first.len());
        return Ok(response);
    }
    let gzip = response::wants_gzip(&call.headers);
    body.pending = Some(first);
    body.gzip = gzip.then(Gzip::default);
    let mut response = response::bytes(200, "application/json", Bytes::new());
    if gzip {
        response::set_gzip(response.headers_mut());
    }
    *response.body_mut() = body.boxed_unsync();
    Ok(response)
}

/// The list of a kind that is never stored.
pub(super) fn empty(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let list = serde_json::json!({
        "kind": format!("{}List", call.resource.kind),
        "apiVersion": call.resource.api_version(),
        "metadata": {},
        "items": [],
    });
    Ok(response::value(200, &list, output))
}

/// A list that is written as it is read.
struct ListBody {
    storage: Storage,
    resource: &'static Resource,
    items: vec::IntoIter<Arc<KeyValue>>,
    head: Option<Vec<u8>>,
    first: bool,
    done: bool,
    /// Made already, to be sent first.
    pending: Option<Bytes>,
    gzip: Option<Gzip>,
}

impl ListBody {
    fn new(
        storage: Storage,
        resource: &'static Resource,
        found: Listing,
        meta: &transform::ListMeta,
    ) -> Self {
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            resource.kind,
            resource.api_version(),
            meta.to_value()
        );
        Self {
            storage,
            resource,
            items: found.items.into_iter(),
            head: Some(head.into_bytes()),
            first: true,
            done: false,
            pending: None,
            gzip: None,
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece of JSON; `None` after the last.
    fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        if self.done {
            return Ok(None);
        }
        // Lists of little are made in a buffer of little.
        let mut out = self.head.take().unwrap_or_else(|| Vec::with_capacity(CHUNK + CHUNK / 8));
        if self.items.len() > 64 {
            out.reserve(CHUNK + CHUNK / 8);
        }
        for kv in self.items.by_ref() {
            let frame = self.storage.frame(self.resource, &kv)?;
            out.extend_from_slice(if self.first { b"{" } else { b",{" });
            self.first = false;
            out.extend_from_slice(frame.item());
            if out.len() >= CHUNK {
                return Ok(Some(out.into()));
            }
        }
        self.done = true;
        out.extend_from_slice(b"]}\n");
        Ok(Some(out.into()))
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let chunk = match this.pending.take() {
                Some(chunk) => Ok(Some(chunk)),
                None => this.chunk(),
            };
            return Poll::Ready(match chunk {
                // The answer has begun: breaking off is all that is left.
                Err(status) => Some(Err(Box::new(status))),
                Ok(Some(chunk)) => match &mut this.gzip {
                    None => Some(Ok(Frame::data(chunk))),
                    Some(gzip) => {
                        let ready = gzip.push(&chunk);
                        if ready.is_empty() {
                            continue;
                        }
                        Some(Ok(Frame::data(ready)))
                    }
                },
                Ok(None) => this.gzip.take().map(|gzip| Ok(Frame::data(gzip.finish()))),
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.pending.is_none() && self.gzip.is_none()
    }
}
