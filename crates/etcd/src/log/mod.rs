//! The write-ahead log: entries, in segments.
//!
//! `record` is the format, `codec` what is in a record, [`Log`] appends and syncs, [`Segments`] reads back,
//! `recovery` reads everything at start. A segment is preallocated, filled with zeros a stretch ahead (so
//! that a sync writes no file system metadata), and cut to its length when the next one begins.

pub(crate) mod codec;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod segments;

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, File};
use crate::error::Error;
use crate::mvcc::Entry;
use record::{Chain, FILE_HEADER, FileHeader, FileKind, HEADER};
pub(crate) use segments::{Position, Segment, Segments};

/// The kind of a record that holds an entry.
pub(crate) const ENTRY: u32 = 1;
/// The kind of the record that a clean stop leaves; its payload is empty.
pub(crate) const CLOSE: u32 = 2;

/// The new segment, until it has its name.
const TEMPORARY: &str = "segment.tmp";
/// So far ahead of the end of the log there are zeros.
const ZEROS: u64 = 1 << 20;

pub(crate) fn segment_name(number: u64) -> String {
    format!("log-{number:016x}")
}

/// The number in a segment's name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Why an append did not happen.
#[derive(Debug)]
pub(crate) enum Failed {
    /// No room; the log is as before.
    NoSpace,
    /// Nothing can be written any more.
    Broken(&'static str, io::Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoSpace => Error::NoSpace,
            Failed::Broken(doing, source) => Error::Broken { doing: doing.into(), source: Arc::new(source) },
        }
    }
}

/// The end of the log, where entries are appended.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segments: Arc<Segments>,
    cluster_id: u64,
    segment_bytes: u64,
    tail: Arc<Segment>,
    chain: Chain,
    /// Where the next record goes.
    offset: u64,
    /// The tail's length, room set aside included.
    allocated: u64,
    zeros_to: u64,
    /// The tail may hold remains of a failed write after `offset`.
    unclean: bool,
    buffer: Vec<u8>,
}

