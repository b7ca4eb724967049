//! Damaged files: never a panic, never a wrong answer.

use std::sync::Arc;
use std::time::Duration;

use etcd::disk::{Disk, SimDisk};
use etcd::*;

use super::random::Random;
use super::world::{put, small};

/// A store that was stopped cleanly, with several segments and perhaps a snapshot.
fn store(config: Config, puts: i64) -> (SimDisk, Hash) {
    let disk = SimDisk::new();
    let (store, mut writer) = Store::open(config, Arc::new(disk.clone())).expect("opens");
    for n in 0..puts {
        put(&store, &mut writer, &format!("/{}", n % 7), vec![b'v'; (n % 60) as usize]).expect("put");
    }
    while writer.step(Duration::ZERO).busy {}
    let hash = store.hash();
    writer.finish(Duration::ZERO);
    (disk, hash)
}

fn check(disk: SimDisk, hash: Hash, what: &str) -> bool {
    let Ok((store, _writer)) = Store::open(small(), Arc::new(disk)) else { return false };
    assert_eq!(store.hash(), hash, "{what}: opened with another state");
    for revision in (2..=store.revision()).step_by(5) {
        if let Ok(read) = store.range(&Range::new(KeyRange::all()).revision(revision)) {
            let newest = read.kvs.iter().map(|kv| kv.mod_revision).max();
            assert_eq!(newest, Some(revision), "{what}: revision {revision} was read wrongly");
        }
    }
    true
}

#[test]
fn a_changed_byte_is_noticed() {
    for (snapshot_bytes, puts) in [(1 << 30, 60), (4 << 10, 150)] {
        let (disk, hash) = store(Config { snapshot_bytes, ..small() }, puts);
        assert!(check(disk.fork(0), hash, "undamaged"));
        let mut dice = Random(puts as u64);
        let (mut noticed, mut tried) = (0, 0);
        for name in disk.list().expect("names") {
            let size = disk.open(&name).and_then(|file| file.size()).expect("its size");
            for offset in 0..size {
                if !dice.one_in(30) {
                    continue;
                }
                let copy = disk.fork(0);
                assert!(copy.corrupt(&name, offset, 1 << dice.below(8)));
                tried += 1;
                noticed += usize::from(!check(copy, hash, &format!("{name} at {offset}")));
            }
        }
        // What is not noticed at start is padding, room after the end of the log, the record of the clean
        // stop, and history, which is noticed when it is read.
        assert!(tried > 200 && noticed > tried / 3, "{noticed} of {tried} noticed");
    }
}

#[test]
fn a_missing_end_is_noticed_after_a_clean_stop() {
    let (disk, hash) = store(Config { snapshot_bytes: 1 << 30, ..small() }, 60);
    for name in disk.list().expect("names") {
        let size = disk.open(&name).and_then(|file| file.size()).expect("its size");
        for cut in 0..size {
            if cut % 37 != 0 {
                continue;
            }
            let copy = disk.fork(0);
            copy.open(&name).and_then(|file| file.truncate(cut)).expect("cuts");
            let opened = Store::open(small(), Arc::new(copy));
            // The end of the last segment may be missing because of a crash; then less is there, in order.
            if let Ok((store, _writer)) = opened {
                assert!(store.revision() <= hash.revision, "{name} cut to {cut}");
                assert!(name.starts_with("log-"), "{name} cut to {cut} was not noticed");
            }
        }
        let copy = disk.fork(0);
        copy.remove(&name).expect("removes");
        if let Ok((store, _writer)) = Store::open(small(), Arc::new(copy)) {
            // Only the newest segment may be missing without a trace: a crash can leave it so.
            assert!(name.starts_with("log-") && store.revision() < hash.revision, "{name} is missing");
        }
    }
}

#[test]
fn bytes_at_random_are_no_store() {
    let mut dice = Random(1);
    let (disk, _) = store(small(), 100);
    for _ in 0..300 {
        let copy = disk.fork(0);
        for name in copy.list().expect("names") {
            let file = copy.open(&name).expect("opens");
            let size = file.size().expect("its size");
            let junk: Vec<u8> = (0..1 + dice.below(64)).map(|_| dice.next() as u8).collect();
            file.write_at(dice.below(size), &junk).expect("writes");
        }
        if let Ok((store, _writer)) = Store::open(small(), Arc::new(copy)) {
            let _ = store.range(&Range::new(KeyRange::all()));
        }
    }
}
