//! A store on a simulated disk, its model, its watchers, and somebody who uses it at random.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use etcd::disk::{Faults, SimDisk};
use etcd::*;
use futures::Stream;

use super::model::{Answer, Model, Request};
use super::random::Random;

pub type Asked = Pin<Box<dyn Future<Output = Result<Answer, Error>>>>;

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

pub struct World {
    pub disk: SimDisk,
    pub random: Random,
    pub store: Store,
    pub writer: Option<Writer>,
    pub model: Model,
    pub now: Duration,
    watchers: Vec<Watcher>,
}

struct Watcher {
    stream: WatchStream,
    keys: KeyRange,
    /// What it must see next begins here.
    next: i64,
}

/// Small, so that a short run meets every corner.
pub fn small() -> Config {
    Config {
        cluster_id: 7,
        segment_bytes: 2 << 10,
        snapshot_bytes: 4 << 10,
        window_bytes: 2 << 10,
        ..Config::default()
    }
}

pub fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub fn ask(store: &Store, request: &Request) -> Asked {
    let (store, request) = (store.clone(), request.clone());
    Box::pin(async move {
        match request {
            Request::Txn(txn) => store.txn(txn).await.map(Answer::Txn),
            Request::Grant(id, ttl) => store.lease_grant(id, ttl).await.map(Answer::Grant),
            Request::Revoke(id) => store.lease_revoke(id).await.map(Answer::Done),
            Request::KeepAlive(id) => store.lease_keep_alive(id).await.map(Answer::KeepAlive),
            Request::Compact(revision) => store.compact(revision).await.map(Answer::Done),
        }
    })
}

/// Puts and steps the writer until that is answered.
pub fn put(store: &Store, writer: &mut Writer, key: &str, value: impl Into<Bytes>) -> Result<i64, Error> {
    let (store, put) = (store.clone(), Put::new(key.to_owned(), value.into()));
    let mut asked: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move { store.put(put).await });
    assert!(poll(&mut asked).is_none());
    writer.step(Duration::ZERO);
    poll(&mut asked).expect("answered after a step").map(|response| response.revision)
}

fn text<T: std::fmt::Debug>(answer: &Result<T, Error>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error: {error:?}"),
    }
}

fn key(random: &mut Random) -> Bytes {
    (*random.pick(&["/a/1", "/a/2", "/a/3", "/b/1", "/b/2", "/c", "/c\0", "/d"])).into()
}

