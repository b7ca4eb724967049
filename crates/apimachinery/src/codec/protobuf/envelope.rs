//! What upstream puts around every stored or sent protobuf object: four bytes, then a `runtime.Unknown` with
//! the object's kind and its message.

use super::Error;
use super::read::Fields;
use super::ser::{put_bytes, put_key, put_varint};

/// The first bytes of every object.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// An opened envelope; borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The object's message, without kind and apiVersion.
    pub raw: &'a [u8],
}

/// Whether these bytes begin as an envelope does.
pub fn is_envelope(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Puts a message into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    begin(api_version, kind, raw.len(), &mut out);
    out.extend_from_slice(raw);
    end(&mut out);
    out
}

/// Appends everything before the message, whose length must be known.
pub fn begin(api_version: &str, kind: &str, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 8);
    put_bytes(1, api_version.as_bytes(), &mut meta);
    put_bytes(2, kind.as_bytes(), &mut meta);
    put_bytes(1, &meta, out);
    put_key(2, 2, out);
    put_varint(length as u64, out);
}

/// Appends everything behind the message: empty content encoding and type.
pub fn end(out: &mut Vec<u8>) {
    put_bytes(3, b"", out);
    put_bytes(4, b"", out);
}

/// Opens an envelope.
pub fn unwrap(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Error::Envelope)?;
    let mut envelope = Envelope { api_version: "", kind: "", raw: &[] };
    let mut fields = Fields::new(rest);
    while let Some((tag, datum)) = fields.next()? {
        match tag {
            1 => {
                let mut meta = Fields::new(datum.bytes()?);
                while let Some((tag, datum)) = meta.next()? {
                    let target = match tag {
                        1 => &mut envelope.api_version,
                        2 => &mut envelope.kind,
                        _ => continue,
                    };
                    *target = std::str::from_utf8(datum.bytes()?).map_err(|_| Error::Envelope)?;
                }
            }
            2 => envelope.raw = datum.bytes()?,
            _ => {}
        }
    }
    Ok(envelope)
}
