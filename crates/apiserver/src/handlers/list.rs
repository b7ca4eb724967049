//! GET of a collection: the kept bytes of its objects, strung together.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use apimachinery::{
    codec::protobuf::envelope,
    schema::{Resource, ResourceRef},
    status::Status,
};
use bytes::{Bytes, BytesMut};
use etcd::KeyValue;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::{
    Call,
    options::ListOptions,
    table::{self, Shown},
    transform::ListMeta,
};
use crate::{
    custom,
    negotiation::{self, Format, Output, Transform},
    registry::strategy,
    response::{self, Gzip},
    server::{Body, BoxError},
    storage::{METADATA_ONLY, Storage, list::Listing, metadata_only, splice, splice::Message},
};

/// How much of a list is put together at once. Large lists never lie in memory as a whole.
const CHUNK: usize = 128 * 1024;

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::output(&call.headers, call.query)?;
    let mut options = ListOptions::parse(call.query, false)?;
    strategy::check_fields(call.resource, &options.fields)?;
    options.select_name(&call.info.name)?;
    let name = options.fields.requires_exact_match("metadata.name").map(str::to_owned);
    let shape = Shape::new(call, output)?;
    let found = find(call, name.as_deref(), &options).await?;
    respond(call, shape, output, found)
}

/// The objects of a list, in the resource's version.
pub(super) async fn find(
    call: &Call<'_>,
    name: Option<&str>,
    options: &ListOptions,
) -> Result<Listing, Status> {
    let storage = &call.server.storage;
    if !custom::needs_webhook(call.resource) {
        return storage.list(call.resource, call.namespace(), name, options).await;
    }
    // Fields are those of the converted objects, so they are looked at behind the conversion; a list by fields comes
    // in one piece.
    let mut wanted = options.clone();
    let fields = std::mem::take(&mut wanted.fields);
    if !fields.is_empty() {
        wanted.limit = 0;
    }
    let mut found = storage.list(call.resource, call.namespace(), name, &wanted).await?;
    found.items = call.server.all_in_version(call.resource, found.items).await?;
    found.items.retain(|kv| storage.matches_fields(call.resource, kv, &fields));
    Ok(found)
}