fn keys(random: &mut Random) -> KeyRange {
    match random.below(6) {
        0 => KeyRange::all(),
        1 => KeyRange::prefix("/a/"),
        2 => KeyRange::prefix("/b/"),
        3 => KeyRange::new("/a/2", "/c"),
        4 => KeyRange::from("/b/2"),
        _ => KeyRange::key(key(random)),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::seeded(seed);
        let (store, writer) = Store::open(small(), Arc::new(disk.clone())).expect("an empty disk opens");
        World {
            disk,
            random: Random(seed ^ 0xabcd),
            store,
            writer: Some(writer),
            model: Model::new(),
            now: Duration::from_secs(100),
            watchers: Vec::new(),
        }
    }

    pub fn revision(&mut self) -> i64 {
        match self.random.below(4) {
            0 => self.model.revision() + 1,
            1 => self.model.compact_revision,
            _ => 1 + self.random.below(self.model.revision() as u64) as i64,
        }
    }

    fn range(&mut self) -> Range {
        let mut range = Range::new(keys(&mut self.random));
        if self.random.one_in(2) {
            range.revision = self.revision();
        }
        range.limit = self.random.below(4) as usize;
        range.keys_only = self.random.one_in(6);
        range.count_only = self.random.one_in(6);
        range
    }

    fn op(&mut self) -> Op {
        let random = &mut self.random;
        match random.below(8) {
            0..=4 => {
                let mut put = Put::new(key(random), vec![b'x'; random.below(40) as usize]);
                if random.one_in(4) {
                    put.lease = random.below(5) as i64;
                }
                Op::Put(put)
            }
            5 => Op::Delete(keys(random)),
            6 => Op::delete(key(random)),
            _ => Op::Range(self.range()),
        }
    }

    pub fn request(&mut self) -> Request {
        let revision = self.revision();
        let random = &mut self.random;
        match random.below(24) {
            0 => Request::Grant(random.below(5) as i64, random.below(20) as i64),
            1 => Request::Revoke(random.below(5) as i64),
            2 => Request::KeepAlive(random.below(5) as i64),
            3 => Request::Compact(revision),
            _ => {
                let mut txn = Txn::default();
                for _ in 0..random.below(3) {
                    let number = random.below(self.model.revision() as u64 + 1) as i64;
                    txn.compare.push(Compare {
                        keys: keys(random),
                        relation: *random.pick(&[
                            Relation::Equal,
                            Relation::NotEqual,
                            Relation::Greater,
                            Relation::Less,
                        ]),
                        target: match random.below(5) {
                            0 => Target::Version(random.below(4) as i64),
                            1 => Target::CreateRevision(number),
                            2 => Target::ModRevision(number),
                            3 => Target::Value(vec![b'x'; random.below(40) as usize].into()),
                            _ => Target::Lease(random.below(4) as i64),
                        },
                    });
                }
                for _ in 0..1 + self.random.below(3) {
                    let op = self.op();
                    txn.success.push(op);
                }
                for _ in 0..self.random.below(3) {
                    let op = self.op();
                    txn.failure.push(op);
                }
                Request::Txn(txn)
            }
        }
    }

    /// Asks for a few things at once, steps the writer, and compares the answers. Gives back what was
    /// sequenced but not made durable, when the disk has failed.
    pub fn step(&mut self) -> Result<Option<Vec<Request>>, String> {
        if self.random.one_in(8) {
            self.now += Duration::from_secs(self.random.below(15));
        }
        let visible = self.model.revision();
        let count = self.random.below(5);
        let requests: Vec<_> = (0..count).map(|_| self.request()).collect();
        let mut asked = VecDeque::new();
        for request in &requests {
            let mut future = ask(&self.store, request);
            let at_once = poll(&mut future);
            asked.push_back((future, at_once));
        }
        ensure!(self.store.revision() == visible, "a revision was visible before it was durable");

        let mut next = self.model.clone();
        let mut sequenced = Vec::new();
        let mut expected = Vec::new();
        for (request, (_, at_once)) in requests.iter().zip(&asked) {
            match at_once {
                // Answered without being queued: it must be a read, or be refused for its form.
                Some(_) => expected.push(self.model.clone().apply(request, self.now)),
                None => {
                    expected.push(next.apply(request, self.now));
                    sequenced.push(request.clone());
                }
            }
        }
        for lease in next.expired(self.now) {
            let revoke = Request::Revoke(lease);
            next.apply(&revoke, self.now).map_err(|error| error.to_string())?;
            sequenced.push(revoke);
        }
        let writer = self.writer.as_mut().ok_or("the writer is gone")?;
        writer.step(self.now);
        let broken = matches!(self.probe(), Err(Error::Broken { .. }));
        let mut failed = false;
        for ((request, expected), (mut future, at_once)) in requests.iter().zip(expected).zip(asked) {
            let answer = match at_once {
                Some(answer) => answer,
                None => poll(&mut future).ok_or("a request was not answered after a step")?,
            };
            if matches!(answer, Err(Error::Broken { .. })) {
                failed = true;
                continue;
            }
            ensure!(
                text(&answer) == text(&expected),
                "{request:?}\n  answered {}\n  expected {}",
                text(&answer),
                text(&expected)
            );
        }
        ensure!(broken || !failed, "a request failed on a sound disk");
        if broken && self.store.revision() == visible && (failed || next.revision() != visible) {
            self.check_view()?;
            return Ok(Some(sequenced));
        }
        if broken && self.store.revision() == visible {
            // Nothing that shows was in this step; what was asked has perhaps been done.
            return Ok(Some(sequenced));
        }
        self.model = next;
        self.check_view()?;
        self.check_watchers(false)?;
        if broken { Ok(Some(Vec::new())) } else { Ok(None) }
    }

    /// Whether the store still takes requests; asks for something that does nothing.
    fn probe(&self) -> Result<(), Error> {
        let mut asked = ask(&self.store, &Request::KeepAlive(i64::MAX));
        match poll(&mut asked) {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// What can be read now, at the newest and at an older revision.
    pub fn check_view(&mut self) -> Result<(), String> {
        let (store, model) = (&self.store, &self.model);
        ensure!(
            store.revision() == model.revision(),
            "at revision {}, expected {}",
            store.revision(),
            model.revision()
        );
        ensure!(store.compact_revision() == model.compact_revision, "another compact revision");
        ensure!(store.leases().into_iter().eq(model.leases.keys().copied()), "other leases");
        let newest = store.range(&Range::new(KeyRange::all())).map_err(|error| error.to_string())?;
        ensure!(
            newest.kvs.iter().eq(model.newest().values()),
            "the newest state differs:\n {:?}\n {:?}",
            newest.kvs,
            model.newest()
        );
        let range = self.range();
        let (read, expected) =
            (self.store.range(&range), self.model.range(self.model.newest(), &range, self.model.revision()));
        ensure!(text(&read) == text(&expected), "{range:?}\n  {}\n  {}", text(&read), text(&expected));
        Ok(())
    }

    /// Every revision that can still be read, and every event that can still be watched.
    pub fn check_history(&mut self) -> Result<(), String> {
        for revision in self.model.compact_revision.max(1)..=self.model.revision() {
            let range = Range::new(KeyRange::all()).revision(revision);
            let read = self.store.range(&range).map_err(|error| format!("reading {revision}: {error}"))?;
            ensure!(
                read.kvs.iter().eq(self.model.state(revision).values()),
                "the state at {revision} differs:\n {:?}\n {:?}",
                read.kvs,
                self.model.state(revision)
            );
        }
        let from = self.model.compact_revision.max(1);
        self.watch(KeyRange::all(), from);
        self.check_watchers(true)
    }

    pub fn watch(&mut self, keys: KeyRange, from: i64) {
        let stream = self.store.watch(Watch::new(keys.clone()).start_revision(from));
        let next = if from > 0 { from } else { self.model.revision() + 1 };
        self.watchers.push(Watcher { stream, keys, next });
    }

    pub fn watch_at_random(&mut self) {
        let from = match self.random.below(3) {
            0 => 0,
            _ => self.revision(),
        };
        let keys = keys(&mut self.random);
        self.watch(keys, from);
        if self.watchers.len() > 6 {
            let at = self.random.below(6) as usize;
            self.watchers.remove(at);
        }
    }

    /// Lets watchers read (all of them, or some, so that others fall behind) and compares what they see.
    pub fn check_watchers(&mut self, all: bool) -> Result<(), String> {
        let mut gone = Vec::new();
        for (at, watcher) in self.watchers.iter_mut().enumerate() {
            if !all && !self.random.one_in(4) {
                continue;
            }
            let mut idle = 0;
            loop {
                match Pin::new(&mut watcher.stream).poll_next(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Some(Ok(batch))) => {
                        ensure!(
                            batch.revision <= self.model.revision(),
                            "saw a revision that is not durable"
                        );
                        watcher.expect(&self.model, batch.revision - 1)?;
                        let expected = expected(&self.model, &watcher.keys, batch.revision);
                        ensure!(
                            expected.as_deref().is_some_and(|expected| same(
                                expected,
                                &batch.events,
                                &self.model
                            )),
                            "watcher of {:?} saw {batch:?}, expected {expected:?}",
                            watcher.keys
                        );
                        watcher.next = batch.revision + 1;
                    }
                    Poll::Ready(Some(Err(Error::Compacted { compact_revision }))) => {
                        ensure!(
                            watcher.next < compact_revision
                                && compact_revision == self.model.compact_revision,
                            "a watcher at {} was told that {compact_revision} is compacted",
                            watcher.next
                        );
                        gone.push(at);
                        break;
                    }
                    Poll::Ready(other) => return Err(format!("a watcher saw {other:?}")),
                    // Twice, for one that only lets others run.
                    Poll::Pending if idle < 2 => idle += 1,
                    Poll::Pending => {
                        watcher.expect(&self.model, self.model.revision())?;
                        let progress = watcher.stream.progress();
                        ensure!(
                            progress >= self.model.revision().min(watcher.next - 1)
                                && progress <= self.model.revision(),
                            "progress {progress} at {}",
                            self.model.revision()
                        );
                        break;
                    }
                }
            }
        }
        for at in gone.into_iter().rev() {
            self.watchers.remove(at);
        }
        Ok(())
    }

    /// Opens the store again after its disk lost power. `pending` may have become durable up to any point.
    pub fn reopen(&mut self, pending: &[Request]) -> Result<(), String> {
        // Everything that could hold the old store.
        self.watchers.clear();
        self.writer = None;
        let (store, writer) = Store::open(small(), Arc::new(self.disk.clone()))
            .map_err(|error| format!("opening: {error:?}"))?;
        self.store = store;
        self.writer = Some(writer);
        let mut model = self.model.clone();
        let mut tried = 0;
        loop {
            self.model = model.clone();
            match (self.check_view(), pending.get(tried)) {
                (Ok(()), _) if self.same_leases() => break,
                (Ok(()), None) => return Err("after a crash: leases with another time to live".into()),
                (Err(error), None) => return Err(format!("after a crash: {error}")),
                (_, Some(request)) => {
                    // A request that is refused changes nothing.
                    let _ = model.apply(request, self.now);
                    tried += 1;
                }
            }
        }
        self.model.restart(self.now);
        self.check_history()
    }

    /// The leases have the times to live that they were granted.
    fn same_leases(&mut self) -> bool {
        let Some(writer) = self.writer.as_mut() else { return false };
        self.model.leases.iter().all(|(id, (ttl, _))| {
            let (store, id) = (self.store.clone(), *id);
            let mut asked: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(async move { store.lease_time_to_live(id).await });
            assert!(poll(&mut asked).is_none());
            writer.step(self.now);
            matches!(poll(&mut asked), Some(Ok(lease)) if lease.granted_ttl == *ttl)
        })
    }

    pub fn set_faults(&self, faults: Faults) {
        self.disk.set_faults(faults);
    }
}

impl Watcher {
    /// Nothing was left out through `revision`.
    fn expect(&mut self, model: &Model, revision: i64) -> Result<(), String> {
        while self.next <= revision {
            ensure!(
                expected(model, &self.keys, self.next).is_none(),
                "the watcher of {:?} did not see revision {}",
                self.keys,
                self.next
            );
            self.next += 1;
        }
        Ok(())
    }
}

fn expected(model: &Model, keys: &KeyRange, revision: i64) -> Option<Vec<Event>> {
    let at = model.events.binary_search_by_key(&revision, |batch| batch.revision).ok()?;
    let batch = &model.events[at];
    let events: Vec<_> = batch.events.iter().filter(|event| keys.contains(&event.kv.key)).cloned().collect();
    (!events.is_empty()).then_some(events)
}

/// The version before an event may have been compacted.
fn same(expected: &[Event], seen: &[Event], model: &Model) -> bool {
    expected.len() == seen.len()
        && expected.iter().zip(seen).all(|(expected, seen)| {
            let forgotten = seen.prev.is_none() && seen.kv.mod_revision <= model.compact_revision;
            expected.kind == seen.kind && expected.kv == seen.kv && (expected.prev == seen.prev || forgotten)
        })
}
