//! SPDY/3.1 frames, as far as exec, attach and port-forward use them.
//!
//! Pure: [`Decoder`] turns bytes into [`Frame`]s, [`Encoder`] frames into bytes. Bytes come from outside, so
//! everything has a limit: a control frame and its headers 64 KiB ([`Error::TooLong`]); data is handed out as it
//! comes and never gathered. [`decode`] reads a whole conversation at once: the one function that a fuzzer needs.
//!
//! SETTINGS and WINDOW_UPDATE are read and dropped: the peers that there are (Go's spdystream on both sides)
//! neither send nor heed them.

use bytes::{Buf, Bytes, BytesMut};

use super::header_block::{Deflater, Inflater, MAX_BLOCK};

/// Names in lower case, and values.
pub type Headers = Vec<(String, String)>;

const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Statuses of [`Frame::RstStream`].
pub const REFUSED_STREAM: u32 = 3;
pub const CANCEL: u32 = 5;

/// A frame. Stream ids are never zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream. With `fin` its sender sends nothing on it.
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// The stream is over in both directions.
    RstStream {
        stream: u32,
        status: u32,
    },
    /// To be sent back, if the other side began it (a server's ids are even).
    Ping {
        id: u32,
    },
    /// No new streams; `last` is the last one that was accepted.
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// Bytes of a stream: what has come of a data frame so far. `fin` is with its last part, and ends this
    /// direction.
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a frame or its headers are too long")]
    TooLong,
    #[error("headers cannot be decompressed")]
    Compression,
    #[error("SPDY version {0}")]
    Version(u16),
    #[error("control frame of the unknown type {0}")]
    UnknownType(u16),
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// Bytes in, frames out, one direction of one connection.
#[derive(Default)]
pub struct Decoder {
    /// Come, and not decoded yet.
    buffer: BytesMut,
    inflater: Inflater,
    /// A data frame of which more is to come: stream, fin, bytes left.
    data: Option<(u32, bool, usize)>,
    failed: Option<Error>,
}

impl Decoder {
    /// Takes what was received. Call [`Decoder::next_frame`] until there is nothing more before the next, so that
    /// no more than one frame waits here.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more bytes have come.
    ///
    /// # Errors
    /// What is not SPDY/3.1 or beyond the limits. The connection cannot be read on: the error stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.decode().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn decode(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some((stream, fin, left)) = self.data {
                if left > 0 && self.buffer.is_empty() {
                    return Ok(None);
                }
                let bytes = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                let left = left - bytes.len();
                self.data = (left > 0).then_some((stream, fin, left));
                return Ok(Some(Frame::Data { stream, fin: fin && left == 0, bytes }));
            }
            let Some((mut head, rest)) = self.buffer.split_first_chunk::<8>().map(|(h, r)| (&h[..], r))
            else {
                return Ok(None);
            };
            let (first, second) = (head.get_u32(), head.get_u32());
            let (flags, length) = ((second >> 24) as u8, (second & 0xff_ffff) as usize);
            if first >> 31 == 0 {
                if first == 0 {
                    return Err(Error::Malformed("data of stream zero"));
                }
                self.buffer.advance(8);
                self.data = Some((first, flags & FIN != 0, length));
                continue;
            }
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, (first & 0xffff) as u16);
            if version != VERSION {
                return Err(Error::Version(version));
            }
            if length > MAX_BLOCK {
                return Err(Error::TooLong);
            }
            if rest.len() < length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let payload = self.buffer.split_to(length);
            if let Some(frame) = self.control(kind, flags, &payload)? {
                return Ok(Some(frame));
            }
        }
    }

    /// `None` for frames that say nothing to us.
    fn control(&mut self, kind: u16, flags: u8, mut payload: &[u8]) -> Result<Option<Frame>, Error> {
        let fin = flags & FIN != 0;
        let stream = |payload: &mut &[u8]| match number(payload)? & 0x7fff_ffff {
            0 => Err(Error::Malformed("stream zero")),
            stream => Ok(stream),
        };
        let frame = match kind {
            SYN_STREAM => {
                let stream = stream(&mut payload)?;
                // The stream it belongs to, its priority, the slot of a certificate.
                let _ = (number(&mut payload)?, short(&mut payload)?);
                Frame::SynStream { stream, fin, headers: self.inflater.read(payload)? }
            }
            SYN_REPLY => {
                let stream = stream(&mut payload)?;
                Frame::SynReply { stream, fin, headers: self.inflater.read(payload)? }
            }
            HEADERS => {
                let stream = stream(&mut payload)?;
                Frame::Headers { stream, fin, headers: self.inflater.read(payload)? }
            }
            RST_STREAM => {
                let stream = stream(&mut payload)?;
                Frame::RstStream { stream, status: last(payload)? }
            }
            PING => match last(payload)? {
                0 => return Err(Error::Malformed("a ping without a number")),
                id => Frame::Ping { id },
            },
            GO_AWAY => {
                let last_good = number(&mut payload)? & 0x7fff_ffff;
                Frame::GoAway { last: last_good, status: last(payload)? }
            }
            SETTINGS | WINDOW_UPDATE => return Ok(None),
            other => return Err(Error::UnknownType(other)),
        };
        Ok(Some(frame))
    }
}

