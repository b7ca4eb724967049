//! Encodings of stored objects, made once per revision for all readers.
//!
//! One buffer of JSON per revision is a whole watch frame, `{"type":"ADDED","object":{…}}⏎`; an answer to GET is
//! a slice of it, a list's item the same slice without `kind` and `apiVersion`, its metadata a slice in that.
//! Frames in other forms and rows of tables are kept beside it once somebody wants them; protobuf answers and
//! lists are not: the stored bytes are spliced (`splice`). The buffers hang on the store's key-values, so they
//! die with the revision; [`Encodings`] keeps their sum below a limit.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use etcd::KeyValue;
use serde_json::Value;

use super::compact::{metadata_in, version_in};

/// A watch frame and where its parts lie.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    /// The object, from `{` to `}`.
    object: Range<usize>,
    /// The first byte after `"apiVersion":"…",`.
    rest: usize,
    /// The value of `metadata`, braces and all; empty if there is none.
    metadata: Range<usize>,
}

/// Why stored bytes have no JSON form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Decode(String),
    #[error("the object's JSON does not begin with its kind")]
    Head,
}

impl Frame {
    /// Builds the frame around what `write` appends: the object's JSON with its resourceVersion, beginning with
    /// `{` and `head` (`"kind":"…","apiVersion":"…",`).
    pub fn build(
        event: &str,
        head: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut out = Vec::with_capacity(1024);
        let start = prefix(&mut out, event);
        write(&mut out)?;
        let rest = start + 1 + head.len();
        if out.get(start + 1..rest) != Some(head.as_bytes()) {
            return Err(Error::Head);
        }
        let end = out.len();
        out.extend_from_slice(b"}\n");
        out.shrink_to_fit();
        let metadata = metadata_in(&out, rest);
        Ok(Self { bytes: out.into(), object: start..end, rest, metadata })
    }

    /// The same object under another event type, and for deletions another version.
    pub fn derive(&self, event: &str, revision: Option<i64>) -> Self {
        let mut out = Vec::with_capacity(self.bytes.len() + 16);
        let start = prefix(&mut out, event);
        let object = &self.bytes[self.object.clone()];
        let version = revision.and_then(|r| Some((r, version_in(object, self.rest - self.object.start)?)));
        match version {
            Some((revision, digits)) => {
                out.extend_from_slice(&object[..digits.start]);
                out.extend_from_slice(revision.to_string().as_bytes());
                out.extend_from_slice(&object[digits.end..]);
            }
            None => out.extend_from_slice(object),
        }
        let end = out.len();
        out.extend_from_slice(b"}\n");
        let rest = self.rest - self.object.start + start;
        let metadata = metadata_in(&out, rest);
        Self { bytes: out.into(), object: start..end, rest, metadata }
    }

    /// The whole frame.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The object as GET answers it.
    pub fn object(&self) -> Bytes {
        self.bytes.slice(self.object.clone())
    }

    /// The object as an item of a list is written: `{` and these bytes.
    pub fn item(&self) -> &[u8] {
        &self.bytes[self.rest..self.object.end]
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &[u8] {
        if self.metadata.is_empty() { b"{}" } else { &self.bytes[self.metadata.clone()] }
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// A frame around an object's JSON, which `write` appends.
pub fn frame(event: &str, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    prefix(&mut out, event);
    write(&mut out);
    out.extend_from_slice(b"}\n");
    out
}

fn prefix(out: &mut Vec<u8>, event: &str) -> usize {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.len()
}

/// A form of frames besides that of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Protobuf,
    /// `PartialObjectMetadata` in JSON, with the version of `meta.k8s.io`.
    Metadata(&'static str),
    /// The same in protobuf.
    ProtobufMetadata(&'static str),
}

/// A row of a table, all but what is included of the object.
#[derive(Debug)]
pub struct Row {
    /// `"cells":[…]`, and conditions.
    pub text: Vec<u8>,
    /// Where in it the time since the object's creation goes, and that creation in seconds.
    pub age: Option<(usize, i64)>,
}

#[derive(Clone)]
enum Kept {
    /// For built-in kinds 0, for the others what they are told apart by.
    Json(u64, Frame),
    Other(Form, Bytes),
    Row(Arc<Row>),
    /// In the version of the record with this tag, as its webhook has made it.
    Converted(u64, Arc<KeyValue>),
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Json(_, frame) => frame.size(),
            Self::Other(_, bytes) => bytes.len(),
            Self::Row(row) => row.text.len() + size_of::<Row>(),
            Self::Converted(_, kv) => kv.value.len() + size_of::<KeyValue>(),
        }
    }
}

/// What is kept with a key-value: its encodings, while there is room, and its selectable fields.
pub struct Cell {
    kept: Mutex<Vec<Kept>>,
    /// Held while a frame is made, in JSON or in another form (which may need the one in JSON): who wants the same
    /// one at the same moment waits for it.
    making: [Mutex<()>; 2],
    read_lately: AtomicBool,
    fields: OnceLock<BTreeMap<String, String>>,
    object: OnceLock<Option<Arc<Value>>>,
    owner: Arc<Encodings>,
}

impl Cell {
    fn forget(&self) {
        let kept = std::mem::take(&mut *lock(&self.kept));
        if !kept.is_empty() {
            self.owner.used.fetch_sub(kept.iter().map(Kept::size).sum(), Relaxed);
            self.owner.kept.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.forget();
    }
}

/// All encodings that are kept, oldest first; those not read since the last look go first.
pub struct Encodings {
    limit: usize,
    used: AtomicUsize,
    kept: AtomicUsize,
    made: AtomicU64,
    queue: Mutex<VecDeque<Weak<Cell>>>,
}

impl Encodings {
    /// `limit`: bytes kept at most.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            queue: Mutex::new(VecDeque::new()),
        })
    }

