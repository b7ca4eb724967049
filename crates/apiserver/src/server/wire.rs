//! A connection's bytes on their way out, gathered while the connection is at work.
//!
//! `h2` writes and flushes each frame of more than 256 bytes by itself, which is a TLS record and a system call
//! for every event of every watch. A [`Wire`] takes frames into one buffer; [`Wire::poll_send`] sends what has
//! gathered once the connection has nothing more to say for now.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this is sent at once: four TLS records, and as much as rustls takes in one go.
const LIMIT: usize = 64 << 10;
/// A buffer of this size stays with an idle connection.
const KEEP: usize = 4 << 10;

/// A stream whose writes gather. A clone is the same stream: one is with hyper, one with the task that
/// drives hyper.
pub(super) struct Wire<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    /// Not sent yet, from `sent` on.
    buffer: Vec<u8>,
    sent: usize,
    /// Something went to the stream that it may not have flushed.
    unflushed: bool,
    /// Flushing waits for `poll_send`.
    gathers: bool,
}

impl<S> Clone for Wire<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        let state = State { stream, buffer: Vec::new(), sent: 0, unflushed: false, gathers: true };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what has gathered.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_flush(cx)
    }

    /// From now on a flush is a flush: whoever took over the connection (an upgrade) flushes for himself.
    pub(super) fn stop_gathering(&self) {
        self.lock().gathers = false;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.unflushed = true;
        }
        self.sent = 0;
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    /// Takes everything, or nothing while the buffer is full.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        if state.buffer.len() >= LIMIT {
            ready!(state.poll_drain(cx))?;
        }
        let length = parts.iter().map(|part| part.len()).sum();
        if state.buffer.capacity() < state.buffer.len() + length && length >= KEEP {
            // One allocation for a long answer.
            state.buffer.reserve(LIMIT + length);
        }
        parts.iter().for_each(|part| state.buffer.extend_from_slice(part));
        // Nobody promises a flush behind the last word of a tunnel.
        if !state.gathers
            && let Poll::Ready(sent) = state.poll_flush(cx)
        {
            sent?;
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.gathers { Poll::Ready(Ok(())) } else { state.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_flush(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn writes_wait_for_the_end_of_the_turn() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let wire = Wire::new(near);
        let mut writer = wire.clone();
        let mut got = [0; 8];
        for part in ["ab", "cd"] {
            writer.write_all(part.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
        }
        assert!(futures::poll!(std::pin::pin!(far.read(&mut got))).is_pending());
        poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
        assert_eq!(far.read(&mut got).await.unwrap(), 4);
        assert_eq!(&got[..4], b"abcd");
        // What passes the limit goes at once.
        writer.write_all(&vec![7; LIMIT]).await.unwrap();
        writer.write_all(b"x").await.unwrap();
        let mut all = vec![0; LIMIT];
        far.read_exact(&mut all).await.unwrap();
        assert!(futures::poll!(std::pin::pin!(far.read(&mut got))).is_pending());
        wire.stop_gathering();
        writer.flush().await.unwrap();
        assert_eq!((far.read(&mut got).await.unwrap(), got[0]), (1, b'x'));
        writer.write_all(b"y").await.unwrap();
        assert_eq!((far.read(&mut got).await.unwrap(), got[0]), (1, b'y'));
    }

    #[tokio::test]
    async fn a_full_stream_holds_the_writer_back() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut wire = Wire::new(near);
        wire.write_all(&vec![1; LIMIT]).await.unwrap();
        assert!(futures::poll!(std::pin::pin!(wire.clone().write_all(b"x"))).is_pending());
        let reading = async {
            let mut all = vec![0; LIMIT + 1];
            far.read_exact(&mut all).await.unwrap();
            all
        };
        let writing = async {
            wire.write_all(b"x").await.unwrap();
            wire.shutdown().await.unwrap();
        };
        let (all, ()) = tokio::join!(reading, writing);
        assert_eq!(all.last(), Some(&b'x'));
    }
}
