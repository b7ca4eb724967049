//! Finding metadata in stored protobuf bytes without decoding the object.
//!
//! Every kind's field 1 is `ObjectMeta`; the envelope is `k8s\0` and a `runtime.Unknown`.

use super::compact;

/// What precedes every stored protobuf object.
pub const MAGIC: &[u8] = b"k8s\0";

/// One field of a message: its tag and, for length-delimited fields, its bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    /// Ends at the end of the message, or where it is broken.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = varint(&mut self.0)?;
            match key & 7 {
                0 => drop(varint(&mut self.0)?),
                1 => self.0 = self.0.get(8..)?,
                5 => self.0 = self.0.get(4..)?,
                2 => {
                    let length = usize::try_from(varint(&mut self.0)?).ok()?;
                    let (bytes, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    return Some((key >> 3, bytes));
                }
                _ => return None,
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn field(message: &[u8], tag: u64) -> Option<&[u8]> {
    Fields(message).find(|(t, _)| *t == tag).map(|(_, bytes)| bytes)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The first field of a message whose tag is wanted: where it lies, tag and all, and what is in it (nothing,
/// unless it is length-delimited). `None` if there is none before the message's end or first fault.
pub fn place(message: &[u8], wanted: impl Fn(u64) -> bool) -> Option<(std::ops::Range<usize>, &[u8])> {
    let mut rest = message;
    loop {
        let start = message.len() - rest.len();
        let key = varint(&mut rest)?;
        let mut inside: &[u8] = &[];
        match key & 7 {
            0 => drop(varint(&mut rest)?),
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                (inside, rest) = rest.split_at_checked(length)?;
            }
            _ => return None,
        }
        if wanted(key >> 3) {
            return Some((start..message.len() - rest.len(), inside));
        }
    }
}

/// The tag of the field that begins here.
pub fn tag(mut field: &[u8]) -> Option<u64> {
    Some(varint(&mut field)? >> 3)
}

/// The object's own bytes inside the envelope; `None` for anything else, custom objects in JSON among it.
pub fn raw(value: &[u8]) -> Option<&[u8]> {
    field(value.strip_prefix(MAGIC)?, 2)
}

/// `apiVersion` and `kind` of the envelope.
pub fn type_meta(value: &[u8]) -> Option<(&str, &str)> {
    let meta = field(value.strip_prefix(MAGIC)?, 1)?;
    Some((text(field(meta, 1).unwrap_or_default()), text(field(meta, 2).unwrap_or_default())))
}

/// `apiVersion`, `kind` and the object's own bytes, of an envelope as we and upstream write it; `None` for any
/// other. For lists, which open thousands: each value is touched once and nothing of it is checked twice.
pub fn open(value: &[u8]) -> Option<[&[u8]; 3]> {
    let mut envelope = Fields(value.strip_prefix(MAGIC)?);
    let (Some((1, meta)), Some((2, raw))) = (envelope.next(), envelope.next()) else { return None };
    let mut meta = Fields(meta);
    let (Some((1, api_version)), Some((2, kind))) = (meta.next(), meta.next()) else { return None };
    Some([api_version, kind, raw])
}

/// The labels of a stored object, in stored order.
pub fn labels(value: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let json = if value.first() == Some(&b'{') { compact::labels(value) } else { Vec::new() };
    let metadata = raw(value).and_then(|raw| field(raw, 1)).unwrap_or_default();
    let encoded = Fields(metadata).filter(|(tag, _)| *tag == 11).map(|(_, entry)| {
        (text(field(entry, 1).unwrap_or_default()), text(field(entry, 2).unwrap_or_default()))
    });
    json.into_iter().chain(encoded)
}

/// One label's value.
pub fn label<'a>(value: &'a [u8], key: &str) -> Option<&'a str> {
    labels(value).find(|(k, _)| *k == key).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimited(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn labels_of_an_envelope() {
        let label_entry = |k: &str, v: &str| {
            delimited(11, &[delimited(1, k.as_bytes()), delimited(2, v.as_bytes())].concat())
        };
        let metadata = [
            delimited(1, b"name"),
            vec![7 << 3, 0xac, 0x02],
            label_entry("app", "web"),
            label_entry("tier", ""),
        ]
        .concat();
        let object = delimited(1, &metadata);
        let types = [delimited(1, b"v1"), delimited(2, b"ConfigMap")].concat();
        let value = [MAGIC.to_vec(), delimited(1, &types), delimited(2, &object)].concat();
        assert_eq!(labels(&value).collect::<Vec<_>>(), [("app", "web"), ("tier", "")]);
        assert_eq!(label(&value, "app"), Some("web"));
        assert_eq!(type_meta(&value), Some(("v1", "ConfigMap")));
        assert_eq!(open(&value), Some([&b"v1"[..], b"ConfigMap", &object]));
        assert_eq!(open(&value[..value.len() - 1]), None);
        // Broken in any place: fewer labels, no panic.
        for cut in 0..value.len() {
            labels(&value[..cut]).for_each(drop);
        }
    }
}