    /// Bytes kept now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// How many encodings were made so far, kept or not.
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// The frame of a key-value, made by `make` if it is not kept.
    pub fn frame(
        self: &Arc<Self>,
        kv: &KeyValue,
        tag: u64,
        make: impl FnOnce() -> Result<Frame, Error>,
    ) -> Result<Frame, Error> {
        let find = |kept: &Kept| match kept {
            Kept::Json(of, frame) if *of == tag => Some(frame.clone()),
            _ => None,
        };
        self.find_or(kv, 0, find, || make().map(|frame| (Kept::Json(tag, frame.clone()), frame)))
    }

    /// A frame in another form.
    pub fn other<E>(
        self: &Arc<Self>,
        kv: &KeyValue,
        form: Form,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let find = |kept: &Kept| match kept {
            Kept::Other(of, bytes) if *of == form => Some(bytes.clone()),
            _ => None,
        };
        self.find_or(kv, 1, find, || make().map(|bytes| (Kept::Other(form, bytes.clone()), bytes)))
    }

    /// What a webhook has made of a key-value.
    pub fn converted(&self, kv: &KeyValue, tag: u64) -> Option<Arc<KeyValue>> {
        let cell = kv.derived.get::<Cell>()?;
        let kept = lock(&cell.kept);
        kept.iter().find_map(|kept| match kept {
            Kept::Converted(of, kv) if *of == tag => Some(kv.clone()),
            _ => None,
        })
    }

    /// Keeps it for the next reader.
    pub fn keep_converted(self: &Arc<Self>, kv: &KeyValue, tag: u64, converted: Arc<KeyValue>) {
        self.add(&self.cell(kv), Kept::Converted(tag, converted));
    }

    /// The kept row.
    pub fn row(&self, kv: &KeyValue) -> Option<Arc<Row>> {
        let cell = kv.derived.get::<Cell>()?;
        let kept = lock(&cell.kept);
        kept.iter().find_map(|kept| match kept {
            Kept::Row(row) => Some(row.clone()),
            _ => None,
        })
    }

    /// Keeps a row.
    pub fn keep_row(self: &Arc<Self>, kv: &KeyValue, row: Arc<Row>) {
        self.add(&self.cell(kv), Kept::Row(row));
    }

    fn find_or<T, E>(
        self: &Arc<Self>,
        kv: &KeyValue,
        making: usize,
        find: impl Fn(&Kept) -> Option<T>,
        make: impl FnOnce() -> Result<(Kept, T), E>,
    ) -> Result<T, E> {
        let cell = self.cell(kv);
        let kept = || {
            let found = lock(&cell.kept).iter().find_map(&find)?;
            // Written only when it changes: thousands of readers share this.
            if !cell.read_lately.load(Relaxed) {
                cell.read_lately.store(true, Relaxed);
            }
            Some(found)
        };
        if let Some(found) = kept() {
            return Ok(found);
        }
        let _making = lock(&cell.making[making]);
        if let Some(found) = kept() {
            return Ok(found);
        }
        self.made.fetch_add(1, Relaxed);
        let (new, value) = make()?;
        self.add(&cell, new);
        Ok(value)
    }

    fn add(&self, cell: &Arc<Cell>, new: Kept) {
        let size = new.size();
        if size > self.limit / 4 {
            return;
        }
        let first = {
            let mut kept = lock(&cell.kept);
            kept.reserve_exact(1);
            kept.push(new);
            // While it is locked: who takes it out subtracts.
            self.used.fetch_add(size, Relaxed);
            if kept.len() == 1 {
                self.kept.fetch_add(1, Relaxed);
            }
            kept.len() == 1
        };
        self.make_room(first.then_some(cell));
    }

