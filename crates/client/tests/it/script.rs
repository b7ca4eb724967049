//! A transport that answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use apimachinery::clock::{Clock, Entropy};
use bytes::Bytes;
use client::{Body, Client, Transport, TransportError};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, StreamBody};

/// One answer.
pub enum Answer {
    /// A code and a body.
    Full(u16, String),
    /// Chunks, then the end of the body; with `hang` the body stays open instead.
    Stream { chunks: Vec<String>, hang: bool },
    /// No connection.
    Broken,
}

pub fn ok(body: &str) -> Answer {
    Answer::Full(200, body.into())
}

#[derive(Clone, Default)]
pub struct Script {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Script {
        let script = Script::default();
        script.inner.lock().unwrap().answers.extend(answers);
        script
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test/1")
    }

    /// `METHOD uri body` of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.inner.lock().unwrap().asked.clone()
    }
}

impl Transport for Script {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>> {
        let mut inner = self.inner.lock().unwrap();
        let body = String::from_utf8_lossy(request.body()).into_owned();
        inner.asked.push(format!("{} {} {body}", request.method(), request.uri()).trim().to_owned());
        // A script that has run out hangs: what follows is not part of the test.
        let answer = inner.answers.pop_front().unwrap_or(Answer::Stream { chunks: vec![], hang: true });
        Box::pin(async move {
            let (code, body) = match answer {
                Answer::Full(code, text) => (code, client::full_body(text)),
                Answer::Stream { chunks, hang } => {
                    let chunks = chunks.into_iter().map(|c| Ok(http_body::Frame::data(Bytes::from(c))));
                    let stream = futures::stream::iter(chunks);
                    if hang {
                        let stream = futures::StreamExt::chain(stream, futures::stream::pending());
                        (200, StreamBody::new(stream).boxed_unsync())
                    } else {
                        (200, StreamBody::new(stream).boxed_unsync())
                    }
                }
                Answer::Broken => {
                    return Err(TransportError::Connect { address: "x:1".into(), source: "refused".into() });
                }
            };
            Ok(http::Response::builder().status(code).body(body).unwrap())
        })
    }
}

pub struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// A clock that follows tokio's virtual time from a fixed start.
pub struct Virtual {
    start: tokio::time::Instant,
}

impl Virtual {
    pub fn new() -> Virtual {
        Virtual { start: tokio::time::Instant::now() }
    }
}

impl Clock for Virtual {
    fn now(&self) -> jiff::Timestamp {
        let passed = jiff::SignedDuration::try_from(self.start.elapsed()).unwrap();
        jiff::Timestamp::from_second(1_700_000_000).unwrap() + passed
    }
}
