//! How fast the store is, without any protocol before it.
//!
//! `cargo bench -p etcd --bench store`: durable puts per second from 64 writers, microseconds per read, time
//! to open, on files in the directory `TMPDIR`. Not for asserting anything.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time, with a real thread")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use etcd::disk::RealDisk;
use etcd::{Config, KeyRange, Put, Range, Store, Watch};

fn key(n: u64) -> Bytes {
    format!("/registry/configmaps/namespace-{:02}/configmap-{n:06}", n % 20).into()
}

/// Microseconds of processor per call: what else the machine does blurs it less than time.
fn per_call(calls: u64, mut call: impl FnMut(u64)) -> f64 {
    let start = processor();
    (0..calls).for_each(&mut call);
    (processor() - start) * 1e6 / calls as f64
}

/// Processor time of this process, all threads.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || {
        let begin = Instant::now();
        let opened =
            Store::open(Config::default(), Arc::new(RealDisk::new(directory.path()))).expect("opens");
        (opened, begin.elapsed())
    };
    let ((store, writer), _) = open();
    let clock = Instant::now();
    let thread = std::thread::spawn(move || writer.run(move || clock.elapsed()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");

    for (writers, total) in [(1u64, 3_000u64), (64, 200_000), (512, 400_000)] {
        let value = Bytes::from(vec![b'v'; 256]);
        let next = Arc::new(AtomicU64::new(0));
        let (begin, used) = (Instant::now(), processor());
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let (store, next, value) = (store.clone(), Arc::clone(&next), value.clone());
                    tokio::spawn(async move {
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= total {
                                return;
                            }
                            store.put(Put::new(key(n % 20_000), value.clone())).await.expect("put");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a writer");
            }
        });
        let (took, used) = (begin.elapsed().as_secs_f64(), processor() - used);
        println!(
            "{writers:4} writers: {:8.0} puts/s, {:6.1} us processor per put",
            total as f64 / took,
            used * 1e6 / total as f64
        );
    }

    println!(
        "get:               {:8.3} us",
        per_call(2_000_000, |n| {
            std::hint::black_box(store.get(&key(n * 7919 % 20_000)));
        }) - per_call(2_000_000, |n| {
            std::hint::black_box(key(n * 7919 % 20_000));
        })
    );
    println!(
        "range of one key:  {:8.3} us",
        per_call(500_000, |n| {
            std::hint::black_box(store.range(&Range::key(key(n * 7919 % 20_000))).expect("a range"));
        })
    );
    let prefix = || Range::new(KeyRange::prefix("/registry/configmaps/"));
    println!(
        "range of 5,000:    {:8.1} us",
        per_call(2_000, |_| {
            std::hint::black_box(store.range(&prefix().limit(5_000)).expect("a range"));
        })
    );
    let revision = store.revision() - 100_000;
    println!(
        "5,000 at an older revision, read from the log: {:8.1} us",
        per_call(20, |_| {
            std::hint::black_box(store.range(&prefix().limit(5_000).revision(revision)).expect("a range"));
        })
    );

    for watchers in [1u64, 1000] {
        let puts = 2_000;
        let used = runtime.block_on(async {
            let tasks: Vec<_> = (0..watchers)
                .map(|_| {
                    let mut stream = store.watch(Watch::new(KeyRange::prefix("/registry/configmaps/")));
                    tokio::spawn(async move {
                        for _ in 0..puts {
                            stream.next().await.expect("an event").expect("no error");
                        }
                    })
                })
                .collect();
            let used = processor();
            for n in 0..puts {
                store.put(Put::new(key(n), "changed")).await.expect("put");
            }
            for task in tasks {
                task.await.expect("a watcher");
            }
            processor() - used
        });
        println!(
            "{watchers:4} watchers:     {:8.3} us processor per event and watcher, puts included",
            used * 1e6 / (puts * watchers) as f64
        );
    }

    store.stop();
    thread.join().expect("the writer");
    let hash = store.hash();
    drop(store);
    let ((store, _writer), took) = open();
    assert_eq!(store.hash(), hash);
    let size: u64 = std::fs::read_dir(directory.path())
        .expect("the directory")
        .map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |data| data.len()))
        .sum();
    println!(
        "open:              {:8.1} ms with {} keys, {} revisions and {} MiB",
        took.as_secs_f64() * 1e3,
        store.range(&Range::new(KeyRange::all()).count_only()).expect("a range").count,
        store.revision(),
        size >> 20
    );
}
