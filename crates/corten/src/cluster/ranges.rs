//! Address ranges for pods and Services that nothing else on this machine uses.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// An IPv4 range, `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Range {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    pub fn overlaps(self, other: Range) -> bool {
        let mask = self.mask() & other.mask();
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }

    /// The address that lies `offset` after the start.
    pub fn nth(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from((u32::from(self.address) & self.mask()).wrapping_add(offset))
    }
}

impl std::str::FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Range> {
        let (address, prefix) =
            text.split_once('/').with_context(|| format!("{text} is not a range a.b.c.d/n"))?;
        let address = address.parse().with_context(|| format!("{text} is not an IPv4 range"))?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix));
        let prefix = prefix.with_context(|| format!("{text}: the prefix must be between 8 and 30"))?;
        let range = Range { address, prefix };
        if range.nth(0) != address {
            bail!("{text}: the address has bits outside the prefix; {}/{prefix} is meant?", range.nth(0));
        }
        Ok(range)
    }
}

impl TryFrom<String> for Range {
    type Error = anyhow::Error;
    fn try_from(text: String) -> Result<Range> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The two ranges of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    pub pods: Range,
    pub services: Range,
}

impl Ranges {
    /// The Service `kubernetes`.
    pub fn api_server_address(self) -> IpAddr {
        IpAddr::V4(self.services.nth(1))
    }

    /// The Service `kube-dns`.
    pub fn dns_address(self) -> IpAddr {
        IpAddr::V4(self.services.nth(10))
    }
}

/// Picks ranges: those that were asked for, else upstream's usual ones, else the next ones that nothing in
/// `taken` (routes of this machine) overlaps.
pub fn plan(pods: Option<Range>, services: Option<Range>, taken: &[Range]) -> Result<Ranges> {
    let free = |range: &Range, also: Option<Range>| {
        !taken.iter().chain(also.iter()).any(|other| range.overlaps(*other))
    };
    let sixteen = |second: u8| Range { address: Ipv4Addr::new(10, second, 0, 0), prefix: 16 };
    let services = match services {
        Some(range) => range,
        None => (96..112).map(sixteen).find(|range| free(range, pods)).context(
            "no range for Services is free between 10.96.0.0 and 10.111.0.0; choose one with \
             --service-cluster-ip-range",
        )?,
    };
    let pods = match pods {
        Some(range) => range,
        None => (200..=244).rev().map(sixteen).find(|range| free(range, Some(services))).context(
            "no range for pods is free between 10.200.0.0 and 10.244.0.0; choose one with --cluster-cidr",
        )?,
    };
    if pods.overlaps(services) {
        bail!("the ranges for pods ({pods}) and Services ({services}) overlap");
    }
    Ok(Ranges { pods, services })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pods: &str, services: &str, taken: &[&str], expect: &str) {
        let range = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let taken: Vec<Range> = taken.iter().map(|text| text.parse().unwrap()).collect();
        let got = match plan(range(pods), range(services), &taken) {
            Ok(ranges) => format!("{} {}", ranges.pods, ranges.services),
            Err(error) => error.to_string(),
        };
        assert!(got.starts_with(expect), "{got}");
    }

    #[test]
    fn ranges() {
        check("", "", &[], "10.244.0.0/16 10.96.0.0/16");
        check("", "", &["10.244.0.0/24", "10.96.0.0/16"], "10.243.0.0/16 10.97.0.0/16");
        check("", "", &["10.0.0.0/8"], "no range for Services");
        check("10.96.0.0/16", "", &[], "10.96.0.0/16 10.97.0.0/16");
        check("10.1.0.0/16", "10.1.2.0/24", &[], "the ranges for pods (10.1.0.0/16) and Services");
        assert!("10.96.0.1/16".parse::<Range>().is_err());
        assert!("10.96.0.0/33".parse::<Range>().is_err());
        assert!("fd00::/64".parse::<Range>().is_err());
    }
}