/// What was found, in the form that was asked for.
pub(super) fn respond(
    call: &Call<'_>,
    shape: Shape,
    output: Output,
    mut found: Listing,
) -> Result<Response<Body>, Status> {
    let storage = &call.server.storage;
    let meta = ListMeta {
        resource_version: found.revision.to_string(),
        continue_token: found.continue_token.clone(),
        remaining: found.remaining,
    };
    if let Shape::Table { columns, .. } = &shape
        && let Some(order) = columns.order()
    {
        let decode = |kv: Arc<KeyValue>| Ok((storage.decode(call.resource, &kv)?, kv));
        let mut decoded = found.items.into_iter().map(decode).collect::<Result<Vec<_>, Status>>()?;
        decoded.sort_by(|(a, _), (b, _)| order(a, b));
        found.items = decoded.into_iter().map(|(_, kv)| kv).collect();
    }
    let mut body = ListBody::new(storage.clone(), call.resource.clone(), shape, found, &meta)?;
    let media_type = match output.format {
        Format::Protobuf => output.format.media_type(),
        _ => Format::Json.media_type(),
    };
    if output.format == Format::Yaml || output.format == Format::Json && output.pretty {
        let mut all = BytesMut::new();
        while let Some(chunk) = body.chunk()? {
            all.extend_from_slice(&chunk);
        }
        return Ok(response::json_text(200, all.freeze(), output));
    }
    let first = body.chunk()?.unwrap_or_default();
    if body.is_done() {
        let mut response = response::bytes(200, media_type, first.clone());
        response::compress(&call.headers, &mut response, first.len());
        return Ok(response);
    }
    let gzip = response::wants_gzip(&call.headers);
    body.pending = Some(first);
    body.gzip = gzip.then(Gzip::default);
    let mut response = response::bytes(200, media_type, Bytes::new());
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

/// So many pieces of a protobuf list are made at once.
const MADE: usize = 32;

/// What a list is made of.
pub(super) enum Shape {
    Json,
    /// `PartialObjectMetadataList`.
    Metadata(&'static str),
    Table {
        version: &'static str,
        options: table::Options,
        columns: Shown,
        now: Timestamp,
    },
    Protobuf,
    ProtobufMetadata(&'static str),
}

impl Shape {
    pub(super) fn new(call: &Call<'_>, output: Output) -> Result<Self, Status> {
        Ok(match (output.transform, output.format) {
            (Transform::None, Format::Protobuf) => {
                refuse_protobuf(call.resource)?;
                Self::Protobuf
            }
            (Transform::None, _) => Self::Json,
            (Transform::MetadataList(version), Format::Protobuf) => Self::ProtobufMetadata(version),
            (Transform::MetadataList(version), _) => Self::Metadata(version),
            (Transform::Table(version), _) => Self::Table {
                version,
                options: table::Options::parse(call.query)?,
                columns: Shown::of(call.resource),
                now: call.server.clock.now(),
            },
            (Transform::Metadata(_), _) => {
                return Err(Status::failure(
                    406,
                    "NotAcceptable",
                    format!(
                        "you requested PartialObjectMetadata, but the requested object is a list (*v1.{}List)",
                        call.resource.kind
                    ),
                ));
            }
        })
    }
}

/// Custom objects have no form in protobuf.
pub(super) fn refuse_protobuf(resource: &Resource) -> Result<(), Status> {
    match custom::of(resource) {
        Some(_) => Err(negotiation::not_acceptable(negotiation::UNSTRUCTURED)),
        None => Ok(()),
    }
}

/// A list that is written as it is read.
struct ListBody {
    storage: Storage,
    resource: ResourceRef,
    shape: Shape,
    items: vec::IntoIter<Arc<KeyValue>>,
    head: Option<Vec<u8>>,
    first: bool,
    done: bool,
    /// Made already, to be sent first.
    pending: Option<Bytes>,
    /// Pieces that were made to know their length, before those that are still to be made.
    made: VecDeque<Vec<u8>>,
    gzip: Option<Gzip>,
}

impl ListBody {
    fn new(
        storage: Storage,
        resource: ResourceRef,
        shape: Shape,
        found: Listing,
        meta: &ListMeta,
    ) -> Result<Self, Status> {
        let mut body = Self {
            storage,
            resource,
            shape,
            items: found.items.into_iter(),
            head: None,
            first: true,
            done: false,
            pending: None,
            made: VecDeque::new(),
            gzip: None,
        };
        body.head = Some(body.make_head(meta)?);
        Ok(body)
    }

    /// Everything before the first item. A protobuf envelope says first how long it is.
    fn make_head(&mut self, meta: &ListMeta) -> Result<Vec<u8>, Status> {
        let kind = &self.resource.kind;
        let json = |kind: &str, api_version: &str, more: &str| {
            let head = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\"");
            format!("{head},\"metadata\":{},{more}:[", meta.to_json()).into_bytes()
        };
        let of_meta = |version: &str| format!("meta.k8s.io/{version}");
        let (kind, api_version, metadata_only) = match &self.shape {
            Shape::Json => {
                let kind = custom::list_kind(&self.resource);
                return Ok(json(&kind, &self.resource.api_version(), "\"items\""));
            }
            Shape::Metadata(version) => {
                return Ok(json(&format!("{METADATA_ONLY}List"), &of_meta(version), "\"items\""));
            }
            Shape::Table { version, options, columns, .. } => {
                let definitions = table::definitions(columns, *options);
                let more = format!("\"columnDefinitions\":{definitions},\"rows\"");
                return Ok(json("Table", &of_meta(version), &more));
            }
            Shape::Protobuf => (format!("{kind}List"), self.resource.api_version(), false),
            Shape::ProtobufMetadata(version) => (format!("{METADATA_ONLY}List"), of_meta(version), true),
        };
        let meta = meta.to_message();
        let mut length = splice::field_length(meta.len());
        // What is small enough is put together at once; of the rest only the length is found out first, since
        // going through thousands of objects twice costs as much again.
        while self.items.len() > 0 && self.made.len() < MADE {
            let piece = self.piece(Vec::new())?;
            length += piece.len();
            self.made.push_back(piece);
        }
        for kv in self.items.as_slice() {
            let raw = self.storage.message(&self.resource, kv)?;
            let message = Message::new(&raw, kv.mod_revision);
            let item = if metadata_only { message.metadata_only_length() } else { message.length() };
            length += splice::field_length(item);
        }
        let mut out = Vec::with_capacity(256);
        envelope::begin(&api_version, &kind, length, &mut out);
        splice::put_field(1, &meta, &mut out);
        Ok(out)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece; `None` after the last.
    fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        if self.done {
            return Ok(None);
        }
        let mut out = self.head.take().unwrap_or_default();
        match self.made.pop_front() {
            // A whole piece, or the last.
            Some(made) if out.is_empty() => out = made,
            Some(made) => out.extend_from_slice(&made),
            None => out = self.piece(out)?,
        }
        if self.items.len() > 0 || !self.made.is_empty() {
            return Ok(Some(out.into()));
        }
        self.done = true;
        match self.shape {
            Shape::Protobuf | Shape::ProtobufMetadata(_) => envelope::end(&mut out),
            _ => out.extend_from_slice(b"]}\n"),
        }
        Ok(Some(out.into()))
    }

    /// Adds items up to the size of a piece.
    fn piece(&mut self, mut out: Vec<u8>) -> Result<Vec<u8>, Status> {
        // Lists of little are made in a buffer of little.
        if self.items.len() > 64 {
            out.reserve(CHUNK + CHUNK / 8);
        }
        while let Some(kv) = self.items.next() {
            self.item(&kv, &mut out)?;
            if out.len() >= CHUNK {
                break;
            }
        }
        Ok(out)
    }

    fn item(&mut self, kv: &KeyValue, out: &mut Vec<u8>) -> Result<(), Status> {
        let (storage, resource) = (&self.storage, &self.resource);
        if let Shape::Protobuf | Shape::ProtobufMetadata(_) = self.shape {
            let raw = storage.message(resource, kv)?;
            let message = Message::new(&raw, kv.mod_revision);
            if let Shape::Protobuf = self.shape {
                splice::put_head(2, message.length(), out);
                message.write(out);
            } else {
                splice::put_head(2, message.metadata_only_length(), out);
                message.write_metadata_only(out);
            }
            return Ok(());
        }
        if !std::mem::take(&mut self.first) {
            out.push(b',');
        }
        match &self.shape {
            Shape::Table { version, options, columns, now } => {
                let row = match storage.row(resource, kv) {
                    Some(row) => row,
                    None => {
                        let (row, keepable) = table::make_row(columns, &storage.decode(resource, kv)?, *now);
                        let row = Arc::new(row);
                        if keepable {
                            storage.keep_row(resource, kv, row.clone());
                        }
                        row
                    }
                };
                let frame = match options.include {
                    table::Include::Nothing => None,
                    _ => Some(storage.frame(resource, kv)?),
                };
                table::write_row(&row, version, options.include, frame.as_ref(), *now, out);
            }
            // Upstream's items carry their kind, unlike those of other lists.
            Shape::Metadata(version) => metadata_only(&storage.frame(resource, kv)?, version, out),
            // As do custom objects.
            _ if custom::of(resource).is_some() => {
                out.extend_from_slice(&storage.frame(resource, kv)?.object());
            }
            _ => {
                out.push(b'{');
                out.extend_from_slice(storage.frame(resource, kv)?.item());
            }
        }
        Ok(())
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
