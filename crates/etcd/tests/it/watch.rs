//! Watching: many watchers, slow ones, late ones.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use etcd::disk::SimDisk;
use etcd::*;
use futures::Stream;

use super::world::{put, small};

fn open(window_bytes: usize) -> (Store, Writer) {
    let config = Config { window_bytes, ..small() };
    Store::open(config, Arc::new(SimDisk::new())).expect("an empty disk opens")
}

/// Everything that is there now; reading the log may take several polls.
fn drain(stream: &mut WatchStream) -> Vec<Result<Arc<Batch>, Error>> {
    let (mut seen, mut idle) = (Vec::new(), 0);
    while idle < 100 {
        match Pin::new(&mut *stream).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(item)) => seen.push(item),
            Poll::Ready(None) => break,
            Poll::Pending => idle += 1,
        }
    }
    seen
}

fn revisions(seen: &[Result<Arc<Batch>, Error>]) -> Vec<i64> {
    seen.iter().map(|item| item.as_ref().map_or(-1, |batch| batch.revision)).collect()
}

#[test]
fn watchers_of_one_range_share_their_events() {
    let (store, mut writer) = open(1 << 20);
    let mut watchers: Vec<_> =
        (0..3000).map(|_| store.watch(Watch::new(KeyRange::prefix("/pods/")))).collect();
    put(&store, &mut writer, "/pods/a", "1").expect("put");
    put(&store, &mut writer, "/nodes/a", "1").expect("put");
    let mut first: Option<Arc<Batch>> = None;
    for watcher in &mut watchers {
        let seen = drain(watcher);
        assert_eq!(revisions(&seen), [2]);
        assert_eq!(watcher.progress(), 3);
        let batch = seen.into_iter().next().expect("one").expect("a batch");
        let first = first.get_or_insert_with(|| Arc::clone(&batch));
        assert!(Arc::ptr_eq(first, &batch));
        let stored = store.get(b"/pods/a").expect("the key");
        assert!(Arc::ptr_eq(&batch.events[0].kv, &stored), "the event holds the version that the map holds");
    }
}

#[test]
fn a_watcher_is_woken_for_its_keys_only() {
    let (store, mut writer) = open(1 << 20);
    let (waker, wakes) = count_wakes();
    let mut stream = store.watch(Watch::new(KeyRange::prefix("/a/")));
    let mut poll = || Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_ready();
    assert!(!poll());
    put(&store, &mut writer, "/b/1", "1").expect("put");
    assert_eq!(wakes(), 0);
    put(&store, &mut writer, "/a/1", "1").expect("put");
    put(&store, &mut writer, "/a/1", "2").expect("put");
    assert_eq!(wakes(), 1);
    assert!(poll() && poll() && !poll());
}

fn count_wakes() -> (Waker, impl Fn() -> usize) {
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(0.into()));
    (Waker::from(Arc::clone(&count)), move || count.0.load(std::sync::atomic::Ordering::Relaxed))
}

#[test]
fn a_slow_watcher_reads_the_log_and_misses_nothing() {
    // Far more than the window and the group hold.
    let (store, mut writer) = open(1000);
    let mut slow = store.watch(Watch::new(KeyRange::prefix("/a/")));
    let mut fast = store.watch(Watch::new(KeyRange::prefix("/a/")));
    let mut seen_fast = Vec::new();
    for n in 0..3000 {
        let key = if n % 3 == 0 { format!("/b/{n}") } else { format!("/a/{}", n % 10) };
        put(&store, &mut writer, &key, n.to_string()).expect("put");
        if n % 7 == 0 {
            seen_fast.extend(revisions(&drain(&mut fast)));
        }
    }
    let expected: Vec<i64> = (0..3000).filter(|n| n % 3 != 0).map(|n| n + 2).collect();
    seen_fast.extend(revisions(&drain(&mut fast)));
    assert_eq!(seen_fast, expected);
    let seen = drain(&mut slow);
    assert_eq!(revisions(&seen), expected);
    for (item, revision) in seen.iter().zip(&expected) {
        let event = &item.as_ref().expect("a batch").events[0];
        assert_eq!(event.kv.value, (revision - 2).to_string());
        let prev = event.prev.as_ref().map_or(0, |prev| prev.version);
        assert_eq!(event.kv.version, prev + 1, "the version before comes with it");
    }
    assert_eq!(slow.progress(), 3001);
}

