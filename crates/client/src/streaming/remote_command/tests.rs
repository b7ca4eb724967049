//! A client on one side, a SPDY server on the other, and what each gets of the other's words.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::streaming::spdy::{Decoder, Encoder, Frame};

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: true };

struct Client(WebSocketStream<DuplexStream>);

impl Client {
    async fn say(&mut self, message: &[u8]) {
        self.0.send(Message::binary(message.to_vec())).await.unwrap();
    }

    async fn hear(&mut self) -> Vec<u8> {
        match self.0.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// The Status on the error channel, behind which the connection ends.
    async fn outcome(&mut self) -> Value {
        let message = self.hear().await;
        let (channel, status) = message.split_first().unwrap();
        assert_eq!(*channel, 3, "{message:?}");
        assert_eq!(self.0.next().await.unwrap().unwrap(), websocket::close());
        assert!(self.0.next().await.is_none_or(|last| last.is_err()));
        serde_json::from_slice(status).unwrap()
    }
}

struct Server {
    io: DuplexStream,
    decoder: Decoder,
    encoder: Encoder,
}

impl Server {
    fn new(io: DuplexStream) -> Self {
        Self { io, decoder: Decoder::default(), encoder: Encoder::default() }
    }

    /// The next frame but pings; `None` at the end.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Frame::Ping { id }) if id % 2 == 1 => {}
                Some(frame) => return Some(frame),
                None => {
                    let mut block = [0; 4096];
                    match self.io.read(&mut block).await {
                        Ok(length @ 1..) => self.decoder.push(&block[..length]),
                        _ => return None,
                    }
                }
            }
        }
    }

    async fn say(&mut self, frame: Frame) {
        let mut out = Vec::new();
        self.encoder.encode(&frame, &mut out);
        self.io.write_all(&out).await.unwrap();
    }

    async fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        self.say(Frame::Data { stream, fin, bytes: Bytes::copy_from_slice(bytes) }).await;
    }

    /// Takes the streams that are opened, by name.
    async fn accept(&mut self, expect: &[&str]) {
        for (name, id) in expect.iter().zip((1..).step_by(2)) {
            match self.hear().await.unwrap() {
                Frame::SynStream { stream, fin: false, headers } => {
                    assert_eq!((stream, &*headers), (id, &[("streamtype".into(), (*name).to_owned())][..]));
                    self.say(Frame::SynReply { stream, fin: false, headers: vec![] }).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// All bytes of a stream, up to its end.
    async fn all_of(&mut self, wanted: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.hear().await.unwrap() {
                Frame::Data { stream, fin, bytes } if stream == wanted => {
                    all.extend_from_slice(&bytes);
                    if fin {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// As Go's server ends: the streams are reset, then it goes.
    async fn end(&mut self, status: &str) {
        self.data(1, status.as_bytes(), false).await;
        for stream in [1, 3, 5, 7] {
            self.say(Frame::RstStream { stream, status: 5 }).await;
        }
        self.say(Frame::GoAway { last: 7, status: 0 }).await;
    }
}

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

/// Buffers of a few kilobytes between the three.
async fn start(streams: Streams, protocol: Option<&'static str>) -> (Client, Server, JoinHandle<u16>) {
    let (near, far) = tokio::io::duplex(4096);
    let (backend, server) = tokio::io::duplex(4096);
    let protocol = protocol.map(str::to_owned);
    let dial = async move { Ok(Upgraded { io: backend, protocol }) };
    let task = tokio::spawn(serve(near, streams, dial));
    let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    (Client(client), Server::new(server), task)
}

const V4: Option<&str> = Some("v4.channel.k8s.io");

#[tokio::test(start_paused = true)]
async fn outputs_and_exit_codes() {
    let failure = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
    for (protocol, error, expect, code) in [
        (V4, SUCCESS, json!({"metadata": {}, "status": "Success"}), 200),
        (
            V4,
            failure,
            json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code: command terminated with exit code 42",
                "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}}),
            200,
        ),
        (None, "", json!({"metadata": {}, "status": "Success"}), 200),
        (
            Some("v2.channel.k8s.io"),
            "it broke",
            json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": "Internal error occurred: error executing remote command: it broke",
                "details": {"causes": [{"message": "error executing remote command: it broke"}]}}),
            500,
        ),
    ] {
        let (mut client, mut server, task) = start(ALL, protocol).await;
        assert_eq!(client.hear().await, [1]);
        server.accept(&["error", "stdin", "stdout", "stderr"]).await;
        server.data(5, b"out", false).await;
        assert_eq!(client.hear().await, b"\x01out");
        server.data(7, b"err", false).await;
        assert_eq!(client.hear().await, b"\x02err");
        server.data(5, b"more", true).await;
        assert_eq!(client.hear().await, b"\x01more");
        server.end(error).await;
        assert_eq!(client.outcome().await, expect, "{protocol:?}");
        assert_eq!(task.await.unwrap(), code);
        // What the server closed is not closed again.
        let mut last = None;
        while let Some(frame) = server.hear().await {
            last = Some(frame);
        }
        assert_eq!(last, Some(Frame::GoAway { last: 0, status: 0 }));
    }
}

#[tokio::test(start_paused = true)]
async fn which_streams() {
    for (streams, protocol, first, expect) in [
        (ALL, V4, 1, &["error", "stdin", "stdout", "stderr"][..]),
        (TERMINAL, V4, 1, &["error", "stdin", "stdout", "resize"]),
        (TERMINAL, Some("v2.channel.k8s.io"), 1, &["error", "stdin", "stdout"]),
        (TERMINAL, None, 1, &["error", "stdin", "stdout"]),
        (Streams { stderr: true, ..Streams::default() }, V4, 2, &["error", "stderr"]),
        (Streams { stdin: true, ..Streams::default() }, V4, 3, &["error", "stdin"]),
        // A terminal has one output.
        (Streams { stderr: true, ..TERMINAL }, V4, 1, &["error", "stdin", "stdout", "resize"]),
    ] {
        let (mut client, mut server, _task) = start(streams, protocol).await;
        assert_eq!(client.hear().await, [first], "{streams:?}");
        server.accept(expect).await;
        server.end(if protocol == V4 { SUCCESS } else { "" }).await;
        assert_eq!(client.outcome().await["status"], "Success");
    }
}

#[tokio::test(start_paused = true)]
async fn stdin_ends_before_the_command_does() {
    let (mut client, mut server, task) = start(ALL, V4).await;
    assert_eq!(client.hear().await, [1]);
    server.accept(&["error", "stdin", "stdout", "stderr"]).await;
    let big: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
    let message = [&[0], &big[..]].concat();
    let (read, ()) = tokio::join!(server.all_of(3), async {
        client.say(b"\0first ").await;
        client.say(b"\x01not ours").await;
        client.say(&message).await;
        client.say(&[255, 0]).await;
        client.say(b"\0after the end").await;
    });
    assert!(read == [b"first ", &big[..]].concat());
    server.data(5, b"still here", false).await;
    assert_eq!(client.hear().await, b"\x01still here");
    client.0.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
    assert_eq!(client.0.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"?")));
    server.end(SUCCESS).await;
    assert_eq!(client.outcome().await["status"], "Success");
    assert_eq!(task.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn terminals_are_resized() {
    let (mut client, mut server, _task) = start(TERMINAL, V4).await;
    client.hear().await;
    client.say(br#"{"Width":1}"#).await;
    client.say(b"\x04{\"width\":80,\"Height\":24}{\"Wid").await;
    client.say(b"\x04th\":100}").await;
    server.accept(&["error", "stdin", "stdout", "resize"]).await;
    let mut sizes = Vec::new();
    while sizes.iter().filter(|byte| **byte == b'\n').count() < 2 {
        match server.hear().await.unwrap() {
            Frame::Data { stream: 7, bytes, .. } => sizes.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sizes, b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":0}\n");
}

/// What goes wrong at the server, and the message that the client gets.
#[tokio::test(start_paused = true)]
async fn servers_that_fail() {
    for (what, expect) in [
        ("cannot be reached", "Internal error occurred: unable to upgrade connection: no"),
        ("resets a stream", "Internal error occurred: Stream reset"),
        ("says nothing", "Internal error occurred: Timeout occurred"),
        ("ends early", "Internal error occurred: Stream reset"),
        ("is lost", "Internal error occurred: the connection was lost before the command ended"),
        ("speaks HTTP", "Internal error occurred: reading the streams: SPDY version 21"),
        ("never stops erring", "Internal error occurred: the error stream is too long"),
    ] {
        let (near, far) = tokio::io::duplex(4096);
        let (backend, server) = tokio::io::duplex(4096);
        let dial = async move {
            match what {
                "cannot be reached" => Err(Status::internal("unable to upgrade connection: no")),
                _ => Ok(Upgraded { io: backend, protocol: V4.map(str::to_owned) }),
            }
        };
        let task = tokio::spawn(serve(near, ALL, dial));
        let mut client = Client(WebSocketStream::from_raw_socket(far, Role::Client, None).await);
        assert_eq!(client.hear().await, [1]);
        let mut server = Server::new(server);
        let names = ["error", "stdin", "stdout", "stderr"];
        let mut long = None;
        match what {
            "resets a stream" => {
                server.hear().await;
                server.say(Frame::RstStream { stream: 1, status: 3 }).await;
            }
            "ends early" => server.io.shutdown().await.unwrap(),
            "is lost" => {
                server.accept(&names).await;
                server.io.shutdown().await.unwrap();
            }
            "speaks HTTP" => server.io.write_all(&[0x80, 21, 0, 1, 0, 0, 0, 0]).await.unwrap(),
            "never stops erring" => {
                server.accept(&names).await;
                long = Some(tokio::spawn(async move {
                    let block = Bytes::from(vec![b'x'; 1000]);
                    let mut out = Vec::new();
                    server.encoder.encode(&Frame::Data { stream: 1, fin: false, bytes: block }, &mut out);
                    while server.io.write_all(&out).await.is_ok() {}
                }));
            }
            _ => {}
        }
        let outcome = client.outcome().await;
        assert_eq!(outcome["message"], expect, "{what}");
        assert_eq!(task.await.unwrap(), 500);
        if let Some(long) = long {
            long.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_go() {
    for how in ["closes", "vanishes", "breaks the protocol"] {
        let (mut client, mut server, task) = start(ALL, V4).await;
        client.hear().await;
        server.accept(&["error", "stdin", "stdout", "stderr"]).await;
        client.say(b"\0last words").await;
        match how {
            "closes" => client.0.send(websocket::close()).await.unwrap(),
            "breaks the protocol" => client.say(&[255, 9]).await,
            _ => drop(client),
        }
        assert_eq!(server.all_of(3).await, b"last words", "{how}");
        // Output that nobody reads holds nothing up; then it is over.
        for _ in 0..20 {
            server.data(5, &[0; 1000], false).await;
        }
        assert_eq!(server.hear().await, None, "{how}");
        assert_eq!(task.await.unwrap(), 500);
    }
}

/// A client that does not read: the server can send no more than the buffers hold. A server that does not read: the
/// client can send no more, but gets all output.
#[tokio::test(start_paused = true)]
async fn nobody_is_overrun() {
    let (mut client, mut server, _task) = start(ALL, V4).await;
    client.hear().await;
    server.accept(&["error", "stdin", "stdout", "stderr"]).await;
    let mut sent = 0;
    while timeout(Duration::from_secs(60), server.data(5, &[1; 1000], false)).await.is_ok() {
        sent += 1000;
        assert!(sent < 200_000, "held in memory");
    }
    let mut got = 0;
    while got < sent - 1000 {
        got += client.hear().await.len() - 1;
    }

    let (mut client, mut server, _task) = start(ALL, V4).await;
    client.hear().await;
    server.accept(&["error", "stdin", "stdout", "stderr"]).await;
    let mut sent = 0;
    while timeout(Duration::from_secs(1), client.say(&[0; 1001])).await.is_ok() {
        sent += 1000;
        assert!(sent < 200_000, "held in memory");
    }
    // Pings on top of it are not waited for either.
    for id in 1..200 {
        server.say(Frame::Ping { id: id * 2 }).await;
    }
    for _ in 0..50 {
        server.data(5, &[1; 1000], false).await;
        assert_eq!(client.hear().await.len(), 1001);
    }
}

#[tokio::test(start_paused = true)]
async fn pings_and_streams_of_the_server() {
    let (mut client, mut server, _task) = start(ALL, V4).await;
    client.hear().await;
    server.accept(&["error", "stdin", "stdout", "stderr"]).await;
    server.say(Frame::Ping { id: 8 }).await;
    assert_eq!(server.hear().await, Some(Frame::Ping { id: 8 }));
    server.say(Frame::SynStream { stream: 2, fin: false, headers: vec![] }).await;
    assert_eq!(server.hear().await, Some(Frame::RstStream { stream: 2, status: 3 }));
    // The server closes stdin: so do we, and what the client still says is dropped.
    server.data(3, b"", true).await;
    assert_eq!(server.hear().await, Some(Frame::Data { stream: 3, fin: true, bytes: Bytes::new() }));
    client.say(b"\0too late").await;
    sleep(Duration::from_secs(1)).await;
    server.end(SUCCESS).await;
    assert_eq!(client.outcome().await["status"], "Success");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it() {
    let (mut client, mut server, task) = start(ALL, V4).await;
    client.hear().await;
    server.accept(&["error", "stdin", "stdout", "stderr"]).await;
    sleep(IDLE / 2).await;
    client.say(b"\0here").await;
    let waiting = tokio::spawn(async move { while server.hear().await.is_some() {} });
    sleep(IDLE - Duration::from_secs(60)).await;
    assert!(!task.is_finished());
    sleep(Duration::from_secs(120)).await;
    assert_eq!(task.await.unwrap(), 500);
    waiting.await.unwrap();
}
