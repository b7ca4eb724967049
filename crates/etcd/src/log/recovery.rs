//! Opening a data directory: what is there is checked, read, and cut where a crash tore it.
//!
//! What a crash may leave is accepted: a torn end of the last segment, files without their final name. What
//! it cannot leave is an error, and nothing is changed: another format version, a hole in the middle of the
//! log, a missing file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::Reader;
use super::record::{self, BadHeader, Chain, FILE_HEADER, FileHeader, FileKind, HEADER, Header};
use super::segments::{Position, Positions};
use super::{CLOSE, ENTRY, Segment, Segments, create, segment_name, segment_number};
use crate::disk::{Disk, File};
use crate::error::OpenError;
use crate::mvcc::View;
use crate::snapshot::{self, LogEnd, Unreadable, snapshot_name, snapshot_seq};

const META: &str = "meta";
const META_TEMPORARY: &str = "meta.tmp";

/// Where the log of a new store begins.
const START: LogEnd = LogEnd { position: Position(1 << 32 | FILE_HEADER as u64), next_seq: 1, prev: 0 };

/// A directory as it was found.
pub(crate) struct Recovered {
    pub cluster_id: u64,
    pub view: View,
    pub segments: Arc<Segments>,
    /// The last segment; the log goes on in the one after it.
    pub last_segment: u64,
    pub chain: Chain,
    /// Bytes of log that were read again, which a snapshot would save.
    pub replayed: u64,
    /// The sequence number of the snapshot that was read.
    pub snapshot: Option<u64>,
    /// The segment at which reading again began.
    pub from_segment: u64,
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { doing: doing.into(), source }
}

fn bad_header(file: &str, bad: BadHeader) -> OpenError {
    match bad {
        BadHeader::Version(found) => OpenError::Version { found, expected: record::FORMAT },
        BadHeader::Damaged(what) => OpenError::Damaged { file: file.to_owned(), offset: 0, what },
    }
}

fn damaged(file: &str, offset: u64, what: &'static str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), offset, what }
}

