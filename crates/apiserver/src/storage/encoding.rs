//! JSON of stored objects, made once per revision for all readers.
//!
//! One buffer per revision is a whole watch frame, `{"type":"ADDED","object":{…}}⏎`; an answer to GET is a
//! slice of it, a list's item the same slice without `kind` and `apiVersion`. The buffers hang on the store's
//! key-values, so they die with the revision; [`Encodings`] keeps their sum below a limit.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use etcd::KeyValue;
use serde_json::Value;

/// A watch frame and where its parts lie.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    /// The object, from `{` to `}`.
    object: Range<usize>,
    /// The first byte after `"apiVersion":"…",`.
    rest: usize,
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
        Ok(Self { bytes: out.into(), object: start..end, rest })
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
        Self { bytes: out.into(), object: start..end, rest: self.rest - self.object.start + start }
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

    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

fn prefix(out: &mut Vec<u8>, event: &str) -> usize {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.len()
}

/// Where the digits of `metadata.resourceVersion` lie. `from` is inside the object, before `metadata`.
fn version_in(json: &[u8], from: usize) -> Option<Range<usize>> {
    let find = |mut at: usize, wanted: &[u8]| loop {
        let (key, value) = key_at(json, at)?;
        if &json[key] == wanted {
            return Some(value);
        }
        at = skip_comma(json, skip_value(json, value)?)?;
    };
    let metadata = find(from, b"metadata")?;
    let version = find(metadata + 1, b"resourceVersion")?;
    let end = skip_value(json, version)?;
    Some(version + 1..end - 1)
}

/// The key that begins at `at`, without quotes, and where its value begins.
fn key_at(json: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let end = skip_value(json, at)?;
    (json.get(end) == Some(&b':')).then_some((at + 1..end - 1, end + 1))
}

fn skip_comma(json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&b',')).then_some(at + 1)
}

/// The first byte after the value that begins at `at`. The text is compact JSON.
fn skip_value(json: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = at;
    loop {
        match *json.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    match *json.get(at)? {
                        b'\\' => at += 2,
                        b'"' => break,
                        _ => at += 1,
                    }
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ => {
                at += 1;
                if depth == 0 {
                    while !matches!(json.get(at), None | Some(b',' | b'}' | b']')) {
                        at += 1;
                    }
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// What is kept with a key-value: its frame, while there is room, and its selectable fields.
pub struct Cell {
    frame: Mutex<Option<Frame>>,
    read_lately: AtomicBool,
    fields: OnceLock<BTreeMap<String, String>>,
    object: OnceLock<Option<Arc<Value>>>,
    owner: Arc<Encodings>,
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Some(frame) = lock(&self.frame).take() {
            self.owner.used.fetch_sub(frame.size(), Relaxed);
            self.owner.kept.fetch_sub(1, Relaxed);
        }
    }
}

/// All frames that are kept, oldest first; those not read since the last look go first.
pub struct Encodings {
    limit: usize,
    used: AtomicUsize,
    kept: AtomicUsize,
    queue: Mutex<VecDeque<Weak<Cell>>>,
}

impl Encodings {
    /// `limit`: bytes of JSON kept at most.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
        })
    }

    /// Bytes kept now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The frame of a key-value, made by `make` if it is not kept.
    pub fn frame(
        self: &Arc<Self>,
        kv: &KeyValue,
        make: impl FnOnce() -> Result<Frame, Error>,
    ) -> Result<Frame, Error> {
        let cell = self.cell(kv);
        if let Some(frame) = &*lock(&cell.frame) {
            cell.read_lately.store(true, Relaxed);
            return Ok(frame.clone());
        }
        let frame = make()?;
        if frame.size() <= self.limit / 4 {
            let mut slot = lock(&cell.frame);
            if slot.is_none() {
                *slot = Some(frame.clone());
                self.used.fetch_add(frame.size(), Relaxed);
                self.kept.fetch_add(1, Relaxed);
                drop(slot);
                self.keep(&cell);
            }
        }
        Ok(frame)
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
            frame: Mutex::new(None),
            read_lately: AtomicBool::new(false),
            fields: OnceLock::new(),
            object: OnceLock::new(),
            owner: self.clone(),
        })
    }

    fn keep(&self, cell: &Arc<Cell>) {
        // Cells are dropped after the lock: their own drop wants other locks.
        let mut dropped = Vec::new();
        let mut queue = lock(&self.queue);
        queue.push_back(Arc::downgrade(cell));
        while self.used.load(Relaxed) > self.limit {
            let Some(oldest) = queue.pop_front() else { break };
            let Some(cell) = oldest.upgrade() else { continue };
            if cell.read_lately.swap(false, Relaxed) && queue.len() > 1 {
                queue.push_back(oldest);
            } else if let Some(frame) = lock(&cell.frame).take() {
                self.used.fetch_sub(frame.size(), Relaxed);
                self.kept.fetch_sub(1, Relaxed);
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
    fn kept_bytes_stay_below_the_limit() {
        let encodings = Encodings::new(4000);
        let kvs: Vec<KeyValue> = (0..100).map(|_| KeyValue::default()).collect();
        for kv in &kvs {
            let made = encodings.frame(kv, || frame(r#""metadata":{}}"#)).unwrap();
            assert!(made.size() < 200);
            assert!(encodings.used() <= 4000);
        }
        let used = encodings.used();
        assert!(used > 3000);
        // Kept: not made again.
        encodings.frame(&kvs[99], || Err(Error::Head)).unwrap();
        drop(kvs);
        assert_eq!(encodings.used(), 0);
    }
}
