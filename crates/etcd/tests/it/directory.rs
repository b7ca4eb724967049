//! Real directories: two processes, other versions, other people's files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use etcd::disk::RealDisk;
use etcd::*;

use super::world::{put, small};

fn open(path: &Path) -> Result<(Store, Writer), OpenError> {
    Store::open(small(), Arc::new(RealDisk::new(path)))
}

fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .expect("the directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn keeps_what_was_written_and_only_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..3 {
        let (store, mut writer) = open(directory.path()).expect("opens");
        assert_eq!(store.revision(), 1 + 200 * round);
        for n in 0..200 {
            put(&store, &mut writer, &format!("/{}", n % 20), n.to_string()).expect("put");
        }
    }
    for entry in fs::read_dir(directory.path()).expect("the directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    let (store, _writer) = open(directory.path()).expect("opens");
    for revision in 2..=601 {
        let key = format!("/{}", (revision - 2) % 200 % 20);
        let read = store.range(&Range::key(key).revision(revision)).expect("an older revision");
        assert_eq!(read.kvs[0].mod_revision, revision);
        assert_eq!(read.kvs[0].value, ((revision - 2) % 200).to_string());
    }
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, writer) = open(directory.path()).expect("opens");
    let before = contents(directory.path());
    assert!(matches!(open(directory.path()), Err(OpenError::Locked)));
    assert_eq!(contents(directory.path()), before);
    drop(writer);
    drop(_store);
    open(directory.path()).expect("opens once it is free");
}

#[test]
fn refuses_what_is_not_its_own_and_changes_nothing() {
    let check = |prepare: &dyn Fn(&Path), expect: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        let before = contents(directory.path());
        let error = match open(directory.path()) {
            Ok(_) => panic!("opened, expected: {expect}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(error, expect);
        assert_eq!(contents(directory.path()), before, "{expect}");
    };
    let made = |path: &Path| {
        let (store, mut writer) = open(path).expect("opens");
        for n in 0..100 {
            put(&store, &mut writer, "/key", n.to_string()).expect("put");
        }
    };
    check(
        &|path| {
            made(path);
            let mut meta = fs::read(path.join("meta")).expect("meta");
            meta[8] = 9;
            fs::write(path.join("meta"), meta).expect("writes");
        },
        "the data directory holds format version 9, this build reads version 1",
    );
    check(
        &|path| fs::write(path.join("member"), "").expect("writes"),
        "the directory is not a data directory of this store: it holds \"member\"",
    );
    check(
        &|path| {
            made(path);
            fs::remove_file(path.join("meta")).expect("removes");
        },
        "meta is damaged at byte 0: the file is missing, and there is a log",
    );
    check(
        &|path| {
            made(path);
            fs::remove_file(path.join("log-0000000000000002")).expect("removes");
        },
        "log-0000000000000002 is damaged at byte 0: the file is missing",
    );
}
