//! The id under which a request is known in logs: `Audit-Id`, as the client names it, else our own (upstream's
//! `WithAuditInit`).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use apimachinery::clock::Entropy;
use http::{HeaderMap, HeaderName, HeaderValue};

pub const HEADER: HeaderName = HeaderName::from_static("audit-id");

/// A client's own id is cut off here.
const LONGEST: usize = 64;

/// Makes ids that differ from each other. They need not be secret, so a counter does, spread out over a
/// random start.
pub struct AuditIds {
    start: (u64, u64),
    count: AtomicU64,
}

/// Every bit of the input changes half of the output (the end of splitmix64).
fn spread(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl AuditIds {
    pub fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [[0; 8]; 2];
        bytes.iter_mut().for_each(|half| entropy.fill(half));
        let [a, b] = bytes.map(u64::from_le_bytes);
        Self { start: (a, b), count: AtomicU64::new(0) }
    }

    /// The id of a request, as it goes into the answer.
    pub fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(HEADER).filter(|id| !id.is_empty());
        if let Some(id) = given {
            let short = id.as_bytes().get(..LONGEST).map(HeaderValue::from_bytes);
            return short.and_then(Result::ok).unwrap_or_else(|| id.clone());
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (a, b) = (spread(self.start.0.wrapping_add(count)), spread(self.start.1 ^ count));
        // The version and the variant of a random UUID.
        let (a, b) = (a & !0xf000 | 0x4000, b & !(3 << 62) | 2 << 62);
        let mut text = String::with_capacity(36);
        let _ = write!(
            text,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        );
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zero;

    impl Entropy for Zero {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn ids() {
        let ids = AuditIds::new(&Zero);
        let mut headers = HeaderMap::new();
        let [first, second] = [(), ()].map(|()| ids.of(&headers).to_str().unwrap().to_owned());
        assert_eq!(first, "00000000-0000-4000-8000-000000000000");
        assert!(first != second && second.len() == 36, "{second}");
        for (given, expect) in [("mine".to_owned(), "mine".to_owned()), ("a".repeat(70), "a".repeat(64))] {
            headers.insert(HEADER, HeaderValue::from_str(&given).unwrap());
            assert_eq!(ids.of(&headers), expect);
        }
    }
}