const SHORT: Error = Error::Malformed("a control frame ends early");

fn number(payload: &mut &[u8]) -> Result<u32, Error> {
    payload.try_get_u32().map_err(|_| SHORT)
}

fn short(payload: &mut &[u8]) -> Result<u16, Error> {
    payload.try_get_u16().map_err(|_| SHORT)
}

/// The number that ends a frame.
fn last(mut payload: &[u8]) -> Result<u32, Error> {
    let out = number(&mut payload)?;
    if payload.is_empty() { Ok(out) } else { Err(Error::Malformed("a control frame is too long")) }
}

/// Every frame of what one side of a connection has sent, and what was wrong with it, if anything was. Never
/// panics, and takes no more memory than a few times the bytes and [`Error::TooLong`]'s limit for each control
/// frame.
pub fn decode(bytes: &[u8]) -> (Vec<Frame>, Option<Error>) {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// Frames in, bytes out, one direction of one connection.
#[derive(Default)]
pub struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// Appends a frame to `out`. Data longer than a frame can be becomes several.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let block = self.deflater.write(headers);
                control(out, SYN_STREAM, *fin, &[&stream.to_be_bytes(), &[0; 6], &block]);
            }
            Frame::SynReply { stream, fin, headers } => {
                let block = self.deflater.write(headers);
                control(out, SYN_REPLY, *fin, &[&stream.to_be_bytes(), &block]);
            }
            Frame::Headers { stream, fin, headers } => {
                let block = self.deflater.write(headers);
                control(out, HEADERS, *fin, &[&stream.to_be_bytes(), &block]);
            }
            Frame::RstStream { stream, status } => {
                control(out, RST_STREAM, false, &[&stream.to_be_bytes(), &status.to_be_bytes()]);
            }
            Frame::Ping { id } => control(out, PING, false, &[&id.to_be_bytes()]),
            Frame::GoAway { last, status } => {
                control(out, GO_AWAY, false, &[&last.to_be_bytes(), &status.to_be_bytes()]);
            }
            Frame::Data { stream, fin, bytes } => {
                let mut rest = &bytes[..];
                loop {
                    let (part, after) = rest.split_at(rest.len().min(0xff_ffff));
                    rest = after;
                    let flags = if *fin && rest.is_empty() { FIN } else { 0 };
                    out.extend(stream.to_be_bytes());
                    out.extend((u32::from(flags) << 24 | part.len() as u32).to_be_bytes());
                    out.extend(part);
                    if rest.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

fn control(out: &mut Vec<u8>, kind: u16, fin: bool, payload: &[&[u8]]) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    out.extend((0x8000 | VERSION).to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend((u32::from(fin) << 24 | length as u32).to_be_bytes());
    payload.iter().for_each(|part| out.extend(*part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Headers {
        vec![("streamtype".to_owned(), value.to_owned())]
    }

    fn every_frame() -> Vec<Frame> {
        vec![
            Frame::SynStream { stream: 1, fin: false, headers: headers("error") },
            Frame::SynStream { stream: 3, fin: true, headers: headers("stdin") },
            Frame::SynReply { stream: 1, fin: false, headers: Headers::new() },
            Frame::Headers { stream: 1, fin: true, headers: headers("x") },
            Frame::Data { stream: 1, fin: false, bytes: Bytes::from_static(b"out") },
            Frame::Data { stream: 1, fin: true, bytes: Bytes::new() },
            Frame::Ping { id: 2 },
            Frame::RstStream { stream: 3, status: CANCEL },
            Frame::GoAway { last: 3, status: 0 },
        ]
    }

    fn encoded(frames: &[Frame]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        frames.iter().for_each(|frame| encoder.encode(frame, &mut out));
        out
    }

    /// Parts of one data frame put together again.
    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut out: Vec<Frame> = Vec::new();
        for frame in frames {
            match (out.last_mut(), frame) {
                (
                    Some(Frame::Data { stream, fin, bytes }),
                    Frame::Data { stream: other, fin: end, bytes: more },
                ) if *stream == other && !*fin && !more.is_empty() => {
                    *bytes = [&bytes[..], &more].concat().into();
                    *fin = end;
                }
                (_, frame) => out.push(frame),
            }
        }
        out
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let frames = every_frame();
        let bytes = encoded(&frames);
        assert_eq!(decode(&bytes), (frames.clone(), None));
        for size in [1, 2, 3, 7, 8, 9, 50] {
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for part in bytes.chunks(size) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(joined(got), frames, "{size}");
        }
    }

    #[test]
    fn long_data() {
        let bytes = Bytes::from(vec![7; (1 << 24) + 5]);
        let (frames, error) = decode(&encoded(&[Frame::Data { stream: 1, fin: true, bytes: bytes.clone() }]));
        let shape: Vec<_> = frames
            .iter()
            .map(|frame| match frame {
                Frame::Data { fin, bytes, .. } => (*fin, bytes.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((shape, error), (vec![(false, (1 << 24) - 1), (true, 6)], None));
    }

    #[test]
    fn bytes_of_frames() {
        for (frame, expect) in [
            (Frame::Ping { id: 5 }, &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 5][..]),
            (
                Frame::RstStream { stream: 9, status: REFUSED_STREAM },
                &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 3],
            ),
            (
                Frame::Data { stream: 9, fin: true, bytes: Bytes::from_static(b"hi") },
                &[0, 0, 0, 9, 1, 0, 0, 2, b'h', b'i'],
            ),
        ] {
            assert_eq!(encoded(&[frame]), expect);
        }
    }

    #[test]
    fn what_is_refused() {
        let head = |kind: u16, length: u32| {
            [&0x8003_u16.to_be_bytes()[..], &kind.to_be_bytes(), &length.to_be_bytes()].concat()
        };
        let with = |kind: u16, payload: &[u8]| [&head(kind, payload.len() as u32)[..], payload].concat();
        let table = [
            (b"HTTP/1.1 200 OK\r\n".to_vec(), Some(Error::Malformed("data"))),
            (vec![0x80, 2, 0, 6, 0, 0, 0, 4], Some(Error::Version(2))),
            (head(10, 4), None),
            (with(10, &[0; 4]), Some(Error::UnknownType(10))),
            (head(SYN_STREAM, 0xff_ffff), Some(Error::TooLong)),
            (head(SETTINGS, 64 << 10 | 1), Some(Error::TooLong)),
            (with(SETTINGS, &[0; 12]), None),
            (with(WINDOW_UPDATE, &[0; 8]), None),
            (with(PING, &[0; 4]), Some(Error::Malformed("a ping without a number"))),
            (with(PING, &[1; 3]), Some(SHORT)),
            (with(PING, &[1; 5]), Some(Error::Malformed("a control frame is too long"))),
            (with(RST_STREAM, &[0; 8]), Some(Error::Malformed("stream zero"))),
            (with(RST_STREAM, &[0, 0, 0, 1, 0, 0]), Some(SHORT)),
            (with(SYN_STREAM, &[0, 0, 0, 1, 0]), Some(SHORT)),
            (with(SYN_REPLY, &[0, 0, 0, 1, 9, 9]), Some(Error::Compression)),
            (vec![0; 8], Some(Error::Malformed("data of stream zero"))),
        ];
        for (bytes, expect) in table {
            let (frames, error) = decode(&bytes);
            if expect == Some(Error::Malformed("data")) {
                // Text looks like data of a high stream, much of it missing.
                assert!(matches!(frames.as_slice(), [Frame::Data { fin: false, .. }]) && error.is_none());
                continue;
            }
            assert_eq!((frames, error), (vec![], expect), "{bytes:?}");
        }
        // An error stays.
        let mut decoder = Decoder::default();
        decoder.push(&[0; 8]);
        for _ in 0..2 {
            assert!(decoder.next_frame().is_err());
            decoder.push(&encoded(&[Frame::Ping { id: 2 }]));
        }
    }
}
