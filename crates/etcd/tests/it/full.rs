//! A disk without room.

use std::sync::Arc;

use etcd::disk::{Faults, SimDisk};
use etcd::*;

use super::world::{put, small};

fn check(seed: u64, sparse: bool, crash: bool) {
    let disk = SimDisk::seeded(seed);
    let (mut store, mut writer) = Store::open(small(), Arc::new(disk.clone())).expect("opens");
    let mut next = 0;
    let mut revision = 1;
    for round in 1..4 {
        disk.set_faults(Faults { capacity: Some(20_000 * round + seed * 8), sparse, ..Faults::default() });
        let failed = loop {
            assert!(next < 10_000, "the disk was never full");
            match put(&store, &mut writer, &format!("/{}", next % 50), vec![b'x'; 1 + (next % 90) as usize]) {
                Ok(at) => {
                    assert_eq!(at, revision + 1);
                    revision = at;
                    next += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, Error::NoSpace), "seed {seed}: {failed:?}");
        // As before, and readable, also what is only in the log.
        assert_eq!(store.revision(), revision);
        for revision in (2..=revision).step_by(29) {
            store.range(&Range::prefix("/").revision(revision)).expect("an older revision");
        }
        let again = put(&store, &mut writer, "/again", vec![b'y'; 100]);
        assert!(matches!(again, Err(Error::NoSpace)), "seed {seed}: {again:?}");
        if crash {
            drop(writer);
            disk.crash();
            (store, writer) = Store::open(small(), Arc::new(disk.clone())).expect("opens");
            assert_eq!(store.revision(), revision, "seed {seed}: what was refused came back");
        }
        assert!(store.get(b"/again").is_none());
    }
    disk.set_faults(Faults::default());
    assert_eq!(put(&store, &mut writer, "/again", "now").expect("there is room"), revision + 1);
    drop(writer);
    disk.crash();
    let (store, _writer) = Store::open(small(), Arc::new(disk)).expect("opens");
    assert_eq!(store.get(b"/again").expect("the key").value, "now");
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    for seed in 0..20 {
        check(seed, false, false);
        check(seed, false, true);
    }
}

/// A disk where room that was set aside is not there.
#[test]
fn a_write_that_finds_no_room_is_taken_back() {
    for seed in 0..20 {
        check(seed, true, false);
        check(seed, true, true);
    }
}