/// Opens the directory; an empty one becomes that of cluster `new_cluster_id`.
pub(crate) fn open(disk: &dyn Disk, new_cluster_id: u64) -> Result<Recovered, OpenError> {
    // Before the lock, whose file must not be made in a directory that is not ours.
    check_ours(disk, &list(disk)?)?;
    if !disk.lock().map_err(io_error("locking the data directory"))? {
        return Err(OpenError::Locked);
    }
    let mut names = list(disk)?;
    if !names.iter().any(|name| name == META) {
        check_ours(disk, &names)?;
        begin(disk, new_cluster_id)?;
        names = list(disk)?;
    }
    let cluster_id = read_meta(disk)?.cluster_id;

    let snapshots: Vec<u64> = names.iter().filter_map(|name| snapshot_seq(name)).collect();
    let (view, positions, start) = match snapshots.iter().max() {
        Some(seq) => {
            let name = snapshot_name(*seq);
            let (view, positions, end, header) = read_snapshot(disk, &name)?;
            if header.number != *seq || header.cluster_id != cluster_id {
                return Err(damaged(&name, 0, "the file belongs elsewhere"));
            }
            (view, positions, end)
        }
        // etcd's first revision is 1, and the first change makes it 2.
        None => (View { revision: 1, ..View::default() }, Positions::default(), START),
    };
    let oldest = positions.list.front().map_or(start.position, |first| *first.min(&start.position)).segment();
    let numbers: Vec<u64> =
        names.iter().filter_map(|name| segment_number(name)).filter(|number| *number >= oldest).collect();
    let last = numbers.last().copied().unwrap_or(0).max(start.position.segment());
    for number in oldest..=last {
        if !numbers.contains(&number) {
            return Err(damaged(&segment_name(number), 0, "the file is missing"));
        }
    }

    let segments = Arc::new(Segments::default());
    let mut replay = Replay { view, positions, end: start, replayed: 0 };
    let mut torn = None;
    for number in oldest..=last {
        let name = segment_name(number);
        let file = disk.open(&name).map_err(io_error(format!("opening {name}")))?;
        let header = read_header(&*file, &name, FileKind::Segment)?;
        if header.number != number || header.cluster_id != cluster_id {
            return Err(damaged(&name, 0, "the file belongs elsewhere"));
        }
        if number >= start.position.segment() {
            torn = replay.segment(&*file, &name, &header, number == last)?;
        }
        segments.add(Segment { number, salt: header.salt(), file });
    }

    // Nothing has been changed so far; from here on the directory is known to be sound.
    let snapshot = snapshots.iter().max().copied();
    finish(disk, &names, last, torn, oldest, snapshot)?;
    let Replay { view, positions, end, replayed } = replay;
    *segments.positions() = positions;
    let chain = Chain { salt: 0, next_seq: end.next_seq, prev: end.prev };
    let from_segment = start.position.segment();
    Ok(Recovered { cluster_id, view, segments, last_segment: last, chain, replayed, snapshot, from_segment })
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, OpenError> {
    disk.list().map_err(io_error("listing the data directory"))
}

/// Refuses a directory of another version, and one that holds something else.
fn check_ours(disk: &dyn Disk, names: &[String]) -> Result<(), OpenError> {
    if names.iter().any(|name| name == META) {
        return read_meta(disk).map(|_| ());
    }
    for name in names {
        match name.as_str() {
            "LOCK" | "lost+found" | META_TEMPORARY => {}
            name if name.ends_with(".tmp") => {}
            // The first segment is made before `meta`; a crash between leaves it, without entries.
            name if segment_number(name) == Some(1) => {
                let file = disk.open(name).map_err(io_error(format!("opening {name}")))?;
                if file.size().map_err(io_error(format!("reading {name}")))? > FILE_HEADER as u64 {
                    return Err(damaged(META, 0, "the file is missing, and there is a log"));
                }
            }
            name if segment_number(name).or(snapshot_seq(name)).is_some() => {
                return Err(damaged(META, 0, "the file is missing, and there is a log"));
            }
            name => return Err(OpenError::Foreign { found: name.to_owned() }),
        }
    }
    Ok(())
}

/// Makes a new store: the first segment, and then the file that says that this is a store, so that from then
/// on a log that is missing is noticed.
fn begin(disk: &dyn Disk, cluster_id: u64) -> Result<(), OpenError> {
    let make = || {
        create(disk, cluster_id, FILE_HEADER as u64, 1, 1, 0)?;
        disk.rename(super::TEMPORARY, &segment_name(1))?;
        disk.sync_dir()?;
        write_meta(disk, cluster_id)
    };
    make().map_err(io_error("making a new data directory"))
}

/// See [`crate::restore`].
pub(crate) fn restore(disk: &dyn Disk, backup: impl IntoIterator<Item = Bytes>) -> Result<i64, OpenError> {
    if let Some(found) = list(disk)?.into_iter().find(|name| name != "LOCK" && name != "lost+found") {
        return Err(OpenError::Foreign { found });
    }
    if !disk.lock().map_err(io_error("locking the data directory"))? {
        return Err(OpenError::Locked);
    }
    const RESTORE: &str = "restore.tmp";
    let copy = || {
        let file = disk.create(RESTORE)?;
        let mut offset = 0;
        for part in backup {
            file.write_at(offset, &part)?;
            offset += part.len() as u64;
        }
        file.sync()
    };
    copy().map_err(io_error("writing the backup"))?;
    let (view, _, end, header) = read_snapshot(disk, RESTORE)?;
    if end != START || header.number != START.next_seq {
        return Err(damaged(RESTORE, 0, "the file is a store's snapshot, not a backup"));
    }
    let name = || {
        disk.rename(RESTORE, &snapshot_name(header.number))?;
        disk.sync_dir()
    };
    name().map_err(io_error("naming the backup"))?;
    begin(disk, header.cluster_id)?;
    Ok(view.revision)
}

fn write_meta(disk: &dyn Disk, cluster_id: u64) -> io::Result<()> {
    let header = FileHeader { kind: FileKind::Meta, cluster_id, number: 0, first_seq: 0, prev: 0 };
    let file = disk.create(META_TEMPORARY)?;
    file.write_at(0, &header.write())?;
    file.sync()?;
    disk.rename(META_TEMPORARY, META)?;
    disk.sync_dir()
}

fn read_meta(disk: &dyn Disk) -> Result<FileHeader, OpenError> {
    let file = disk.open(META).map_err(io_error("opening the file meta"))?;
    read_header(&*file, META, FileKind::Meta)
}

fn read_header(file: &dyn File, name: &str, kind: FileKind) -> Result<FileHeader, OpenError> {
    let mut bytes = [0; FILE_HEADER];
    let read = file.read_at(0, &mut bytes).map_err(io_error(format!("reading {name}")))?;
    let bytes = bytes.get(..read).unwrap_or_default();
    FileHeader::read(kind, bytes).map_err(|bad| bad_header(name, bad))
}

fn read_snapshot(disk: &dyn Disk, name: &str) -> Result<(View, Positions, LogEnd, FileHeader), OpenError> {
    let file = disk.open(name).map_err(io_error(format!("opening {name}")))?;
    let (header, content) = snapshot::read(&*file).map_err(|unreadable| match unreadable {
        Unreadable::Header(bad) => bad_header(name, bad),
        Unreadable::Damaged(offset, what) => damaged(name, offset, what),
        Unreadable::Io(source) => OpenError::Io { doing: format!("reading {name}"), source },
    })?;
    Ok((content.view, content.positions, content.end, header))
}

struct Replay {
    view: View,
    positions: Positions,
    /// Where the next record belongs.
    end: LogEnd,
    replayed: u64,
}

impl Replay {
    /// Applies the entries of one segment. Gives back where the last one is to be cut, if it goes on there.
    fn segment(
        &mut self,
        file: &dyn File,
        name: &str,
        header: &FileHeader,
        last: bool,
    ) -> Result<Option<u64>, OpenError> {
        let size = file.size().map_err(io_error(format!("reading {name}")))?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let read = file.read_at(0, &mut bytes).map_err(io_error(format!("reading {name}")))?;
        bytes.truncate(read);

        let mut at = if self.end.position.segment() == header.number {
            usize::try_from(self.end.position.offset()).unwrap_or(usize::MAX)
        } else {
            if header.first_seq != self.end.next_seq || header.prev != self.end.prev {
                return Err(damaged(name, 0, "the segment does not go on where the one before ends"));
            }
            FILE_HEADER
        };
        if at > bytes.len() {
            return Err(damaged(name, read as u64, "the segment is shorter than its snapshot says"));
        }
        let mut chain = Chain { salt: header.salt(), next_seq: self.end.next_seq, prev: self.end.prev };
        while let Some((record, payload)) = bytes.get(at..).and_then(|rest| chain.next(rest)) {
            match record.kind {
                ENTRY => self.entry(payload, Position::new(header.number, at as u64)),
                CLOSE => Some(()),
                _ => None,
            }
            .ok_or_else(|| damaged(name, at as u64, "a record of the log makes no sense"))?;
            let room = record::room(record.len);
            at += room;
            self.replayed += room as u64;
        }
        self.end = LogEnd {
            position: Position::new(header.number, at as u64),
            next_seq: chain.next_seq,
            prev: chain.prev,
        };
        if at == bytes.len() {
            return Ok(None);
        }
        if !last {
            return Err(damaged(name, at as u64, "a record in the middle of the log is not whole"));
        }
        if synced_later(&chain, bytes.get(at..).unwrap_or_default()) {
            return Err(damaged(name, at as u64, "a record that was durable is not whole"));
        }
        Ok(Some(at as u64))
    }

    fn entry(&mut self, payload: &[u8], position: Position) -> Option<()> {
        let mut reader = Reader(payload);
        let entry = reader.entry().filter(|_| reader.is_empty())?;
        self.view.apply(&entry)?;
        if entry.changes_keys() {
            self.positions.push(entry.revision, position);
        }
        Some(())
    }
}

/// Whether `rest`, which does not begin with the next record of the chain, holds a later one that was
/// written when that next one was already durable. Then this is damage, and no crash explains it.
fn synced_later(chain: &Chain, rest: &[u8]) -> bool {
    let next = chain.next_seq;
    (0..rest.len()).step_by(8).filter_map(|at| rest.get(at..)).any(|bytes| {
        // Looked at before the checksum is worked out: nearly all places fail here.
        let plausible = |header: &Header| {
            header.crc != 0
                && header.seq > next
                && header.seq - next <= (rest.len() / HEADER) as u64
                && header.synced >= next
        };
        Header::read(bytes).filter(plausible).is_some() && record::read(chain.salt, bytes).is_some()
    })
}

/// Makes what was read durable, and removes what a crash left over.
fn finish(
    disk: &dyn Disk,
    names: &[String],
    last: u64,
    torn: Option<u64>,
    oldest: u64,
    snapshot: Option<u64>,
) -> Result<(), OpenError> {
    let name = segment_name(last);
    let cut = || {
        let file = disk.open(&name)?;
        if let Some(offset) = torn {
            file.truncate(offset)?;
        }
        // After a killed process the end of the log may be in the page cache only, and it is about to be
        // shown to readers.
        file.sync()
    };
    cut().map_err(io_error(format!("cutting the end of {name}")))?;
    for name in names {
        let old_segment = segment_number(name).is_some_and(|number| number < oldest);
        let old_snapshot = snapshot_seq(name).is_some_and(|seq| Some(seq) != snapshot);
        if old_segment || old_snapshot || name.ends_with(".tmp") {
            disk.remove(name).map_err(io_error(format!("removing {name}")))?;
        }
    }
    Ok(())
}
