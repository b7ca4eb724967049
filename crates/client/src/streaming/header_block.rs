//! Headers of SPDY frames: a list of names and values, compressed with a dictionary that both sides know
//! (SPDY/3, section 2.6.10). One compressed stream goes through all frames of a direction.

use std::sync::LazyLock;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::spdy::{Error, Headers};

/// A block may be this long, compressed or not. Upstream's streams have two short headers.
pub const MAX_BLOCK: usize = 64 << 10;
const MAX_HEADERS: u32 = 100;

/// How far back a compressed stream may refer.
const WINDOW: usize = 32 << 10;
/// The dictionary's Adler-32, which the stream names.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding \
    content-language content-length content-location content-md5 content-range content-type date etag expect \
    expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified \
    location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te \
    trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK \
    version HTTP/1.1 url public set-cookie keep-alive origin";
const TAIL: &str = "10010120120220520630030230330430530630740240540640740840941041141241341441541641750250450520\
    3 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
    Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr \
    May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,\
    image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=\
    gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    for word in WORDS.split(' ').map(|word| word.replace('_', " ")) {
        out.extend((word.len() as u32).to_be_bytes());
        out.extend(word.as_bytes());
    }
    out.extend(TAIL.as_bytes());
    out
});

/// The decompressing end of one direction.
pub struct Inflater {
    state: Box<DecompressorOxide>,
    /// What has come out, round and round.
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Box::default(), window: vec![0; WINDOW].into(), at: 0, begun: false }
    }
}

impl Inflater {
    /// The headers of one frame.
    ///
    /// # Errors
    /// What is not a block, or too long. The stream cannot be read on after that.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let block = if self.begun { block } else { self.begin(block)? };
        parse(&self.inflate(block)?)
    }

    /// The zlib header, which only the first block has.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Error> {
        let Some(([method, flags], rest)) = block.split_first_chunk().map(|(head, rest)| (*head, rest))
        else {
            return Err(Error::Compression);
        };
        if method & 0x0f != 8 || u16::from_be_bytes([method, flags]) % 31 != 0 {
            return Err(Error::Compression);
        }
        self.begun = true;
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        let (id, rest) = rest.split_first_chunk().ok_or(Error::Compression)?;
        if u32::from_be_bytes(*id) != DICTIONARY_ID {
            return Err(Error::Compression);
        }
        // As if the dictionary had come out just before.
        self.at = DICTIONARY.len();
        if let Some(start) = self.window.get_mut(..self.at) {
            start.copy_from_slice(&DICTIONARY);
        }
        Ok(rest)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) =
                decompress(&mut self.state, block, &mut self.window, self.at, flags);
            block = block.get(read..).ok_or(Error::Compression)?;
            out.extend_from_slice(self.window.get(self.at..self.at + written).ok_or(Error::Compression)?);
            self.at = (self.at + written) % WINDOW;
            if out.len() > MAX_BLOCK {
                return Err(Error::TooLong);
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if block.is_empty() => return Ok(out),
                TINFLStatus::NeedsMoreInput if read > 0 || written > 0 => {}
                _ => return Err(Error::Compression),
            }
        }
    }
}

fn number(bytes: &mut &[u8]) -> Result<u32, Error> {
    let (number, rest) =
        bytes.split_first_chunk().ok_or(Error::Malformed("a block of headers ends early"))?;
    *bytes = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(bytes: &mut &[u8]) -> Result<String, Error> {
    let length = number(bytes)? as usize;
    let text = bytes.split_at_checked(length);
    let (text, rest) = text.ok_or(Error::Malformed("a block of headers ends early"))?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Malformed("a header that is not text"))
}

fn parse(mut bytes: &[u8]) -> Result<Headers, Error> {
    let count = number(&mut bytes)?;
    if count > MAX_HEADERS {
        return Err(Error::TooLong);
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let (name, value) = (text(&mut bytes)?, text(&mut bytes)?);
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Error::Malformed("a header's name is not in lower case"));
        }
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(Error::Malformed("a header comes twice"));
        }
        headers.push((name, value));
    }
    if bytes.is_empty() { Ok(headers) } else { Err(Error::Malformed("more than the headers in a block")) }
}

