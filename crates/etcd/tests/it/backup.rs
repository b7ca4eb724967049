//! Backup and restore.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::disk::{Disk, SimDisk};
use etcd::*;

use super::world::{put, small};

#[test]
fn a_restored_store_is_the_same() {
    let (store, mut writer) = Store::open(small(), Arc::new(SimDisk::new())).expect("opens");
    for n in 0..2000 {
        put(&store, &mut writer, &format!("/{}", n % 300), vec![b'x'; n % 500]).expect("put");
    }
    let hash = store.hash();
    let mut backup = store.backup();
    let mut parts: Vec<Bytes> = backup.by_ref().take(1).collect();
    // What comes later is not in it.
    put(&store, &mut writer, "/later", "").expect("put");
    parts.extend(backup);
    assert!(parts.len() > 3, "in several parts");

    let disk = SimDisk::new();
    assert_eq!(restore(&disk, parts.clone()).expect("restores"), hash.revision);
    disk.crash();
    let (restored, mut writer) = Store::open(small(), Arc::new(disk.clone())).expect("opens");
    assert_eq!(restored.hash().hash, hash.hash);
    assert_eq!(restored.revision(), hash.revision);
    assert_eq!(restored.compact_revision(), hash.revision);
    assert_eq!(put(&restored, &mut writer, "/1", "new").expect("put"), hash.revision + 1);
    let old = restored.range(&Range::key("/1").revision(hash.revision)).expect("the restored revision");
    assert_eq!(old.kvs, store.range(&Range::key("/1").revision(hash.revision)).expect("the original").kvs);
    writer.finish(Duration::ZERO);
    assert!(matches!(restore(&disk, parts.clone()), Err(OpenError::Foreign { .. })), "not over a store");

    for (at, part) in parts.iter().enumerate() {
        let mut damaged = parts.clone();
        let mut bytes = part.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        damaged[at] = bytes.into();
        let disk = SimDisk::new();
        assert!(matches!(restore(&disk, damaged), Err(OpenError::Damaged { .. })), "part {at}");
        assert!(!disk.list().expect("names").iter().any(|name| name == "meta"), "no store has been made");
    }
}
