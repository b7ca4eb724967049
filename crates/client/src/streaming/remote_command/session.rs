//! The SPDY side: opens the streams and carries them.
//!
//! Two directions run at the same time and never wait for each other: what the server sends goes to the client as it
//! comes, so a slow client makes the server wait; what the client sends goes to the server through the one writer,
//! which also answers pings. That is asked through a queue that is never waited for, else two peers that both
//! wait for the other to read would wait for ever.

use std::pin::pin;
use std::time::Duration;

use apimachinery::status::Status;
use bytes::Bytes;
use futures::{Sink, SinkExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::channels::Channel;
use super::outcome::{self, Outcome};
use super::{Activity, Input, Streams};
use crate::streaming::Upgraded;
use crate::streaming::spdy::{self, Decoder, Encoder, Frame};
use crate::streaming::websocket::Message;

/// The server must accept the streams within this.
const OPENING: Duration = Duration::from_secs(30);
/// Keeps connections through balancers alive, as upstream does.
const PING: Duration = Duration::from_secs(5);
/// The server is told of the end if it takes that within this.
const FAREWELL: Duration = Duration::from_secs(1);
/// Read at once, and the longest message that the client is sent.
const BLOCK: usize = 32 << 10;
/// Written at once, so that a ping is not behind a whole file.
const CHUNK: usize = 64 << 10;
/// What the error stream may say.
const LONGEST_ERROR: usize = 1 << 20;
/// Answers that wait for the writer. Beyond, pings are not answered.
const ANSWERS: usize = 64;

/// One of our streams.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u32,
    channel: Channel,
    replied: bool,
    /// The server may still send on it.
    receives: bool,
}

/// The streams that are opened: the error stream first.
fn streams(wanted: Streams, protocol: Option<&str>) -> Vec<Open> {
    let resizes = !matches!(protocol, None | Some("" | "channel.k8s.io" | "v2.channel.k8s.io"));
    [
        (Channel::Error, true),
        (Channel::Stdin, wanted.stdin),
        (Channel::Stdout, wanted.stdout),
        (Channel::Stderr, wanted.stderr && !wanted.tty),
        (Channel::Resize, wanted.tty && resizes),
    ]
    .into_iter()
    .filter(|(_, open)| *open)
    .zip((1..).step_by(2))
    .map(|((channel, _), id)| Open { id, channel, replied: false, receives: true })
    .collect()
}

fn name(channel: Channel) -> &'static str {
    match channel {
        Channel::Stdin => "stdin",
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
        Channel::Error => "error",
        Channel::Resize => "resize",
    }
}

/// What the reading half wants written.
#[derive(Debug)]
enum Answer {
    Pong(u32),
    /// No streams are taken from a server.
    Refuse(u32),
    /// The server has accepted all streams.
    Opened,
    /// The server has closed stdin.
    StdinClosed,
    /// It is over; these streams the server has not closed.
    Bye(Vec<u32>),
}

/// Runs a command's streams until they have ended.
pub async fn run<B, S>(
    server: Upgraded<B>,
    wanted: Streams,
    inputs: mpsc::Receiver<Input>,
    client: &mut S,
    activity: &Activity,
) -> Outcome
where
    B: AsyncRead + AsyncWrite + Unpin,
    S: Sink<Message> + Unpin,
{
    let open = streams(wanted, server.protocol.as_deref());
    let (from, to) = split(server.io);
    let (answers, asked) = mpsc::channel(ANSWERS);
    let mut writing = pin!(write(to, open.clone(), inputs, asked));
    let mut reader = Reader {
        from,
        open,
        answers: answers.clone(),
        client: Some(client),
        activity,
        message: Vec::new(),
        protocol: server.protocol,
    };
    let (outcome, writes) = {
        let mut reading = pin!(reader.read());
        tokio::select! {
            biased;
            outcome = &mut reading => (outcome, true),
            // A server that takes nothing more may still have something to say.
            () = &mut writing => (reading.await, false),
        }
    };
    if writes {
        let unfinished = reader.open.iter().filter(|open| open.receives).map(|open| open.id).collect();
        let farewell = async { tokio::join!(answers.send(Answer::Bye(unfinished)), writing) };
        let _ = timeout(FAREWELL, farewell).await;
    }
    outcome
}