/// The compressing end of one direction. It stores instead of compressing, which every reader takes: our headers
/// are a dozen bytes, and a compressor's tables are a quarter of a megabyte for each connection.
#[derive(Default)]
pub struct Deflater {
    begun: bool,
}

impl Deflater {
    pub fn write(&mut self, headers: &[(String, String)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 16);
        if !std::mem::replace(&mut self.begun, true) {
            out.extend([0x78, 0x01]);
        }
        // An empty block behind them makes a reader hand out what it has (what zlib calls a sync flush).
        for stored in plain.chunks(usize::from(u16::MAX)).chain([&[][..]]) {
            let length = stored.len() as u16;
            out.push(0);
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend(stored);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_dictionary_is_the_one_of_the_protocol() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((DICTIONARY.len(), b << 16 | a), (1423, DICTIONARY_ID));
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut writer, mut reader) = (Deflater::default(), Inflater::default());
        let long = "v".repeat(40_000);
        for pairs in [
            &[("streamtype", "error")][..],
            &[("streamtype", "data"), ("port", "8080"), ("requestid", "0")],
            &[],
            &[("long", &long)],
            &[("streamtype", "ü")],
        ] {
            let pairs = headers(pairs);
            assert_eq!(reader.read(&writer.write(&pairs)), Ok(pairs));
        }
    }

    /// Three frames' headers as zlib writes them with the dictionary.
    #[test]
    fn compressed_with_the_dictionary() {
        let mut reader = Inflater::default();
        for (block, expect) in [
            (
                "78f9e3c6a7c202e50e703a2b294a4dcc851625aca9a080c652c670211c07000000ffff",
                &[("streamtype", "error"), ("content-type", "text/plain")][..],
            ),
            ("c2aeb1b82425330fbf4600000000ffff", &[("streamtype", "stdin"), ("content-type", "text/plain")]),
            ("02f21800000000ffff", &[]),
        ] {
            let digits = |i: usize| u8::from_str_radix(&block[i..i + 2], 16).unwrap();
            let block: Vec<u8> = (0..block.len()).step_by(2).map(digits).collect();
            assert_eq!(reader.read(&block), Ok(headers(expect)));
        }
    }

    #[test]
    fn bad_blocks() {
        let stored = |plain: &[u8]| {
            let mut out = vec![0x78, 0x01, 0];
            out.extend((plain.len() as u16).to_le_bytes());
            out.extend((!(plain.len() as u16)).to_le_bytes());
            out.extend(plain);
            out
        };
        let header = |name: &str| [&(name.len() as u32).to_be_bytes(), name.as_bytes(), &[0; 4]].concat();
        for (block, expect) in [
            (vec![], Error::Compression),
            (vec![0x78], Error::Compression),
            (vec![0x1f, 0x8b, 8, 0], Error::Compression),
            (vec![0x78, 0xbb, 1, 2, 3, 4], Error::Compression),
            (vec![0x78, 0x01, 7, 7, 7], Error::Compression),
            (stored(&[]), Error::Malformed("a block of headers ends early")),
            (stored(&[0, 0, 0, 1, 0, 0, 0, 9, b'x']), Error::Malformed("a block of headers ends early")),
            (stored(&[0xff; 4]), Error::TooLong),
            (
                stored(&[&[0, 0, 0, 1][..], &header("Upper")].concat()),
                Error::Malformed("a header's name is not in lower case"),
            ),
            (
                stored(&[&[0, 0, 0, 2][..], &header("a"), &header("a")].concat()),
                Error::Malformed("a header comes twice"),
            ),
            (stored(&[0, 0, 0, 0, 1]), Error::Malformed("more than the headers in a block")),
            (
                stored(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]),
                Error::Malformed("a header that is not text"),
            ),
        ] {
            assert_eq!(Inflater::default().read(&block), Err(expect), "{block:?}");
        }
    }

    /// A kilobyte that would become a megabyte.
    #[test]
    fn bombs() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 1 << 20], 9);
        assert!(bomb.len() < 2000);
        assert_eq!(Inflater::default().read(&bomb), Err(Error::TooLong));
    }
}
