//! One key's versions that are no longer newest, oldest first.

use std::sync::Arc;

use super::Older;

/// So many are kept in one piece, which a change after a clone copies.
const PIECE: usize = 64;

/// In pieces, so that a key that is written very often between two compactions costs no more than others.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    full: Arc<Vec<Arc<[Older]>>>,
    recent: Vec<Older>,
}

impl History {
    /// `older` must be newer than everything there.
    pub(crate) fn push(&mut self, older: Older) {
        if self.recent.len() == PIECE {
            let piece = std::mem::take(&mut self.recent).into();
            Arc::make_mut(&mut self.full).push(piece);
        }
        self.recent.push(older);
    }

    pub(crate) fn len(&self) -> usize {
        self.full.len() * PIECE + self.recent.len()
    }

    /// From the entry with this index on.
    pub(crate) fn iter_from(&self, at: usize) -> impl Iterator<Item = &Older> {
        let full = self.full.iter().skip(at / PIECE).flat_map(|piece| piece.iter());
        let recent = self.recent.iter();
        full.chain(recent)
            .skip(at.min(self.full.len() * PIECE) % PIECE + at.saturating_sub(self.full.len() * PIECE))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Older> {
        self.iter_from(0)
    }

    /// The last entry of a revision not after `revision`, and its index.
    pub(crate) fn newest(&self, revision: i64) -> Option<(usize, &Older)> {
        let within =
            |piece: &[Older]| piece.partition_point(|older| older.revision() <= revision).checked_sub(1);
        if let Some(at) = within(&self.recent) {
            return Some((self.full.len() * PIECE + at, self.recent.get(at)?));
        }
        let begun = |piece: &Arc<[Older]>| piece.first().is_some_and(|first| first.revision() <= revision);
        let piece = self.full.partition_point(begun).checked_sub(1)?;
        let entries = self.full.get(piece)?;
        let at = within(entries)?;
        Some((piece * PIECE + at, entries.get(at)?))
    }
}

impl FromIterator<Older> for History {
    fn from_iter<I: IntoIterator<Item = Older>>(entries: I) -> Self {
        let mut history = History::default();
        entries.into_iter().for_each(|older| history.push(older));
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_was_given() {
        for len in [0, 1, 63, 64, 65, 128, 129, 1000] {
            let history: History = (0..len).map(|n| Older::Logged(n * 2 + 10)).collect();
            assert_eq!(history.len(), len as usize);
            for revision in 0..len * 2 + 15 {
                let expected = (0..len).rev().find(|n| n * 2 + 10 <= revision);
                let found = history.newest(revision).map(|(at, older)| (at as i64, older.revision()));
                assert_eq!(found, expected.map(|n| (n, n * 2 + 10)), "{revision} of {len}");
            }
            for from in 0..=len {
                let revisions = history.iter_from(from as usize).map(Older::revision);
                assert!(revisions.eq((from..len).map(|n| n * 2 + 10)), "from {from} of {len}");
            }
        }
    }
}