struct Reader<'a, R, S> {
    from: R,
    open: Vec<Open>,
    answers: mpsc::Sender<Answer>,
    /// `None` once it has gone; then what comes is dropped.
    client: Option<&'a mut S>,
    activity: &'a Activity,
    /// The error stream's.
    message: Vec<u8>,
    protocol: Option<String>,
}

impl<R: AsyncRead + Unpin, S: Sink<Message> + Unpin> Reader<'_, R, S> {
    async fn read(&mut self) -> Outcome {
        let (mut decoder, mut block) = (Decoder::default(), vec![0; BLOCK]);
        let late = Instant::now() + OPENING;
        let mut opened = false;
        while !self.over() {
            let length = tokio::select! {
                biased;
                length = self.from.read(&mut block) => length.unwrap_or(0),
                () = sleep_until(late), if !opened => return Err(Status::internal("Timeout occurred").into()),
            };
            if length == 0 {
                return self.lost();
            }
            decoder.push(&block[..length]);
            loop {
                match decoder.next_frame() {
                    Ok(Some(Frame::GoAway { .. })) => return self.lost(),
                    Ok(Some(frame)) => self.frame(frame).await?,
                    Ok(None) => break,
                    Err(error) => {
                        return Err(Status::internal(format_args!("reading the streams: {error}")).into());
                    }
                }
            }
            if !opened && self.open.iter().all(|open| open.replied) {
                opened = true;
                self.answer(Answer::Opened);
            }
        }
        outcome::of_error_stream(self.protocol.as_deref(), &self.message)
    }

    /// All that tells of the command has ended.
    fn over(&self) -> bool {
        let tells = |open: &&Open| !matches!(open.channel, Channel::Stdin | Channel::Resize);
        self.open.iter().filter(tells).all(|open| !open.receives)
    }

    /// The connection has ended. If the outcome was told before, it stands.
    fn lost(&self) -> Outcome {
        if self.open.iter().any(|open| !open.replied) {
            return Err(Status::internal("Stream reset").into());
        }
        let told = self.open.iter().any(|open| open.channel == Channel::Error && !open.receives);
        if self.message.is_empty() && !told && outcome::has_status(self.protocol.as_deref()) {
            return Err(Status::internal("the connection was lost before the command ended").into());
        }
        outcome::of_error_stream(self.protocol.as_deref(), &self.message)
    }

    fn answer(&self, answer: Answer) {
        // A peer that floods us with pings goes without answers.
        let _ = self.answers.try_send(answer);
    }

    async fn frame(&mut self, frame: Frame) -> Outcome {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                self.data(stream, &bytes).await?;
                if fin {
                    self.close(stream);
                }
            }
            Frame::SynReply { stream, fin, .. } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == stream) {
                    open.replied = true;
                }
                if fin {
                    self.close(stream);
                }
            }
            Frame::RstStream { stream, .. } => {
                if self.open.iter().any(|open| open.id == stream && !open.replied) {
                    return Err(Status::internal("Stream reset").into());
                }
                self.close(stream);
            }
            Frame::Headers { stream, fin: true, .. } => self.close(stream),
            // Ours, come back, are odd.
            Frame::Ping { id } if id % 2 == 0 => self.answer(Answer::Pong(id)),
            Frame::SynStream { stream, .. } => self.answer(Answer::Refuse(stream)),
            Frame::Headers { .. } | Frame::Ping { .. } | Frame::GoAway { .. } => {}
        }
        Ok(())
    }

    async fn data(&mut self, stream: u32, bytes: &Bytes) -> Outcome {
        let Some(channel) =
            self.open.iter().find(|open| open.id == stream && open.receives).map(|open| open.channel)
        else {
            return Ok(());
        };
        match channel {
            Channel::Error => {
                if self.message.len() + bytes.len() > LONGEST_ERROR {
                    return Err(Status::internal("the error stream is too long").into());
                }
                self.message.extend_from_slice(bytes);
            }
            Channel::Stdout | Channel::Stderr if !bytes.is_empty() => {
                if let Some(client) = &mut self.client {
                    let taken = tokio::select! {
                        biased;
                        () = self.activity.gone.cancelled() => false,
                        sent = client.send(channel.message(bytes)) => sent.is_ok(),
                    };
                    if !taken {
                        self.client = None;
                    }
                }
                self.activity.note();
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, stream: u32) {
        let Some(open) = self.open.iter_mut().find(|open| open.id == stream) else { return };
        if std::mem::replace(&mut open.receives, false) && open.channel == Channel::Stdin {
            self.answer(Answer::StdinClosed);
        }
    }
}

/// Writes until the end is asked for or nothing can be written.
async fn write<W: AsyncWrite + Unpin>(
    mut to: W,
    open: Vec<Open>,
    mut inputs: mpsc::Receiver<Input>,
    mut answers: mpsc::Receiver<Answer>,
) {
    let id = |channel: Channel| open.iter().find(|open| open.channel == channel).map(|open| open.id);
    let (mut stdin, resize) = (id(Channel::Stdin), id(Channel::Resize));
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pings = (1..).step_by(2);
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for open in &open {
        let headers = vec![("streamtype".to_owned(), name(open.channel).to_owned())];
        encoder.encode(&Frame::SynStream { stream: open.id, fin: false, headers }, &mut out);
    }
    // Of stdin, and not written yet.
    let mut rest = Bytes::new();
    let (mut opened, mut ended, mut over) = (false, false, false);
    loop {
        if to.write_all(&out).await.is_err() || to.flush().await.is_err() || over {
            let _ = to.shutdown().await;
            return;
        }
        out.clear();
        let mut say = |frame: &Frame| encoder.encode(frame, &mut out);
        let fin = |stream: u32| Frame::Data { stream, fin: true, bytes: Bytes::new() };
        tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some(Answer::Pong(id)) => say(&Frame::Ping { id }),
                Some(Answer::Refuse(stream)) => say(&Frame::RstStream { stream, status: spdy::REFUSED_STREAM }),
                Some(Answer::Opened) => opened = true,
                Some(Answer::StdinClosed) => {
                    if let Some(stream) = stdin.take() {
                        say(&fin(stream));
                    }
                    rest = Bytes::new();
                }
                Some(Answer::Bye(unfinished)) => {
                    for stream in unfinished {
                        say(&Frame::RstStream { stream, status: spdy::CANCEL });
                    }
                    say(&Frame::GoAway { last: 0, status: 0 });
                    over = true;
                }
                None => over = true,
            },
            () = std::future::ready(()), if !rest.is_empty() => {
                let part = rest.split_to(rest.len().min(CHUNK));
                if let Some(stream) = stdin {
                    say(&Frame::Data { stream, fin: false, bytes: part });
                }
            }
            input = inputs.recv(), if opened && !ended => match input {
                Some(Input::Data(bytes)) => rest = bytes,
                Some(Input::Size(size)) => {
                    if let Some(stream) = resize {
                        say(&Frame::Data { stream, fin: false, bytes: size.into() });
                    }
                }
                Some(Input::End) => {
                    if let Some(stream) = stdin.take() {
                        say(&fin(stream));
                    }
                }
                None => {
                    ended = true;
                    if let Some(stream) = stdin.take() {
                        say(&fin(stream));
                    }
                }
            },
            _ = ping.tick() => say(&Frame::Ping { id: pings.next().unwrap_or(1) }),
        }
    }
}
