//! Messages as lists of fields: the part that every reader shares.

use super::Error;
use crate::codec::MAX_DEPTH;
use crate::schema::{Wire, WirePlan};
use crate::time::Moment;

/// One value on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Datum<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Datum<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Datum::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::WireType),
        }
    }

    pub(super) fn int64(self) -> Result<i64, Error> {
        match self {
            Datum::Varint(n) => Ok(n as i64),
            _ => Err(Error::WireType),
        }
    }

    /// As Go reads an int32: the low 32 bits.
    pub(super) fn int32(self) -> Result<i32, Error> {
        self.int64().map(|n| n as i32)
    }

    pub(super) fn bool(self) -> Result<bool, Error> {
        self.int64().map(|n| n as i32 != 0)
    }

    pub(super) fn double(self) -> Result<f64, Error> {
        match self {
            Datum::Fixed64(n) => Ok(f64::from_bits(n)),
            _ => Err(Error::WireType),
        }
    }
}

/// The fields of one message, in their order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, Error> {
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Error::Truncated } else { Error::Overflow })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next tag and value.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Datum<'a>)>, Error> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let key = self.varint()?;
            let tag = u32::try_from(key >> 3).map_err(|_| Error::Overflow)?;
            let datum = match key & 7 {
                0 => Datum::Varint(self.varint()?),
                1 => {
                    let bytes = self.take(8)?;
                    Datum::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Truncated)?))
                }
                2 => {
                    let length = self.varint()?;
                    Datum::Bytes(self.take(length)?)
                }
                3 => {
                    self.skip_group()?;
                    continue;
                }
                5 => {
                    let bytes = self.take(4)?;
                    Datum::Fixed32(u32::from_le_bytes(bytes.try_into().map_err(|_| Error::Truncated)?))
                }
                _ => return Err(Error::WireType),
            };
            return Ok(Some((tag, datum)));
        }
    }

    /// Groups are obsolete and never ours: everything up to the matching end is passed over.
    fn skip_group(&mut self) -> Result<(), Error> {
        let mut open = 1usize;
        while open > 0 {
            if self.rest.is_empty() {
                return Err(Error::Truncated);
            }
            match self.varint()? & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                3 => open += 1,
                4 => open -= 1,
                5 => drop(self.take(4)?),
                _ => return Err(Error::WireType),
            }
        }
        Ok(())
    }

    /// The last value of a tag; what a singular field holds.
    pub(super) fn last(bytes: &'a [u8], wanted: u32) -> Result<Option<Datum<'a>>, Error> {
        let mut fields = Fields::new(bytes);
        let mut found = None;
        while let Some((tag, datum)) = fields.next()? {
            if tag == wanted {
                found = Some(datum);
            }
        }
        Ok(found)
    }
}

/// A known field of a message: its position among the type's JSON fields, and its value.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) at: u16,
    pub(super) datum: Datum<'a>,
}

/// How many fields of an object of so many bytes may be open at once: a field that says anything takes more than
/// these few bytes, and what an empty one costs here is many times its two.
pub(super) fn room(length: usize) -> usize {
    (1 << 18).max(length / 8)
}

/// Appends the known fields of a message to `stack` in JSON's order, repeated ones in their own.
///
/// One stack serves a whole object: a frame is read by position and cut off when its message is done. It holds at
/// most `room` fields ([`room`]).
pub(super) fn scan<'a>(
    plan: &WirePlan,
    bytes: &'a [u8],
    stack: &mut Vec<Found<'a>>,
    room: usize,
) -> Result<(), Error> {
    let start = stack.len();
    collect(plan, bytes, stack, room, 0)?;
    let frame = stack.get_mut(start..).unwrap_or_default();
    if !frame.is_sorted_by_key(|found| found.at) {
        frame.sort_by_key(|found| found.at);
    }
    Ok(())
}

