//! exec and attach for clients that speak `v5.channel.k8s.io` over WebSocket, with servers that speak SPDY/3.1.
//!
//! [`channels`] says what is in the client's messages, [`outcome`] what the server's error stream means, [`session`]
//! is the SPDY side. Upstream's `streamtranslator.go` and `client-go/tools/remotecommand` are what clients and
//! servers can tell this from.

mod channels;
mod outcome;
mod session;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::status::Status;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream::SplitStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use self::channels::{Channel, Said, Sizes};
use super::Upgraded;
use super::websocket::{self, Message};

/// The one protocol that is translated. Older ones are spoken by the servers themselves.
pub const WEBSOCKET_PROTOCOL: &str = "v5.channel.k8s.io";
/// What a server is offered, best first.
pub const PROTOCOLS: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// A connection on which nothing was said for so long is given up, as by the kubelet.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// The client must take the outcome within this.
const OUTCOME: Duration = Duration::from_secs(10);
/// Once the client has gone, what it said still goes to the server for this long.
const LINGER: Duration = Duration::from_secs(10);

/// Which streams a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// From the client to the server.
#[derive(Debug)]
enum Input {
    Data(Bytes),
    /// Of stdin only.
    End,
    /// One of the terminal, as the server reads it.
    Size(String),
}

/// When something was last said, and whether the client has gone.
#[derive(Clone)]
struct Activity {
    last: Arc<Mutex<Instant>>,
    gone: CancellationToken,
}

impl Activity {
    fn new() -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), gone: CancellationToken::new() }
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn ceased(&self) {
        loop {
            let end = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// Serves a client whose handshake is done. `dial` opens the connection to the server; its failure is told on the
/// error channel, since the client has its 101.
///
/// # Returns
/// The HTTP code for what became of it: 200 whatever the exit code, else the Status's.
pub async fn serve<C, B, D>(client: C, streams: Streams, dial: D) -> u16
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    D: Future<Output = Result<Upgraded<B>, Status>>,
{
    let (mut sink, source) = websocket::accept(client, websocket::LONGEST_MESSAGE).await.split();
    let activity = Activity::new();
    let (inputs, taken) = mpsc::channel(1);
    let mut reading = pin!(read(source, streams, inputs, activity.clone()));
    let mut session = pin!(async {
        // Tells the client that it is connected.
        let first = if streams.stdout {
            Channel::Stdout
        } else if streams.stderr {
            Channel::Stderr
        } else {
            Channel::Error
        };
        let _ = sink.send(first.message(&[])).await;
        let outcome = match dial.await {
            Ok(server) => session::run(server, streams, taken, &mut sink, &activity).await,
            Err(status) => Err(status.into()),
        };
        (sink, outcome)
    });
    let ended = tokio::select! {
        biased;
        ended = &mut session => Some(ended),
        () = &mut reading => None,
    };
    if ended.is_none() {
        activity.gone.cancel();
    }
    let Some((mut sink, outcome)) = ended else {
        return timeout(LINGER, session).await.map_or(500, |(_, outcome)| outcome::code(&outcome));
    };
    let last = async {
        sink.send(Channel::Error.message(&outcome::json(&outcome))).await?;
        sink.send(websocket::close()).await
    };
    if matches!(timeout(OUTCOME, last).await, Ok(Ok(()))) {
        websocket::wait_for_close(reading).await;
    }
    outcome::code(&outcome)
}

/// Reads the client until it goes. Waits while the server does not take what it has said.
async fn read<C: AsyncRead + AsyncWrite + Unpin>(
    mut source: SplitStream<WebSocketStream<C>>,
    streams: Streams,
    inputs: mpsc::Sender<Input>,
    activity: Activity,
) {
    let mut sizes = Sizes::default();
    loop {
        let message = tokio::select! {
            biased;
            message = source.next() => message,
            () = activity.ceased() => return,
        };
        let Some(Ok(message)) = message else { return };
        activity.note();
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => continue,
        };
        // Nobody takes it once the session is over; then only the client's end is waited for.
        match channels::parse(bytes) {
            Said::Data(Channel::Stdin, bytes) if streams.stdin && !bytes.is_empty() => {
                let _ = inputs.send(Input::Data(bytes)).await;
            }
            Said::Close(Channel::Stdin) if streams.stdin => {
                let _ = inputs.send(Input::End).await;
            }
            Said::Data(Channel::Resize, bytes) if streams.tty => {
                for size in sizes.take(&bytes) {
                    let _ = inputs.send(Input::Size(size)).await;
                }
            }
            Said::Data(..) | Said::Close(_) | Said::Nothing => {}
            Said::Broken => return,
        }
    }
}
