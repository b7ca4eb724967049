//! Taking the newest state out of a store, and making a store of it.

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::Position;
use crate::log::record::{FILE_HEADER, FileHeader};
use crate::log::recovery;
use crate::log::segments::Positions;
use crate::mvcc::View;
use crate::mvcc::tree::Tree;
use crate::snapshot::{Content, Encoder, LogEnd};

/// The bytes of a backup, some at a time. It is a snapshot file: it carries its format version and checksums.
/// It stays as the store was when it was made, whatever is written meanwhile.
pub struct Backup {
    header: Option<FileHeader>,
    encoder: Encoder,
    revision: i64,
}

impl Backup {
    pub(crate) fn new(view: &View, cluster_id: u64) -> Self {
        let revision = view.revision;
        let view = View { history: Tree::default(), compact_revision: revision, ..view.clone() };
        let end = LogEnd { position: Position::new(1, FILE_HEADER as u64), next_seq: 1, prev: 0 };
        let content = Content { view, positions: Positions::default(), end };
        let (header, encoder) = Encoder::new(content, cluster_id);
        Backup { header: Some(header), encoder, revision }
    }

    /// The revision that the backup holds.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

impl Iterator for Backup {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(header) = self.header.take() {
            return Some(Bytes::copy_from_slice(&header.write()));
        }
        let mut block = Vec::new();
        self.encoder.block(&mut block).then(|| block.into())
    }
}

/// Makes a data directory of a backup, in an empty directory. Gives back the backup's revision, which the
/// store will begin with; its older revisions count as compacted.
///
/// # Errors
/// The directory is not empty, or the backup is damaged: then no store has been made.
pub fn restore(disk: &dyn Disk, backup: impl IntoIterator<Item = Bytes>) -> Result<i64, OpenError> {
    recovery::restore(disk, backup)
}
