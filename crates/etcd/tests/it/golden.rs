//! A data directory of each format version that there has been: every later build must open it.
//!
//! `CORTEN_WRITE_GOLDEN=1 cargo nextest run -p etcd golden` writes the directory of the current version.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd::disk::RealDisk;
use etcd::*;

use super::model::Request;
use super::world::{ask, poll, put, small};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Everything that can be read.
fn dump(store: &Store) -> String {
    let mut text = format!("{:?}\nleases {:?}\n", store.hash(), store.leases());
    for revision in store.compact_revision().max(1)..=store.revision() {
        let read = store.range(&Range::new(KeyRange::all()).revision(revision)).expect("a revision");
        writeln!(text, "revision {revision}").expect("a string");
        for kv in read.kvs {
            let KeyValue { key, value, create_revision, mod_revision, version, lease, .. } = &*kv;
            writeln!(text, "  {key:?} {value:?} {create_revision} {mod_revision} {version} {lease}")
                .expect("a string");
        }
    }
    text
}

/// Writes something of everything.
fn make(path: &Path) -> String {
    let (store, mut writer) = Store::open(small(), Arc::new(RealDisk::new(path))).expect("opens");
    let request = |writer: &mut Writer, request: Request| {
        let mut asked = ask(&store, &request);
        assert!(poll(&mut asked).is_none());
        while writer.step(Duration::ZERO).busy {}
        poll(&mut asked).expect("answered").expect("done");
    };
    request(&mut writer, Request::Grant(0, 100));
    request(&mut writer, Request::Grant(77, 1000));
    for n in 0..90 {
        let success = vec![
            Op::Put(Put::new(format!("/{}", n % 6), format!("value {n:010}")).lease(if n % 3 == 0 {
                77
            } else {
                0
            })),
            Op::delete(format!("/gone/{}", n - 1)),
            Op::put(format!("/gone/{n}"), ""),
        ];
        request(&mut writer, Request::Txn(Txn { success, ..Txn::default() }));
        if n % 40 == 25 {
            request(&mut writer, Request::Compact(n - 10));
        }
    }
    request(&mut writer, Request::Revoke(1));
    put(&store, &mut writer, "/binary", &b"\0\xff\x80"[..]).expect("put");
    let text = dump(&store);
    writer.finish(Duration::ZERO);
    fs::remove_file(path.join("LOCK")).expect("the lock file");
    text
}

#[test]
fn golden_v1() {
    let directory = golden().join("v1");
    if std::env::var_os("CORTEN_WRITE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        let text = make(&directory);
        fs::write(golden().join("v1.txt"), text).expect("writes");
    }
    let expected = fs::read_to_string(golden().join("v1.txt")).expect("the dump");
    let copy = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(&directory).expect("the golden directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
    }
    let (store, mut writer) = Store::open(small(), Arc::new(RealDisk::new(copy.path()))).expect("opens");
    assert_eq!(dump(&store), expected);
    let revision = store.revision();
    assert_eq!(put(&store, &mut writer, "/new", "").expect("put"), revision + 1);
}

/// As long as the version is 1, what is written is what was written: another format needs another version.
#[test]
fn writes_format_1() {
    let directory = tempfile::tempdir().expect("a directory");
    make(directory.path());
    for entry in fs::read_dir(golden().join("v1")).expect("the golden directory") {
        let name = entry.expect("an entry").file_name();
        let (ours, theirs) =
            (fs::read(directory.path().join(&name)), fs::read(golden().join("v1").join(&name)));
        assert!(ours.expect("the file") == theirs.expect("the golden file"), "{name:?} differs");
    }
}