impl Log {
    /// Begins a new segment after `last`, which ends where the chain stands. With `number` 1 the log begins.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        segments: Arc<Segments>,
        cluster_id: u64,
        segment_bytes: u64,
        number: u64,
        chain: Chain,
    ) -> io::Result<Log> {
        let (segment, allocated) =
            create(&*disk, cluster_id, segment_bytes, number, chain.next_seq, chain.prev)?;
        disk.rename(TEMPORARY, &segment_name(number))?;
        disk.sync_dir()?;
        let tail = segments.add(segment);
        Ok(Log {
            disk,
            segments,
            cluster_id,
            segment_bytes,
            chain: Chain { salt: tail.salt, ..chain },
            tail,
            offset: FILE_HEADER as u64,
            allocated,
            zeros_to: FILE_HEADER as u64,
            unclean: false,
            buffer: Vec::new(),
        })
    }

    /// Where the next entry will go, and the chain there.
    pub(crate) fn end(&self) -> (Position, Chain) {
        (Position::new(self.tail.number, self.offset), self.chain)
    }

    /// Appends the entries and syncs. On `Ok` they are durable, at the positions given back.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<Vec<Position>, Failed> {
        self.buffer.clear();
        let mut starts = Vec::with_capacity(entries.len());
        for entry in entries {
            let start = self.buffer.len();
            self.buffer.resize(start + HEADER, 0);
            codec::put_entry(&mut self.buffer, entry);
            starts.push((start, self.buffer.len() - start - HEADER));
            self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
        }
        self.write(&starts, ENTRY)?;
        let first = self.offset - self.buffer.len() as u64;
        let position = |(start, _): &(usize, usize)| Position::new(self.tail.number, first + *start as u64);
        Ok(starts.iter().map(position).collect())
    }

    /// Says that the log ends here on purpose, so that damage to its last record will be noticed.
    pub(crate) fn close(&mut self) -> Result<(), Failed> {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        self.write(&[(0, 0)], CLOSE)
    }

    /// Writes the buffer's records, given as start and payload length, and syncs.
    fn write(&mut self, records: &[(usize, usize)], kind: u32) -> Result<(), Failed> {
        let len = self.buffer.len() as u64;
        let full = self.offset + len > self.segment_bytes && self.offset > FILE_HEADER as u64;
        if full || self.unclean {
            self.roll()?;
        }
        let mut chain = self.chain;
        let synced = chain.next_seq - 1;
        for (start, payload) in records {
            chain.seal_at(&mut self.buffer, *start, *payload, synced, kind);
        }
        let end = self.offset + len;
        match self.write_out(end) {
            Ok(()) => {}
            Err(error) if no_space(&error) => return Err(self.take_back()),
            Err(error) => return Err(Failed::Broken("writing the log", error)),
        }
        self.tail.file.sync().map_err(|error| Failed::Broken("syncing the log", error))?;
        self.chain = chain;
        self.offset = end;
        Ok(())
    }

    fn write_out(&mut self, end: u64) -> io::Result<()> {
        if end > self.allocated {
            self.tail.file.allocate(end)?;
            self.allocated = end;
        }
        self.tail.file.write_at(self.offset, &self.buffer)?;
        if end > self.zeros_to {
            let to = (end + ZEROS).min(self.allocated).max(end);
            self.tail.file.write_at(end, &vec![0; (to - end) as usize])?;
            self.zeros_to = to;
        }
        Ok(())
    }

    /// After a write that found no room: makes sure that nothing of it counts.
    fn take_back(&mut self) -> Failed {
        let cleared = self.tail.file.write_at(self.offset, &[0; HEADER]).and_then(|()| self.tail.file.sync());
        match cleared {
            Ok(()) => {
                self.unclean = true;
                Failed::NoSpace
            }
            Err(error) => Failed::Broken("taking back a write that found no room", error),
        }
    }

    /// Begins the next segment.
    fn roll(&mut self) -> Result<(), Failed> {
        let failed = |doing| {
            move |error: io::Error| {
                if no_space(&error) { Failed::NoSpace } else { Failed::Broken(doing, error) }
            }
        };
        let number = self.tail.number + 1;
        let created = create(
            &*self.disk,
            self.cluster_id,
            self.segment_bytes,
            number,
            self.chain.next_seq,
            self.chain.prev,
        );
        let (segment, allocated) = created.map_err(|error| {
            // It may not be there; it is no harm if it stays.
            let _ = self.disk.remove(TEMPORARY);
            failed("making a log segment")(error)
        })?;
        // Only now, so that for want of room nothing has changed.
        self.tail.file.truncate(self.offset).map_err(failed("cutting a log segment"))?;
        self.tail.file.sync().map_err(|error| Failed::Broken("syncing the log", error))?;
        self.allocated = self.offset;
        self.zeros_to = self.offset;
        self.unclean = false;
        self.disk.rename(TEMPORARY, &segment_name(number)).map_err(failed("naming a log segment"))?;
        self.disk.sync_dir().map_err(|error| Failed::Broken("syncing the data directory", error))?;
        self.tail = self.segments.add(segment);
        self.chain.salt = self.tail.salt;
        self.offset = FILE_HEADER as u64;
        self.allocated = allocated;
        self.zeros_to = self.offset;
        Ok(())
    }
}

/// Makes a segment, durable but for its name.
fn create(
    disk: &dyn Disk,
    cluster_id: u64,
    size: u64,
    number: u64,
    first_seq: u64,
    prev: u32,
) -> io::Result<(Segment, u64)> {
    let header = FileHeader { kind: FileKind::Segment, cluster_id, number, first_seq, prev };
    let file: Arc<dyn File> = disk.create(TEMPORARY)?;
    let size = size.max(FILE_HEADER as u64);
    file.allocate(size)?;
    file.write_at(0, &header.write())?;
    file.sync()?;
    Ok((Segment { number, salt: header.salt(), file }, size))
}

pub(crate) fn no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
