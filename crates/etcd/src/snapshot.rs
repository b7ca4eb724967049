//! Snapshots: the whole state in one file, so that a start reads only the log after it and old segments can
//! go.
//!
//! A snapshot is written from a view, which nothing changes any more, a block at a time between batches. It
//! also says where each revision that can still be read lies in the log. The format is the log's: records of
//! the kinds below, one after the other.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, File};
use crate::kv::KeyValue;
use crate::log::codec::{Reader, put_bytes, put_kv, put_number};
use crate::log::record::{self, BadHeader, Chain, FILE_HEADER, FileHeader, FileKind, HEADER, Header};
use crate::log::{Position, segments::Positions};
use crate::mvcc::history::History;
use crate::mvcc::{Effect, Older, View};

const META: u32 = 10;
const LEASES: u32 = 11;
const KEYS: u32 = 12;
const HISTORY: u32 = 13;
const POSITIONS: u32 = 14;
const END: u32 = 15;

/// A block is closed when it has so many bytes.
const BLOCK: usize = 64 << 10;
const TEMPORARY: &str = "snapshot.tmp";

pub(crate) fn snapshot_name(seq: u64) -> String {
    format!("snap-{seq:016x}")
}

/// The sequence number in a snapshot's name.
pub(crate) fn snapshot_seq(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("snap-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Where the log goes on after a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub position: Position,
    pub next_seq: u64,
    pub prev: u32,
}

/// What a snapshot holds.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub view: View,
    pub positions: Positions,
    pub end: LogEnd,
}

enum Phase {
    Meta,
    Leases(Bytes),
    Keys(Bytes),
    History(Bytes),
    Positions(usize),
    End,
    Done,
}

/// Turns a content into bytes, block by block.
pub(crate) struct Encoder {
    content: Content,
    phase: Phase,
    chain: Chain,
}

impl Encoder {
    /// The header and the blocks to come.
    pub(crate) fn new(content: Content, cluster_id: u64) -> (FileHeader, Encoder) {
        let header = FileHeader {
            kind: FileKind::Snapshot,
            cluster_id,
            number: content.end.next_seq,
            first_seq: 1,
            prev: 0,
        };
        let chain = Chain { salt: header.salt(), next_seq: 1, prev: 0 };
        (header, Encoder { content, phase: Phase::Meta, chain })
    }

    /// Appends the next block; false when there is none.
    pub(crate) fn block(&mut self, into: &mut Vec<u8>) -> bool {
        let at = into.len();
        into.resize(at + HEADER, 0);
        let full = |into: &Vec<u8>| into.len() - at >= BLOCK;
        let view = &self.content.view;
        let (kind, phase) = match &self.phase {
            Phase::Meta => {
                let end = self.content.end;
                for number in [
                    view.revision,
                    view.compact_revision,
                    view.last_lease,
                    end.position.0.cast_signed(),
                    end.next_seq.cast_signed(),
                    i64::from(end.prev),
                    self.content.positions.first,
                ] {
                    put_number(into, number);
                }
                (META, Phase::Leases(Bytes::new()))
            }
            Phase::Leases(from) => {
                let mut next = Phase::Keys(Bytes::new());
                for (key, lease) in view.leases.range(from, None) {
                    if full(into) {
                        next = Phase::Leases(key.clone());
                        break;
                    }
                    put_number(into, lease.id);
                    put_number(into, lease.ttl);
                }
                (LEASES, next)
            }
            Phase::Keys(from) => {
                let mut next = Phase::History(Bytes::new());
                for (key, kv) in view.keys.range(from, None) {
                    if full(into) {
                        next = Phase::Keys(key.clone());
                        break;
                    }
                    put_kv(into, kv);
                }
                (KEYS, next)
            }
            Phase::History(from) => {
                let mut next = Phase::Positions(0);
                for (key, history) in view.history.range(from, None) {
                    if full(into) {
                        next = Phase::History(key.clone());
                        break;
                    }
                    put_history(into, key, history);
                }
                (HISTORY, next)
            }
            Phase::Positions(from) => {
                let list = &self.content.positions.list;
                let to = (*from + BLOCK / 8).min(list.len());
                for position in list.range(*from..to) {
                    put_number(into, position.0.cast_signed());
                }
                (POSITIONS, if to == list.len() { Phase::End } else { Phase::Positions(to) })
            }
            Phase::End => {
                put_number(into, view.keys.len() as i64);
                (END, Phase::Done)
            }
            Phase::Done => {
                into.truncate(at);
                return false;
            }
        };
        self.phase = phase;
        self.chain.seal(into, at, 0, kind);
        true
    }
}

fn put_history(into: &mut Vec<u8>, key: &Bytes, history: &History) {
    put_bytes(into, key);
    put_number(into, history.len() as i64);
    for older in history.iter() {
        match older {
            Older::Logged(revision) => {
                into.push(0);
                put_number(into, *revision);
            }
            Older::Deleted(revision) => {
                into.push(1);
                put_number(into, *revision);
            }
            Older::Kept(kv) => {
                into.push(2);
                put_kv(into, kv);
            }
        }
    }
}

fn read_history(reader: &mut Reader<'_>) -> Option<(Bytes, Vec<Older>)> {
    let key = reader.bytes()?;
    let count = reader.count()?;
    let mut history = Vec::with_capacity(count);
    for _ in 0..count {
        history.push(match reader.byte()? {
            0 => Older::Logged(reader.number()?),
            1 => Older::Deleted(reader.number()?),
            2 => Older::Kept(reader.kv()?),
            _ => return None,
        });
    }
    let ordered = history.is_sorted_by(|a, b| a.revision() < b.revision());
    ordered.then_some((key, history))
}

