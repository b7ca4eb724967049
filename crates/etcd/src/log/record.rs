//! Records and file headers: how the bytes of every file prove that they are whole, in order, and of this
//! file.
//!
//! A record is a header of 32 bytes, its payload, and zeros up to a multiple of 8. All numbers are
//! little-endian:
//!
//! | at | what |
//! | --- | --- |
//! | 0 | CRC-32 of the file's salt, of bytes 4 to 31, and of the payload |
//! | 4 | length of the payload |
//! | 8 | sequence number, from 1, one more with each record |
//! | 16 | the last sequence number known durable when this record was written |
//! | 24 | the CRC of the record before |
//! | 28 | kind |
//!
//! The salt is different in each file, so what an earlier file left in the same blocks is never taken for a
//! record of this one. The CRC of the record before chains them: a record that follows a lost one is not
//! accepted.

/// The version of all files; a change of any format raises it.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const HEADER: usize = 32;
pub(crate) const FILE_HEADER: usize = 64;
/// No record is longer; a length above it is nonsense.
const MAX_PAYLOAD: usize = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub crc: u32,
    pub len: usize,
    pub seq: u64,
    pub synced: u64,
    pub prev: u32,
    pub kind: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// The whole room that a record with so much payload takes.
pub(crate) fn room(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(8)
}

fn crc(salt: u64, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(header);
    hasher.update(payload);
    // Zero would make a hole look like a record.
    hasher.finalize().max(1)
}

impl Header {
    /// Reads a header, without any check.
    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            crc: u32_at(bytes, 0)?,
            len: usize::try_from(u32_at(bytes, 4)?).ok()?,
            seq: u64_at(bytes, 8)?,
            synced: u64_at(bytes, 16)?,
            prev: u32_at(bytes, 24)?,
            kind: u32_at(bytes, 28)?,
        })
    }
}

/// The record at the start of `bytes`, if it is whole.
pub(crate) fn read(salt: u64, bytes: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::read(bytes)?;
    if header.seq == 0 || header.len > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(HEADER..HEADER.checked_add(header.len)?)?;
    (crc(salt, bytes.get(4..HEADER)?, payload) == header.crc).then_some((header, payload))
}

/// Where records are made: reserves the header, and fills it in when the payload is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub salt: u64,
    pub next_seq: u64,
    /// The CRC of the last record.
    pub prev: u32,
}

impl Chain {
    /// Completes the record that starts at `at` in `bytes` and reaches to their end, header reserved.
    pub(crate) fn seal(&mut self, bytes: &mut Vec<u8>, at: usize, synced: u64, kind: u32) {
        let len = bytes.len().saturating_sub(at + HEADER);
        self.seal_at(bytes, at, len, synced, kind);
        bytes.resize(at + room(len), 0);
    }

    /// The same for a record of which the payload's length is known and the padding is there.
    pub(crate) fn seal_at(&mut self, bytes: &mut [u8], at: usize, len: usize, synced: u64, kind: u32) {
        let Some((header, rest)) = bytes.get_mut(at..).and_then(|b| b.split_at_mut_checked(HEADER)) else {
            return;
        };
        let payload = rest.get(..len).unwrap_or_default();
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        header[8..16].copy_from_slice(&self.next_seq.to_le_bytes());
        header[16..24].copy_from_slice(&synced.to_le_bytes());
        header[24..28].copy_from_slice(&self.prev.to_le_bytes());
        header[28..32].copy_from_slice(&kind.to_le_bytes());
        self.prev = crc(self.salt, &header[4..], payload);
        header[..4].copy_from_slice(&self.prev.to_le_bytes());
        self.next_seq += 1;
    }

    /// The record at the start of `bytes`, if it is whole and the next in the chain.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(Header, &'a [u8])> {
        let (header, payload) = read(self.salt, bytes)?;
        if header.seq != self.next_seq || header.prev != self.prev {
            return None;
        }
        self.next_seq += 1;
        self.prev = header.crc;
        Some((header, payload))
    }
}

/// The first 64 bytes of every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub kind: FileKind,
    pub cluster_id: u64,
    /// Of a segment: its number. Of a snapshot: the sequence number that it stands at.
    pub number: u64,
    /// Of a segment: the sequence number of its first record, and the CRC of the record before.
    pub first_seq: u64,
    pub prev: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Meta,
    Segment,
    Snapshot,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FileKind::Meta => b"corten-m",
            FileKind::Segment => b"corten-l",
            FileKind::Snapshot => b"corten-s",
        }
    }
}

/// Why a file header is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Version(u32),
    Damaged(&'static str),
}

impl FileHeader {
    pub(crate) fn write(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.cluster_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.prev.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn read(kind: FileKind, bytes: &[u8]) -> Result<FileHeader, BadHeader> {
        let short = BadHeader::Damaged("the file header is cut short");
        let bytes = bytes.get(..FILE_HEADER).ok_or(short)?;
        if !bytes.starts_with(kind.magic()) {
            return Err(BadHeader::Damaged("the file header has no known beginning"));
        }
        // The version comes before the checksum: another version may have another header.
        let version = u32_at(bytes, 8).ok_or(short)?;
        if version != FORMAT {
            return Err(BadHeader::Version(version));
        }
        if bytes.get(..60).map(crc32fast::hash) != u32_at(bytes, 60) {
            return Err(BadHeader::Damaged("the checksum of the file header is wrong"));
        }
        Ok(FileHeader {
            kind,
            cluster_id: u64_at(bytes, 16).ok_or(short)?,
            number: u64_at(bytes, 24).ok_or(short)?,
            first_seq: u64_at(bytes, 32).ok_or(short)?,
            prev: u32_at(bytes, 40).ok_or(short)?,
        })
    }

    /// What goes into the CRC of each of the file's records.
    pub(crate) fn salt(&self) -> u64 {
        let parts = [self.cluster_id, self.number, self.first_seq, u64::from(self.prev)];
        parts.into_iter().fold(self.kind.magic()[7].into(), |salt, part| {
            // The finishing steps of splitmix64: each bit of each part reaches each bit of the salt.
            let mut x = salt ^ part.wrapping_add(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        })
    }
}
