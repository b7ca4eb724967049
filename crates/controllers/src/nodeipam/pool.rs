//! Address ranges cut into equal parts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One range for each address family.
#[derive(Debug)]
pub(crate) struct Pools {
    pools: Vec<Pool>,
}

/// A range, the size of its parts, and which parts are taken.
#[derive(Debug)]
struct Pool {
    /// First address, as a number of `width` bits.
    base: u128,
    /// 32 or 128.
    width: u32,
    prefix: u32,
    part: u32,
    taken: BTreeSet<u64>,
    /// Where the search goes on, so that what was released is not given out again at once.
    next: u64,
}

impl Pools {
    /// Reads ranges separated by a comma. `mask` is the prefix length of an IPv4 node's part; IPv6 parts
    /// have 64 bits.
    pub(crate) fn parse(ranges: &str, mask: u8) -> Result<Pools, String> {
        let pools =
            ranges.split(',').map(|range| Pool::parse(range.trim(), mask)).collect::<Result<Vec<_>, _>>()?;
        if pools.len() > 2 || (pools.len() == 2 && pools[0].width == pools[1].width) {
            return Err(format!("cluster range {ranges:?} has more than one range of a family"));
        }
        Ok(Pools { pools })
    }

    /// Takes a free part of each range; `None` if one has none left.
    pub(crate) fn take(&mut self) -> Option<Vec<String>> {
        let free: Vec<u64> = self.pools.iter().map(Pool::free).collect::<Option<_>>()?;
        Some(self.pools.iter_mut().zip(free).map(|(pool, index)| pool.take(index)).collect())
    }

    /// Notes that a part is taken. What lies outside is ignored.
    pub(crate) fn occupy(&mut self, part: &str) {
        for pool in &mut self.pools {
            for index in pool.indexes(part) {
                pool.taken.insert(index);
            }
        }
    }

    /// Notes that a part is free.
    pub(crate) fn release(&mut self, part: &str) {
        for pool in &mut self.pools {
            for index in pool.indexes(part) {
                pool.taken.remove(&index);
            }
        }
    }
}

fn parse(range: &str) -> Option<(u128, u32, u32)> {
    let (address, prefix) = range.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    let (number, width) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    (prefix <= width).then_some((number, width, prefix))
}

impl Pool {
    fn parse(range: &str, mask: u8) -> Result<Pool, String> {
        let (number, width, prefix) =
            parse(range).ok_or_else(|| format!("cluster range {range:?} is not an address range"))?;
        let part = if width == 32 { u32::from(mask) } else { 64 };
        if part < prefix || part > width || part - prefix > 16 {
            return Err(format!("parts of /{part} do not fit cluster range {range:?}"));
        }
        let host = width - prefix;
        let base = if host == 128 { 0 } else { number >> host << host };
        Ok(Pool { base, width, prefix, part, taken: BTreeSet::new(), next: 0 })
    }

    fn parts(&self) -> u64 {
        1 << (self.part - self.prefix)
    }

    fn free(&self) -> Option<u64> {
        let parts = self.parts();
        (0..parts).map(|offset| (self.next + offset) % parts).find(|index| !self.taken.contains(index))
    }

    fn take(&mut self, index: u64) -> String {
        self.taken.insert(index);
        self.next = (index + 1) % self.parts();
        let number = self.base + (u128::from(index) << (self.width - self.part));
        let address = match u32::try_from(number) {
            Ok(v4) if self.width == 32 => IpAddr::V4(Ipv4Addr::from(v4)),
            _ => IpAddr::V6(Ipv6Addr::from(number)),
        };
        format!("{address}/{}", self.part)
    }

    /// The parts that a range touches.
    fn indexes(&self, range: &str) -> std::ops::RangeInclusive<u64> {
        #[expect(clippy::reversed_empty_ranges, reason = "no part at all")]
        let none = 1..=0;
        let Some((first, width, prefix)) = parse(range) else { return none };
        if width != self.width {
            return none;
        }
        let host = self.width - self.part;
        let size = |bits: u32| if bits >= 128 { u128::MAX } else { (1u128 << bits) - 1 };
        let last = first | size(width - prefix);
        let (start, end) = (self.base, self.base | size(self.width - self.prefix));
        if last < start || first > end {
            return none;
        }
        let index = |address: u128| u64::try_from((address - self.base) >> host).unwrap_or(u64::MAX);
        index(first.max(start))..=index(last.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_and_releasing() {
        let mut pools = Pools::parse("10.244.0.0/22", 24).unwrap();
        let take = |pools: &mut Pools| pools.take().map(|parts| parts.join(" "));
        assert_eq!(take(&mut pools).as_deref(), Some("10.244.0.0/24"));
        pools.occupy("10.244.1.0/24");
        assert_eq!(take(&mut pools).as_deref(), Some("10.244.2.0/24"));
        pools.release("10.244.0.0/24");
        pools.release("192.168.0.0/24");
        assert_eq!(take(&mut pools).as_deref(), Some("10.244.3.0/24"));
        assert_eq!(take(&mut pools).as_deref(), Some("10.244.0.0/24"));
        assert_eq!(take(&mut pools), None);
        pools.release("10.244.0.0/23");
        assert_eq!(take(&mut pools).as_deref(), Some("10.244.1.0/24"));
    }

    #[test]
    fn two_families() {
        let mut pools = Pools::parse("10.244.0.0/16, fd00:10::/56", 24).unwrap();
        pools.occupy("fd00:10::/64");
        assert_eq!(pools.take().unwrap(), ["10.244.0.0/24", "fd00:10:0:1::/64"]);
    }

    #[test]
    fn bad_ranges() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/25", "10.0.0.0/4", "10.0.0.0/16,10.1.0.0/16"] {
            assert!(Pools::parse(bad, 24).is_err(), "{bad}");
        }
    }
}