/// Puts a content together from the blocks.
struct Decoder {
    content: Content,
    begun: bool,
    done: bool,
}

impl Decoder {
    fn new() -> Self {
        let end = LogEnd { position: Position(0), next_seq: 0, prev: 0 };
        let content = Content { view: View::default(), positions: Positions::default(), end };
        Decoder { content, begun: false, done: false }
    }

    /// `None` when the block makes no sense.
    fn block(&mut self, kind: u32, payload: &[u8]) -> Option<()> {
        let mut reader = Reader(payload);
        let view = &mut self.content.view;
        if self.done || self.begun == (kind == META) {
            return None;
        }
        match kind {
            META => {
                self.begun = true;
                view.revision = reader.number()?;
                view.compact_revision = reader.number()?;
                view.last_lease = reader.number()?;
                self.content.end = LogEnd {
                    position: Position(reader.number()?.cast_unsigned()),
                    next_seq: reader.number()?.cast_unsigned(),
                    prev: u32::try_from(reader.number()?).ok()?,
                };
                self.content.positions.first = reader.number()?;
            }
            LEASES => {
                while !reader.is_empty() {
                    let effect = Effect::Grant { id: reader.number()?, ttl: reader.number()?, chosen: false };
                    view.apply_effect(0, &effect);
                }
            }
            KEYS => {
                while !reader.is_empty() {
                    let kv: Arc<KeyValue> = reader.kv()?;
                    view.restore(kv)?;
                }
            }
            HISTORY => {
                while !reader.is_empty() {
                    let (key, history) = read_history(&mut reader)?;
                    view.history.insert(key, history.into_iter().collect());
                }
            }
            POSITIONS => {
                while !reader.is_empty() {
                    self.content.positions.list.push_back(Position(reader.number()?.cast_unsigned()));
                }
            }
            END => self.done = usize::try_from(reader.number()?).ok()? == view.keys.len(),
            _ => return None,
        }
        Some(())
    }
}

/// Why a snapshot cannot be read.
pub(crate) enum Unreadable {
    Header(BadHeader),
    Damaged(u64, &'static str),
    Io(io::Error),
}

/// Reads a whole snapshot, a stretch at a time.
pub(crate) fn read(file: &dyn File) -> Result<(FileHeader, Content), Unreadable> {
    let mut buffer = vec![0; FILE_HEADER];
    let len = file.read_at(0, &mut buffer).map_err(Unreadable::Io)?;
    buffer.truncate(len);
    let header = FileHeader::read(FileKind::Snapshot, &buffer).map_err(Unreadable::Header)?;
    let size = file.size().map_err(Unreadable::Io)?;
    let mut chain = Chain { salt: header.salt(), next_seq: 1, prev: 0 };
    let mut decoder = Decoder::new();
    let mut offset = FILE_HEADER as u64;
    buffer.clear();
    let mut at = 0;
    while !decoder.done {
        let here = offset + at as u64;
        let damaged = |what| Unreadable::Damaged(here, what);
        let rest = buffer.get(at..).unwrap_or_default();
        let need = Header::read(rest).map_or(HEADER, |header| record::room(header.len));
        if rest.len() < need {
            // Limited by the file, so that a wrong length reserves no memory.
            let left = size.saturating_sub(here);
            let want = (need.max(1 << 20) as u64).min(left) as usize;
            if want <= rest.len() {
                return Err(damaged("a record of the snapshot is cut short"));
            }
            offset = here;
            at = 0;
            buffer = vec![0; want];
            let read = file.read_at(offset, &mut buffer).map_err(Unreadable::Io)?;
            buffer.truncate(read);
            if read < want {
                return Err(damaged("a record of the snapshot is cut short"));
            }
            continue;
        }
        let (header, payload) =
            chain.next(rest).ok_or_else(|| damaged("the checksum of a record of the snapshot is wrong"))?;
        decoder
            .block(header.kind, payload)
            .ok_or_else(|| damaged("a record of the snapshot makes no sense"))?;
        at += record::room(header.len);
    }
    if decoder.content.end.next_seq != header.number {
        return Err(Unreadable::Damaged(0, "the snapshot is not the one that its name says"));
    }
    Ok((header, decoder.content))
}

/// A snapshot in the making.
pub(crate) struct SnapshotWriter {
    file: Arc<dyn File>,
    offset: u64,
    encoder: Encoder,
    buffer: Vec<u8>,
    pub end: LogEnd,
}

impl SnapshotWriter {
    pub(crate) fn begin(disk: &dyn Disk, content: Content, cluster_id: u64) -> io::Result<SnapshotWriter> {
        let end = content.end;
        let file = disk.create(TEMPORARY)?;
        let (header, encoder) = Encoder::new(content, cluster_id);
        file.write_at(0, &header.write())?;
        Ok(SnapshotWriter { file, offset: FILE_HEADER as u64, encoder, buffer: Vec::new(), end })
    }

    /// Writes a few blocks. True when the snapshot is complete, durable and has its name.
    pub(crate) fn step(&mut self, disk: &dyn Disk) -> io::Result<bool> {
        self.buffer.clear();
        let mut more = true;
        while more && self.buffer.len() < 4 * BLOCK {
            more = self.encoder.block(&mut self.buffer);
        }
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        // At each step, so that no sync, and no batch after it, takes long.
        self.file.sync()?;
        if !more {
            disk.rename(TEMPORARY, &snapshot_name(self.end.next_seq))?;
            disk.sync_dir()?;
        }
        Ok(!more)
    }

    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.offset
    }

    /// Removes what has been written.
    pub(crate) fn abandon(self, disk: &dyn Disk) {
        // What stays is removed at the next start.
        let _ = disk.remove(TEMPORARY);
    }
}
