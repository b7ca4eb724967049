//! How a type's fields lie in protobuf, next to how they lie in JSON.

use super::{Field, Member};

/// One entry of a protobuf message, in ascending order of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The field at this position of [`Type::fields`](super::Type::fields).
    Field { tag: u16, at: u16 },
    /// A message whose fields are fields of the enclosing type in JSON.
    Inline { tag: u16, plan: WirePlan },
}

impl Wire {
    pub fn tag(&self) -> u16 {
        match self {
            Wire::Field { tag, .. } | Wire::Inline { tag, .. } => *tag,
        }
    }
}

/// The entries of a message, found by tag in one step.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WirePlan {
    entries: Box<[Wire]>,
    /// Tag → position in `entries` plus one; 0 is unknown. Tags go to 44 in the built-in types.
    by_tag: Box<[u16]>,
}

impl WirePlan {
    /// Flattens `members` into `fields` (JSON's view) and returns protobuf's view of them.
    pub(super) fn build(members: Vec<Member>, fields: &mut Vec<Field>) -> WirePlan {
        let mut entries = Vec::new();
        for member in members {
            match member {
                Member::Field(field) => {
                    let tag = field.tag;
                    if let (1.., Ok(at)) = (tag, u16::try_from(fields.len())) {
                        entries.push(Wire::Field { tag, at });
                    }
                    fields.push(field);
                }
                Member::Inline { tag, members } => {
                    let plan = WirePlan::build(members, fields);
                    entries.push(Wire::Inline { tag, plan });
                }
            }
        }
        entries.sort_by_key(Wire::tag);
        let mut by_tag = vec![0; entries.last().map_or(0, |last| last.tag() as usize + 1)];
        for (at, entry) in entries.iter().enumerate() {
            by_tag[entry.tag() as usize] = at as u16 + 1;
        }
        WirePlan { entries: entries.into(), by_tag: by_tag.into() }
    }

    pub fn entries(&self) -> &[Wire] {
        &self.entries
    }

    pub fn find(&self, tag: u32) -> Option<&Wire> {
        let at = *self.by_tag.get(usize::try_from(tag).ok()?)?;
        self.entries.get(usize::from(at).checked_sub(1)?)
    }
}
