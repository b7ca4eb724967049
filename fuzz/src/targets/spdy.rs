//! SPDY/3.1 frames, all that one side of a connection has sent.

use client::streaming::spdy::{Decoder, Encoder, Frame, decode};

use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let (frames, error) = bounded(|| decode(bytes));
    if is_large(bytes) {
        return;
    }
    // where a read ends makes no difference
    let (mut decoder, mut pieces, mut fault) = (Decoder::default(), Vec::new(), None);
    for piece in bytes.chunks(5) {
        decoder.push(piece);
        while fault.is_none() {
            match decoder.next_frame() {
                Ok(Some(frame)) => pieces.push(frame),
                Ok(None) => break,
                Err(error) => fault = Some(error),
            }
        }
    }
    assert_eq!((joined(pieces), fault), (joined(frames.clone()), error));

    let (mut encoder, mut written) = (Encoder::default(), Vec::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut written));
    let (again, error) = decode(&written);
    assert_eq!((again, error), (frames, None), "written and read");
}

/// Parts of one data frame put together again.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut out: Vec<Frame> = Vec::new();
    let mut open = false;
    for frame in frames {
        match (out.last_mut(), frame) {
            (
                Some(Frame::Data { stream, fin, bytes }),
                Frame::Data { stream: other, fin: end, bytes: more },
            ) if open && *stream == other => {
                *bytes = [&bytes[..], &more].concat().into();
                *fin = end;
            }
            (_, frame) => out.push(frame),
        }
        open = matches!(out.last(), Some(Frame::Data { fin: false, .. }));
    }
    out
}
