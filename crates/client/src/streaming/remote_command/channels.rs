//! The client's messages: a byte that names the channel, then its bytes.

use bytes::Bytes;
use serde::Deserialize;

use crate::streaming::websocket::Message;

/// Followed by a channel's number: that channel ends. New in v5.
const CLOSE: u8 = 255;
/// As much of an unfinished terminal size is kept.
const LONGEST_SIZE: usize = 4096;

/// In the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdin,
    Stdout,
    Stderr,
    Error,
    Resize,
}

impl Channel {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Error, Self::Resize].get(usize::from(number)).copied()
    }

    pub fn message(self, bytes: &[u8]) -> Message {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        out.push(self as u8);
        out.extend_from_slice(bytes);
        Message::Binary(out.into())
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Data(Channel, Bytes),
    Close(Channel),
    /// Nothing that is known; upstream passes over it.
    Nothing,
    /// The connection is to end.
    Broken,
}

pub fn parse(message: Bytes) -> Said {
    match *message {
        [] => Said::Nothing,
        [CLOSE, number] => Channel::from_number(number).map_or(Said::Broken, Said::Close),
        [CLOSE, ..] => Said::Broken,
        [number, ..] => {
            let data = |channel| Said::Data(channel, message.slice(1..));
            Channel::from_number(number).map_or(Said::Nothing, data)
        }
    }
}

#[derive(Deserialize)]
struct Size {
    #[serde(default, alias = "width", rename = "Width")]
    width: u16,
    #[serde(default, alias = "height", rename = "Height")]
    height: u16,
}

/// Sizes of the terminal, one JSON object after the other, however they are cut into messages.
#[derive(Default)]
pub struct Sizes {
    rest: Vec<u8>,
    /// After one that cannot be read nothing is, as in upstream's decoder.
    broken: bool,
}

impl Sizes {
    /// The sizes that are complete now, as Go writes them.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        if self.broken {
            return out;
        }
        self.rest.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.rest).into_iter::<Size>();
        let mut read = 0;
        loop {
            match sizes.next() {
                Some(Ok(size)) => {
                    out.push(format!("{{\"Width\":{},\"Height\":{}}}\n", size.width, size.height));
                    read = sizes.byte_offset();
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => {
                    self.broken = true;
                    break;
                }
                None => break,
            }
        }
        self.rest.drain(..read);
        self.broken |= self.rest.len() > LONGEST_SIZE;
        if self.broken {
            self.rest = Vec::new();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (message, expect) in [
            (&[][..], Said::Nothing),
            (&[0], Said::Data(Channel::Stdin, Bytes::new())),
            (b"\0hi", Said::Data(Channel::Stdin, Bytes::from_static(b"hi"))),
            (b"\x04{}", Said::Data(Channel::Resize, Bytes::from_static(b"{}"))),
            (b"\x05x", Said::Nothing),
            (b"\xfex", Said::Nothing),
            (&[255, 0], Said::Close(Channel::Stdin)),
            (&[255, 4], Said::Close(Channel::Resize)),
            (&[255, 5], Said::Broken),
            (&[255], Said::Broken),
            (&[255, 0, 0], Said::Broken),
        ] {
            assert_eq!(parse(Bytes::from_static(message)), expect, "{message:?}");
        }
        assert_eq!(Channel::Stderr.message(b"x"), Message::Binary(Bytes::from_static(b"\x02x")));
    }

    #[test]
    fn sizes() {
        let table: [(&[&str], &[&str]); 7] = [
            (&[r#"{"Width":80,"Height":24}"#], &["{\"Width\":80,\"Height\":24}\n"]),
            (&[r#"{"width":80,"#, r#""height":24}"#], &["{\"Width\":80,\"Height\":24}\n"]),
            (
                &["{\"Width\":1}\n{\"Height\":2}\n", "{}"],
                &[
                    "{\"Width\":1,\"Height\":0}\n",
                    "{\"Width\":0,\"Height\":2}\n",
                    "{\"Width\":0,\"Height\":0}\n",
                ],
            ),
            (&["x", "{}"], &[]),
            (&[r#"{"Width":-1}"#, "{}"], &[]),
            (&[r#"{"Width":70000}"#], &[]),
            (&[""], &[]),
        ];
        for (messages, expect) in table {
            let mut sizes = Sizes::default();
            let got: Vec<String> = messages.iter().flat_map(|m| sizes.take(m.as_bytes())).collect();
            assert_eq!(got, expect, "{messages:?}");
        }
        let mut sizes = Sizes::default();
        for _ in 0..3 {
            assert!(sizes.take(&vec![b' '; LONGEST_SIZE]).is_empty() && sizes.rest.len() <= LONGEST_SIZE);
        }
    }
}
