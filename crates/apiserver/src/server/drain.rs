//! Request bodies that an answer did not wait for. Dropping one resets the HTTP/2 stream, which clients such as
//! curl report instead of the answer; so what is left of it is read for a short while, and thrown away.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{Body, BoxError};

/// What is read at most, and for how long: enough for any body that could have been taken.
const BYTES: usize = 4 << 20;
const WHILE: Duration = Duration::from_secs(10);

/// A body whose rest is read when it is dropped.
struct Drained(Option<Body>);

/// The same body, except for its end.
pub fn drained(body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Drained(Some(body)).boxed_unsync()
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // At the end of the process nobody is there to read it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = async {
                let mut left = BYTES;
                while let Some(Ok(frame)) = body.frame().await {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::remaining));
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = timeout(WHILE, rest).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::StreamBody;

    use super::*;

    const PIECE: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_read() {
        for (pieces, gone_after) in [(3, None), (100, Some(BYTES / PIECE + 2))] {
            let (sender, receiver) = futures::channel::mpsc::channel::<Bytes>(0);
            let frames = receiver.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
            let mut body = drained(StreamBody::new(frames).boxed_unsync());
            let mut sender = sender;
            let mut sent = 0;
            let send = async |sender: &mut futures::channel::mpsc::Sender<Bytes>| {
                futures::SinkExt::send(sender, Bytes::from(vec![0; PIECE])).await.is_ok()
            };
            // The first is read by whoever has the body; then the body goes.
            let (first, read) = futures::join!(send(&mut sender), body.frame());
            assert!(first && read.is_some());
            drop(body);
            while sent < pieces && send(&mut sender).await {
                sent += 1;
            }
            match gone_after {
                None => assert_eq!(sent, pieces),
                Some(most) => assert!((BYTES / PIECE..=most).contains(&sent), "{sent}"),
            }
        }
        // A client that says nothing more is not waited for.
        let (sender, receiver) = futures::channel::mpsc::channel::<Bytes>(0);
        let frames = receiver.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
        drop(drained(StreamBody::new(frames).boxed_unsync()));
        tokio::time::sleep(WHILE * 2).await;
        assert!(sender.is_closed());
    }
}