    /// The selectable fields of a key-value, worked out once.
    pub fn fields<T>(
        self: &Arc<Self>,
        kv: &KeyValue,
        make: impl FnOnce() -> BTreeMap<String, String>,
        read: impl FnOnce(&BTreeMap<String, String>) -> T,
    ) -> T {
        read(self.cell(kv).fields.get_or_init(make))
    }

    /// The decoded object of a key-value, decoded once; `None` if that is impossible. For kinds of which there are
    /// few objects, since nothing limits what is kept.
    pub fn object(
        self: &Arc<Self>,
        kv: &KeyValue,
        make: impl FnOnce() -> Option<Value>,
    ) -> Option<Arc<Value>> {
        self.cell(kv).object.get_or_init(|| make().map(Arc::new)).clone()
    }

    fn cell(self: &Arc<Self>, kv: &KeyValue) -> Arc<Cell> {
        kv.derived.get_or_init(|| Cell {
            kept: Mutex::default(),
            making: Default::default(),
            read_lately: AtomicBool::new(false),
            fields: OnceLock::new(),
            object: OnceLock::new(),
            owner: self.clone(),
        })
    }

    fn make_room(&self, new: Option<&Arc<Cell>>) {
        if new.is_none() && self.used.load(Relaxed) <= self.limit {
            return;
        }
        // Cells are dropped after the lock: their own drop wants other locks.
        let mut dropped = Vec::new();
        let mut queue = lock(&self.queue);
        queue.extend(new.map(Arc::downgrade));
        while self.used.load(Relaxed) > self.limit {
            let Some(oldest) = queue.pop_front() else { break };
            let Some(cell) = oldest.upgrade() else { continue };
            if cell.read_lately.swap(false, Relaxed) && queue.len() > 1 {
                queue.push_back(oldest);
            } else {
                cell.forget();
            }
            dropped.push(cell);
        }
        // Cells of dead revisions leave their places behind.
        if queue.len() > 1024 && queue.len() / 2 > self.kept.load(Relaxed) {
            queue.retain(|cell| cell.strong_count() > 0);
        }
        drop(queue);
        drop(dropped);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""kind":"A","apiVersion":"v1","#;

    fn frame(rest: &str) -> Result<Frame, Error> {
        Frame::build("ADDED", HEAD, |out| {
            out.extend_from_slice(format!("{{{HEAD}{rest}").as_bytes());
            Ok(())
        })
    }

    #[test]
    fn parts_of_a_frame() {
        for rest in [
            r#""metadata":{"name":"a\"}","resourceVersion":"7","x":null},"data":{"metadata":{}}}"#,
            r#""metadata":{"resourceVersion":"7"}}"#,
            r#""a":[1,{"b":2}],"metadata":{"labels":{"resourceVersion":"x"},"resourceVersion":"7"}}"#,
        ] {
            let frame = frame(rest).unwrap();
            let object = format!("{{{HEAD}{rest}");
            assert_eq!(frame.object(), object.as_bytes());
            assert_eq!(frame.item(), rest.as_bytes());
            let whole = format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
            assert_eq!(frame.bytes(), whole.as_bytes());
            let deleted = frame.derive("DELETED", Some(12));
            let expect = whole.replace("ADDED", "DELETED").replace("\"7\"", "\"12\"");
            assert_eq!(deleted.bytes(), expect.as_bytes());
            assert_eq!(deleted.derive("ADDED", Some(7)).bytes(), whole.as_bytes());
            assert_eq!(deleted.derive("ADDED", Some(7)).item(), frame.item());
        }
        let broken = Frame::build("ADDED", HEAD, |out| {
            out.extend_from_slice(b"{}");
            Ok(())
        });
        assert!(broken.is_err());
    }

    #[test]
    fn readers_at_the_same_moment_share_one_encoding() {
        let (encodings, kv) = (Encodings::new(4000), KeyValue::default());
        let both = std::sync::Barrier::new(4);
        let read = || {
            both.wait();
            encodings.frame(&kv, 0, || frame(r#""metadata":{}}"#)).unwrap();
            // a frame in another form is made of the one in JSON
            let other = || encodings.frame(&kv, 0, || Err(Error::Head)).map(|frame| frame.bytes());
            encodings.other(&kv, Form::Metadata("v1"), other).unwrap();
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        assert_eq!(encodings.made(), 2);
    }

    #[test]
    fn kept_bytes_stay_below_the_limit() {
        let encodings = Encodings::new(4000);
        let kvs: Vec<KeyValue> = (0..100).map(|_| KeyValue::default()).collect();
        for kv in &kvs {
            let made = encodings.frame(kv, 0, || frame(r#""metadata":{}}"#)).unwrap();
            assert!(made.size() < 200);
            assert!(encodings.used() <= 4000);
        }
        let used = encodings.used();
        assert!(used > 3000);
        // Kept: not made again.
        encodings.frame(&kvs[99], 0, || Err(Error::Head)).unwrap();
        drop(kvs);
        assert_eq!(encodings.used(), 0);
    }
}
