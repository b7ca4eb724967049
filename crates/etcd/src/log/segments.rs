//! Reading entries back by their position, from many threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::codec::Reader;
use super::record::{self, HEADER, Header};
use crate::disk::File;
use crate::error::Error;
use crate::mvcc::Entry;
use crate::sync::Mutex;

/// Read at once for many entries in order, and for one.
const MANY: usize = 64 << 10;
const ONE: usize = 4 << 10;

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub u64);

impl Position {
    /// Segments are smaller than 4 GiB, and there are fewer than 2³² of them.
    pub(crate) fn new(segment: u64, offset: u64) -> Self {
        Position(segment << 32 | offset)
    }

    pub(crate) fn segment(self) -> u64 {
        self.0 >> 32
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

pub(crate) struct Segment {
    pub number: u64,
    pub salt: u64,
    pub file: Arc<dyn File>,
}

/// The open segments, and where in them each revision lies.
#[derive(Default)]
pub(crate) struct Segments {
    open: Mutex<BTreeMap<u64, Arc<Segment>>>,
    positions: Mutex<Positions>,
}

/// The position of each revision from `first` on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    pub first: i64,
    pub list: VecDeque<Position>,
}

impl Positions {
    fn get(&self, revision: i64) -> Option<Position> {
        let at = usize::try_from(revision.checked_sub(self.first)?).ok()?;
        self.list.get(at).copied()
    }

    /// `revision` must be the next one.
    pub(crate) fn push(&mut self, revision: i64, position: Position) {
        if self.list.is_empty() {
            self.first = revision;
        }
        self.list.push_back(position);
    }
}

impl Segments {
    pub(crate) fn add(&self, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        self.open.lock().insert(segment.number, Arc::clone(&segment));
        segment
    }

    /// Forgets the segments before `number`, and gives back their numbers.
    pub(crate) fn drop_before(&self, number: u64) -> Vec<u64> {
        let mut open = self.open.lock();
        let keep = open.split_off(&number);
        std::mem::replace(&mut *open, keep).into_keys().collect()
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.open.lock().keys().next().copied()
    }

    pub(crate) fn positions(&self) -> std::sync::MutexGuard<'_, Positions> {
        self.positions.lock()
    }

    /// Forgets where revisions before `revision` are.
    pub(crate) fn forget_before(&self, revision: i64) {
        let mut positions = self.positions.lock();
        while positions.first < revision && positions.list.pop_front().is_some() {
            positions.first += 1;
        }
    }

    /// A reader for revisions in order, which reads ahead.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { segments: self, segment: None, start: 0, chunk: Vec::new(), ahead: MANY, read: 0 }
    }

    /// The entry of one revision; `None` when the log does not hold it any more.
    pub(crate) fn entry(&self, revision: i64) -> Result<Option<Entry>, Error> {
        Cursor { ahead: ONE, ..self.cursor() }.entry(revision)
    }
}

pub(crate) struct Cursor<'a> {
    segments: &'a Segments,
    segment: Option<Arc<Segment>>,
    /// Where `chunk` begins in the segment.
    start: u64,
    chunk: Vec<u8>,
    ahead: usize,
    /// Bytes read from the disk so far.
    pub read: usize,
}

impl Cursor<'_> {
    /// The entry of a revision; `None` when the log does not hold it any more.
    pub(crate) fn entry(&mut self, revision: i64) -> Result<Option<Entry>, Error> {
        let Some(position) = self.segments.positions().get(revision) else { return Ok(None) };
        if self.segment.as_ref().is_none_or(|segment| segment.number != position.segment()) {
            let Some(segment) = self.segments.open.lock().get(&position.segment()).cloned() else {
                return Ok(None);
            };
            self.segment = Some(segment);
            self.chunk.clear();
        }
        let Some(segment) = self.segment.clone() else { return Ok(None) };
        let damaged = || Error::History(format!("the log entry of revision {revision} is damaged").into());
        let need = match self.at(position.offset()).and_then(Header::read) {
            Some(header) => header.len.saturating_add(HEADER),
            None => self.ahead,
        };
        if self.at(position.offset()).is_none_or(|bytes| bytes.len() < need) {
            self.fill(&segment, position.offset(), self.ahead)?;
            let need = self.at(position.offset()).and_then(Header::read).ok_or_else(damaged)?.len + HEADER;
            if need > self.ahead {
                // Limited by the file, so that a wrong length reserves no memory.
                let size = segment.file.size().map_err(|error| Error::History(error.to_string().into()))?;
                self.fill(&segment, position.offset(), need.min(usize::try_from(size).unwrap_or(0)))?;
            }
        }
        let bytes = self.at(position.offset()).ok_or_else(damaged)?;
        let (_, payload) = record::read(segment.salt, bytes).ok_or_else(damaged)?;
        let entry = Reader(payload).entry().filter(|entry| entry.revision == revision).ok_or_else(damaged)?;
        Ok(Some(entry))
    }

    fn at(&self, offset: u64) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.chunk.get(at..).filter(|bytes| !bytes.is_empty())
    }

    fn fill(&mut self, segment: &Segment, offset: u64, len: usize) -> Result<(), Error> {
        self.chunk = vec![0; len];
        self.start = offset;
        let read = segment
            .file
            .read_at(offset, &mut self.chunk)
            .map_err(|error| Error::History(error.to_string().into()))?;
        self.chunk.truncate(read);
        self.read += read;
        Ok(())
    }
}
