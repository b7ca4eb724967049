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
