//! A watch: one JSON frame a line, in order.

use std::marker::PhantomData;

use api::meta::v1::ObjectMeta;
use apimachinery::status::Status;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Body, Error, Object, Result, TransportError};

/// One frame of a watch.
#[derive(Debug)]
pub enum WatchEvent<O> {
    /// An object came to be, or came to match.
    Added(O),
    /// It changed.
    Modified(O),
    /// It went, or ceased to match; its last state.
    Deleted(O),
    /// Nothing before this resourceVersion is still to come. `initial_end` marks the end of the initial
    /// events of a streamed list.
    Bookmark {
        /// Where to resume.
        resource_version: String,
        /// The annotation `k8s.io/initial-events-end` is there.
        initial_end: bool,
    },
}

/// The frames of a watch, as they come.
pub struct WatchStream<O> {
    body: Body,
    lines: Lines,
    ended: bool,
    kind: PhantomData<fn() -> O>,
}

impl<O: Object> WatchStream<O> {
    pub(crate) fn new(body: Body) -> WatchStream<O> {
        WatchStream { body, lines: Lines::default(), ended: false, kind: PhantomData }
    }

    /// The next frame; `None` when the server has ended the watch. An ERROR frame becomes
    /// [`Error::Status`]. Safe to drop before it is done: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<O>>> {
        loop {
            if let Some(line) = self.lines.take() {
                return Some(decode(&line));
            }
            if self.ended {
                return None;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(TransportError::body(error).into()));
                }
                None => {
                    self.ended = true;
                    self.lines.finish();
                }
            }
        }
    }
}

/// Cuts bytes into lines that are not blank.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// How far the buffer is known to hold no line end, so that a long line is not searched again and again.
    searched: usize,
}

impl Lines {
    fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    fn finish(&mut self) {
        if !self.buffer.is_empty() {
            self.buffer.extend_from_slice(b"\n");
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

fn decode<O: Object>(line: &[u8]) -> Result<WatchEvent<O>> {
    #[derive(Deserialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Marked {
        metadata: ObjectMeta,
    }
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(Error::decode)?;
    let object = frame.object.get();
    let typed = || serde_json::from_str::<O>(object).map_err(Error::decode);
    match frame.kind {
        "ADDED" => Ok(WatchEvent::Added(typed()?)),
        "MODIFIED" => Ok(WatchEvent::Modified(typed()?)),
        "DELETED" => Ok(WatchEvent::Deleted(typed()?)),
        "BOOKMARK" => {
            let marked: Marked = serde_json::from_str(object).map_err(Error::decode)?;
            let annotations = marked.metadata.annotations.unwrap_or_default();
            Ok(WatchEvent::Bookmark {
                resource_version: marked.metadata.resource_version.unwrap_or_default(),
                initial_end: annotations.get("k8s.io/initial-events-end").is_some_and(|v| v == "true"),
            })
        }
        "ERROR" => {
            let status: Status = serde_json::from_str(object).map_err(Error::decode)?;
            Err(Error::Status(Box::new(status)))
        }
        other => Err(Error::decode(format!("unknown watch event type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_bytes_break() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for part in text.chunks(size) {
                lines.push(part);
                while let Some(line) = lines.take() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            lines.finish();
            while let Some(line) = lines.take() {
                seen.push(String::from_utf8(line.to_vec()).unwrap());
            }
            assert_eq!(seen, ["{\"a\":1}\n", "{\"b\":2}\n", "{\"c\":3}\n"]);
        }
    }

    #[test]
    fn frames() {
        use api::core::v1::Pod;
        let pod = decode::<Pod>(br#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a"}}}"#);
        assert!(matches!(pod, Ok(WatchEvent::Added(p)) if p.metadata.name.as_deref() == Some("a")));
        let mark = decode::<Pod>(
            br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7"}}}"#,
        );
        assert!(matches!(mark, Ok(WatchEvent::Bookmark { resource_version, .. }) if resource_version == "7"));
        let gone =
            decode::<Pod>(br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#);
        assert!(gone.is_err_and(|e| e.is_gone()));
    }
}
