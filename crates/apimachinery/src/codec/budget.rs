//! How much memory one object may take while it is decoded.
//!
//! A few bytes can stand for much: an empty container is two in protobuf and more than a thousand as a value, an
//! object with one key is eight in JSON and more than six hundred. What a client sends (3 MiB at most) has to stay
//! below 64 MiB all the same. Go has no such limit; no object of use comes near it.

use serde_json::Value;

/// For a text or message of up to [`SMALL`] bytes.
const MEMORY: usize = 48 << 20;
/// The limit of a request's body.
const SMALL: usize = 3 << 20;
/// What is larger is a list or was stored, and comes from a server: so many bytes for each of its own.
const RATIO: usize = 64;

/// A node of a map's tree: room for eleven entries.
const NODE: usize = 640;
/// Of an entry when nodes are half full, as they are when keys come in order.
const ENTRY: usize = 136;
/// Its key, which may have come from the type.
const NAME: usize = 16;
/// Of a list's element while the list grows: in the old place, and twice in the new.
const ELEMENT: usize = 3 * size_of::<Value>();

/// There is not so much memory for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("takes too much memory")]
pub(super) struct Exhausted;

/// What is left for an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// For an object that is so many bytes long on the wire.
    pub(super) fn new(length: usize) -> Budget {
        Budget { left: if length <= SMALL { MEMORY } else { length.saturating_mul(RATIO) } }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(bytes).ok_or(Exhausted)?;
        Ok(())
    }

    /// One more entry of a map that has `before`.
    pub(super) fn entry(&mut self, before: usize) -> Result<(), Exhausted> {
        self.spend(match before {
            0 => NODE + NAME,
            1..11 => NAME,
            _ => ENTRY + NAME,
        })
    }

    /// One more element of a list that has `before`.
    pub(super) fn element(&mut self, before: usize) -> Result<(), Exhausted> {
        // the first takes room for four
        self.spend(if before == 0 { 4 * size_of::<Value>() } else { ELEMENT })
    }

    /// All that is inside a value which is there already.
    pub(super) fn within(&mut self, value: &Value) -> Result<(), Exhausted> {
        match value {
            Value::Object(map) => map.values().enumerate().try_for_each(|(at, inner)| {
                self.entry(at)?;
                self.within(inner)
            }),
            Value::Array(list) => list.iter().enumerate().try_for_each(|(at, inner)| {
                self.element(at)?;
                self.within(inner)
            }),
            _ => Ok(()),
        }
    }
}