fn collect<'a>(
    plan: &WirePlan,
    bytes: &'a [u8],
    stack: &mut Vec<Found<'a>>,
    room: usize,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    let mut fields = Fields::new(bytes);
    while let Some((tag, datum)) = fields.next()? {
        match plan.find(tag) {
            None => {}
            Some(Wire::Field { .. }) if stack.len() >= room => return Err(Error::Memory),
            Some(Wire::Field { at, .. }) => stack.push(Found { at: *at, datum }),
            Some(Wire::Inline { plan, .. }) => collect(plan, datum.bytes()?, stack, room, depth + 1)?,
        }
    }
    Ok(())
}

/// Key and value of a map entry; an absent value is `None`.
pub(super) fn entry(bytes: &[u8]) -> Result<(&[u8], Option<Datum<'_>>), Error> {
    let (mut key, mut value) = (&[][..], None);
    let mut fields = Fields::new(bytes);
    while let Some((tag, datum)) = fields.next()? {
        match tag {
            1 => key = datum.bytes()?,
            2 => value = Some(datum),
            _ => {}
        }
    }
    Ok((key, value))
}

/// A `Time` or `MicroTime` (cut to microseconds); `None` is Go's zero time.
pub(super) fn moment(bytes: &[u8]) -> Result<Option<Moment>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields::new(bytes);
    while let Some((tag, datum)) = fields.next()? {
        match tag {
            1 => seconds = datum.int64()?,
            2 => nanos = datum.int32()?,
            _ => {}
        }
    }
    let nanos = u32::try_from(nanos).unwrap_or(0).min(999_999_999) / 1_000 * 1_000;
    // beyond the years 0 to 9999 Go fails to write it
    let seconds = seconds.clamp(crate::time::GO_ZERO, 253_402_300_799);
    let at = Moment { seconds, nanos };
    Ok((!at.is_zero()).then_some(at))
}

/// An `IntOrString`.
pub(super) enum IntOrText<'a> {
    Int(i32),
    Text(&'a [u8]),
}

pub(super) fn int_or_text(bytes: &[u8]) -> Result<IntOrText<'_>, Error> {
    let (mut kind, mut int, mut text) = (0, 0, &[][..]);
    let mut fields = Fields::new(bytes);
    while let Some((tag, datum)) = fields.next()? {
        match tag {
            1 => kind = datum.int64()?,
            2 => int = datum.int32()?,
            3 => text = datum.bytes()?,
            _ => {}
        }
    }
    Ok(if kind == 1 { IntOrText::Text(text) } else { IntOrText::Int(int) })
}

/// The one field of a wrapped text (`Quantity`), bytes (`RawExtension`, `JSON`, `FieldsV1`).
pub(super) fn wrapped(bytes: &[u8]) -> Result<&[u8], Error> {
    Fields::last(bytes, 1)?.map_or(Ok(&[][..]), Datum::bytes)
}

/// Nanoseconds of a `Duration`.
pub(super) fn duration(bytes: &[u8]) -> Result<i64, Error> {
    Fields::last(bytes, 1)?.map_or(Ok(0), Datum::int64)
}

/// One of apiextensions' unions of a schema and something else.
pub(super) struct Union<'a> {
    /// The bool of `JSONSchemaPropsOrBool`.
    pub(super) allows: bool,
    pub(super) schema: Option<&'a [u8]>,
    /// The list of the other two.
    pub(super) list: Vec<&'a [u8]>,
}

/// Reads a union; `or_bool` has its bool first and the schema second, the others schema and list.
pub(super) fn union(bytes: &[u8], or_bool: bool) -> Result<Union<'_>, Error> {
    let mut union = Union { allows: false, schema: None, list: Vec::new() };
    let mut fields = Fields::new(bytes);
    while let Some((tag, datum)) = fields.next()? {
        match (tag, or_bool) {
            (1, true) => union.allows = datum.bool()?,
            (2, true) | (1, false) => union.schema = Some(datum.bytes()?),
            (2, false) => union.list.push(datum.bytes()?),
            _ => {}
        }
    }
    Ok(union)
}