#[test]
fn a_watcher_that_is_too_late_is_told() {
    let (store, mut writer) = open(500);
    let mut behind = store.watch(Watch::new(KeyRange::all()));
    for n in 0..100 {
        put(&store, &mut writer, "/a", n.to_string()).expect("put");
    }
    let compact = {
        let store = store.clone();
        let mut asked: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move { store.compact(50).await });
        assert!(super::world::poll(&mut asked).is_none());
        while writer.step(Duration::ZERO).busy {}
        super::world::poll(&mut asked).expect("answered")
    };
    assert_eq!(compact.expect("compacted"), 101);
    for (start, expected) in
        [(0, Some(50)), (1, Some(50)), (49, Some(50)), (50, None), (101, None), (200, None)]
    {
        let mut stream = match start {
            0 => std::mem::replace(&mut behind, store.watch(Watch::new(KeyRange::all()))),
            start => store.watch(Watch::new(KeyRange::all()).start_revision(start)),
        };
        let seen = drain(&mut stream);
        match expected {
            Some(revision) => assert!(
                matches!(&seen[..], [Err(Error::Compacted { compact_revision })] if *compact_revision == revision),
                "from {start}: {seen:?}"
            ),
            None => assert_eq!(revisions(&seen), (start..=101).collect::<Vec<_>>(), "from {start}"),
        }
    }
}

#[test]
fn all_events_of_a_revision_come_together() {
    let (store, mut writer) = open(1 << 20);
    let mut all = store.watch(Watch::new(KeyRange::prefix("/")));
    let mut part = store.watch(Watch::new(KeyRange::new("/b", "/d")));
    let txn = Txn { success: ["/a", "/b", "/c", "/d"].map(|key| Op::put(key, "1")).into(), ..Txn::default() };
    let asking = store.clone();
    let mut asked: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move { asking.txn(txn).await });
    assert!(super::world::poll(&mut asked).is_none());
    writer.step(Duration::ZERO);
    for (stream, expected) in [(&mut all, 4), (&mut part, 2)] {
        let seen = drain(stream);
        assert_eq!(revisions(&seen), [2]);
        assert_eq!(seen[0].as_ref().expect("a batch").events.len(), expected);
    }
}

#[test]
fn when_the_store_stops_everybody_is_told() {
    let (store, mut writer) = open(1 << 20);
    let mut stream = store.watch(Watch::new(KeyRange::all()));
    put(&store, &mut writer, "/a", "1").expect("put");
    let mut waiting: Pin<Box<dyn Future<Output = _>>> = {
        let store = store.clone();
        Box::pin(async move { store.wait_for(10).await })
    };
    let mut asked = super::world::ask(&store, &super::model::Request::KeepAlive(1));
    assert!(super::world::poll(&mut waiting).is_none() && super::world::poll(&mut asked).is_none());
    drop(writer);
    assert!(matches!(super::world::poll(&mut waiting), Some(Err(Error::Stopped))));
    assert!(matches!(super::world::poll(&mut asked), Some(Err(Error::Stopped))));
    let seen = drain(&mut stream);
    assert!(matches!(&seen[..], [Ok(_), Err(Error::Stopped)]), "{seen:?}");
    assert_eq!(store.get(b"/a").expect("still readable").value, "1");
}

#[tokio::test(start_paused = true)]
async fn runs_as_a_task_on_virtual_time() {
    let (store, writer) = open(1 << 20);
    let task = tokio::spawn(writer.drive());
    let lease = store.lease_grant(0, 60).await.expect("a lease");
    store.put(Put::new("/a", "1").lease(lease.id)).await.expect("put");
    let mut stream = store.watch(Watch::new(KeyRange::key("/a")));
    let left = store.lease_time_to_live(lease.id).await.expect("the lease");
    assert_eq!((left.granted_ttl, left.keys.as_slice()), (60, &["/a".into()][..]));
    // Nothing else happens, so virtual time goes on until the lease runs out.
    let batch = stream.next().await.expect("an event").expect("no error");
    assert_eq!(batch.events[0].kind, EventKind::Delete);
    assert_eq!(store.wait_for(batch.revision).await.ok(), Some(()));
    store.stop();
    task.await.expect("the writer ends");
    assert!(matches!(store.put(Put::new("/a", "1")).await, Err(Error::Stopped)));
}
