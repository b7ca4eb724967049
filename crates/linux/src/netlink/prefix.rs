//! Address ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address with a prefix length: `10.244.0.1/24`. Host bits may be set (an interface's address); see
/// [`Prefix::network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub address: IpAddr,
    /// At most 32 or 128.
    pub length: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.244.0.0/16")]
pub struct PrefixError(String);

impl Prefix {
    /// `None` when `length` is more than the address has bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= bits(&address)).then_some(Prefix { address, length })
    }

    /// The single address: `/32` or `/128`.
    pub fn host(address: IpAddr) -> Self {
        Prefix { address, length: bits(&address) }
    }

    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    pub fn contains(&self, address: &IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(*b)).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(*b)).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains(&other.address) || other.contains(&self.address)
    }

    /// The same range with the host bits cleared.
    pub fn network(&self) -> Prefix {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                IpAddr::V4((u32::from(a) & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                IpAddr::V6((u128::from(a) & mask).into())
            }
        };
        Prefix { address, length: self.length }
    }

    /// The `n`th address of the range (0 is the network's own); `None` beyond its end.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let address = match self.network().address {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_add(u32::try_from(n).ok()?)?.into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_add(u128::from(n))?.into()),
        };
        self.contains(&address).then_some(address)
    }
}

fn bits(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        text.split_once('/')
            .and_then(|(a, l)| Prefix::new(a.parse().ok()?, l.parse().ok()?))
            .ok_or_else(|| PrefixError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes() {
        for (range, address, inside) in [
            ("10.244.0.0/16", "10.244.255.255", true),
            ("10.244.0.0/16", "10.245.0.0", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.0.0.1", false),
            ("::/0", "fe80::1", true),
        ] {
            assert_eq!(p(range).contains(&address.parse().unwrap()), inside, "{range} {address}");
        }
        assert_eq!(p("10.244.3.7/16").network().to_string(), "10.244.0.0/16");
        assert_eq!(p("fd00::7/0").network().to_string(), "::/0");
        assert_eq!(p("10.96.0.0/29").nth(7).unwrap().to_string(), "10.96.0.7");
        assert_eq!(p("10.96.0.0/29").nth(8), None);
        assert!(
            p("10.0.0.0/8").overlaps(&p("10.244.0.0/16")) && !p("10.0.0.0/16").overlaps(&p("10.1.0.0/16"))
        );
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
