//! Stored messages as they are sent: the resourceVersion put in, an envelope or a frame put around, nothing
//! decoded.

use apimachinery::codec::protobuf::envelope;

use super::scan;

/// `ObjectMeta.resourceVersion`.
const VERSION: u64 = 6;

/// An object's message with a resourceVersion. What is stored has an empty one.
pub struct Message<'a> {
    /// Of the object: before the metadata and behind it.
    outer: [&'a [u8]; 2],
    /// Of the metadata: before the version and behind it.
    inner: [&'a [u8]; 2],
    version: Digits,
}

/// A revision as text, without an allocation for each of thousands of objects.
struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    fn new(revision: i64) -> Self {
        let (mut buffer, mut start, mut rest) = ([0; 20], 20, revision.unsigned_abs());
        loop {
            start -= 1;
            buffer[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return Self { buffer, start };
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl<'a> Message<'a> {
    /// `raw`: the message as it is stored, without an envelope.
    pub fn new(raw: &'a [u8], revision: i64) -> Self {
        let (outer, metadata) = match scan::place(raw, |tag| tag == 1) {
            Some((whole, bytes)) => ([&raw[..whole.start], &raw[whole.end..]], bytes),
            None => ([&[][..], raw], &[][..]),
        };
        // Fields come in the order of their tags, so the version's place is before the first that is greater.
        let inner = match scan::place(metadata, |tag| tag >= VERSION) {
            Some((whole, _)) => {
                let is_version = scan::tag(&metadata[whole.clone()]) == Some(VERSION);
                let behind = if is_version { whole.end } else { whole.start };
                [&metadata[..whole.start], &metadata[behind..]]
            }
            None => [metadata, &[][..]],
        };
        Self { outer, inner, version: Digits::new(revision) }
    }

    fn metadata_length(&self) -> usize {
        self.inner[0].len() + field_length(self.version.as_bytes().len()) + self.inner[1].len()
    }

    /// Bytes of the message.
    pub fn length(&self) -> usize {
        self.outer[0].len() + field_length(self.metadata_length()) + self.outer[1].len()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.outer[0]);
        self.write_metadata_only(out);
        out.extend_from_slice(self.outer[1]);
    }

    /// Bytes of a `PartialObjectMetadata` of the object.
    pub fn metadata_only_length(&self) -> usize {
        field_length(self.metadata_length())
    }

    /// A `PartialObjectMetadata` of the object: it has the metadata in field 1, as every kind.
    pub fn write_metadata_only(&self, out: &mut Vec<u8>) {
        put_head(1, self.metadata_length(), out);
        out.extend_from_slice(self.inner[0]);
        put_field(VERSION as u8, self.version.as_bytes(), out);
        out.extend_from_slice(self.inner[1]);
    }
}

/// An object in upstream's envelope, `k8s\0`; `write` appends the message of `length` bytes.
pub fn enveloped(
    api_version: &str,
    kind: &str,
    length: usize,
    write: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    out.reserve(length + api_version.len() + kind.len() + 32);
    envelope::begin(api_version, kind, length, out);
    write(out);
    envelope::end(out);
}

/// A frame of a watch: four bytes of length, then a `WatchEvent` (which has no envelope) around the enveloped
/// object.
pub fn frame(event: &str, object: &[u8]) -> Vec<u8> {
    let raw = field_length(object.len());
    let length = field_length(event.len()) + field_length(raw);
    let mut out = Vec::with_capacity(4 + length);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    put_field(1, event.as_bytes(), &mut out);
    put_head(2, raw, &mut out);
    put_field(1, object, &mut out);
    out
}

/// Bytes of a field of fewer than 16 with `length` bytes in it.
pub fn field_length(length: usize) -> usize {
    1 + varint_length(length) + length
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Begins a field with bytes in it; `tag` is below 16.
pub fn put_head(tag: u8, length: usize, out: &mut Vec<u8>) {
    out.push(tag << 3 | 2);
    put_varint(length as u64, out);
}

/// A field with a number; `tag` is below 16.
pub fn put_number(tag: u8, number: u64, out: &mut Vec<u8>) {
    out.push(tag << 3);
    put_varint(number, out);
}

fn put_varint(mut rest: u64, out: &mut Vec<u8>) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A field with bytes in it; `tag` is below 16.
pub fn put_field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    put_head(tag, bytes.len(), out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_field(tag, bytes, &mut out);
        out
    }

    #[test]
    fn the_version_is_put_in() {
        let labels = field(11, &[7; 200]);
        let expect = [field(1, b"name"), field(6, b"42"), labels.clone()].concat();
        let spec = field(2, b"spec");
        for stored in [
            [field(1, b"name"), field(6, b""), labels.clone()].concat(),
            [field(1, b"name"), labels.clone()].concat(),
            [field(1, b"name"), field(6, b"a version of old"), labels.clone()].concat(),
        ] {
            let raw = [field(1, &stored), spec.clone()].concat();
            let message = Message::new(&raw, 42);
            let mut out = Vec::new();
            message.write(&mut out);
            assert_eq!(out, [field(1, &expect), spec.clone()].concat());
            assert_eq!(out.len(), message.length());
            out.clear();
            message.write_metadata_only(&mut out);
            assert_eq!(out, field(1, &expect));
            assert_eq!(out.len(), message.metadata_only_length());
        }
        // An object without metadata, and broken bytes.
        for raw in [spec.clone(), vec![], vec![0x0a, 0x7f], vec![0xff; 30]] {
            let message = Message::new(&raw, 1);
            let mut out = Vec::new();
            message.write(&mut out);
            assert_eq!(out, [field(1, &field(6, b"1")), raw].concat());
        }
    }

    #[test]
    fn digits() {
        for revision in [0, 7, 10, 12345, i64::MAX] {
            assert_eq!(Digits::new(revision).as_bytes(), revision.to_string().as_bytes());
        }
    }

    #[test]
    fn lengths() {
        for length in [0, 1, 127, 128, 16383, 16384, 1 << 21] {
            let mut out = Vec::new();
            put_head(1, length, &mut out);
            assert_eq!(out.len() + length, field_length(length), "{length}");
        }
        assert_eq!(frame("A", b"x"), [&[0, 0, 0, 8], &b"\x0a\x01A\x12\x03\x0a\x01x"[..]].concat());
    }
}
