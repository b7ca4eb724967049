//! IP addresses and address blocks as they stand in objects: the forms that are read, those that new objects may
//! have, and the words for the others (upstream's `apimachinery/pkg/util/validation/ip.go`, with
//! `StrictIPCIDRValidation` on, as v1.36 has it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use apimachinery::field::{Error, ErrorList, Path, quote};

/// An address as old objects may hold it: numbers of an IPv4 address may begin with zeros. An IPv4 address
/// mapped into IPv6 is that IPv4 address.
pub fn parse(text: &str) -> Option<IpAddr> {
    Some(unmapped(parse_as_written(text)?))
}

fn parse_as_written(text: &str) -> Option<IpAddr> {
    match text.find(['.', ':']).map(|at| &text[at..=at])? {
        "." => parse_v4(text).map(IpAddr::V4),
        _ => parse_v6(text).map(IpAddr::V6),
    }
}

fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?, 255)?.try_into().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", parse_v4(tail)?).parse().ok(),
        _ => text.parse().ok(),
    }
}

/// Digits only, zeros in front allowed.
fn decimal(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    if digits.len() > 9 {
        return None;
    }
    let number = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    (number <= max).then_some(number)
}

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    ip: IpAddr,
    bits: u32,
}

impl Cidr {
    /// A block as old objects may hold it.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (address, bits) = text.split_once('/')?;
        let ip = parse_v4(address).map(IpAddr::V4).or_else(|| parse_v6(address).map(IpAddr::V6))?;
        Some(Cidr { ip, bits: decimal(bits, width(ip))? })
    }

    pub fn is_ipv4(self) -> bool {
        unmapped(self.ip).is_ipv4()
    }

    /// How many bits are fixed, as the text says.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The first address of the block, in the width of the text.
    fn network(self) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        }
    }

    /// Whether the other block lies inside this one and is smaller.
    pub fn strictly_contains(self, other: Cidr) -> bool {
        let inner = Cidr { ip: other.network(), bits: self.bits };
        width(self.ip) == width(other.ip) && self.bits < other.bits && inner.network() == self.network()
    }

    /// `10.0.0.0/8`, as the block is written properly.
    pub fn canonical(self) -> String {
        let network = self.network();
        match unmapped(network) {
            IpAddr::V4(ip) if network.is_ipv6() && self.bits >= 96 => format!("{ip}/{}", self.bits - 96),
            _ => format!("{network}/{}", self.bits),
        }
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// An address in a field that has existed for long: old values stay, new ones are unambiguous (upstream's
/// `IsValidIPForLegacyField`).
pub fn legacy(text: &str, old: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if !old.contains(&text) {
        unambiguous(text, path, errors);
    }
}

fn unambiguous(text: &str, path: &Path<'_>, errors: &mut ErrorList) -> Option<IpAddr> {
    let Some(ip) = parse_as_written(text) else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(path, text, why));
        return None;
    };
    let before = errors.len();
    if text.parse::<IpAddr>().is_err() {
        errors.push(Error::invalid(path, text, "must not have leading 0s"));
    } else if is_mapped(ip) {
        errors.push(Error::invalid(path, text, "must not be an IPv4-mapped IPv6 address"));
    }
    (errors.len() == before).then_some(ip)
}

/// An address in its one proper form (upstream's `IsValidIP`).
pub fn strict(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(ip) = unambiguous(text, path, errors) {
        let canonical = ip.to_string();
        if canonical != text {
            let why = format!("must be in canonical form ({})", quote(&canonical));
            errors.push(Error::invalid(path, text, why));
        }
    }
}

/// A block in a field that has existed for long (upstream's `IsValidCIDRForLegacyField`).
pub fn legacy_cidr(text: &str, old: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if !old.contains(&text) {
        unambiguous_cidr(text, path, errors);
    }
}

fn unambiguous_cidr(text: &str, path: &Path<'_>, errors: &mut ErrorList) -> Option<Cidr> {
    let Some(cidr) = Cidr::parse(text) else {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(Error::invalid(path, text, why));
        return None;
    };
    let why = if !is_strict_cidr(text, cidr) {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(cidr.ip) {
        "must not have an IPv4-mapped IPv6 address"
    } else if cidr.ip != cidr.network() {
        "must not have bits set beyond the prefix length"
    } else {
        return Some(cidr);
    };
    errors.push(Error::invalid(path, text, why));
    None
}

/// No zeros in front anywhere.
fn is_strict_cidr(text: &str, cidr: Cidr) -> bool {
    text.split_once('/')
        .is_some_and(|(ip, bits)| ip.parse::<IpAddr>().is_ok() && bits == cidr.bits.to_string())
}

/// A block in its one proper form (upstream's `IsValidCIDR`).
pub fn strict_cidr(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(cidr) = unambiguous_cidr(text, path, errors) {
        let canonical = cidr.canonical();
        if canonical != text {
            let why = format!("must be in canonical form ({})", quote(&canonical));
            errors.push(Error::invalid(path, text, why));
        }
    }
}

/// An address where traffic may be sent (upstream's `ValidateEndpointIP`).
pub fn endpoint(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(ip) = parse(text) else {
        errors.push(Error::invalid(path, text, "must be a valid IP address"));
        return;
    };
    let (local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.push(Error::invalid(path, text, format!("may not be unspecified ({text})")));
    }
    if ip.is_loopback() {
        let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.push(Error::invalid(path, text, why));
    }
    if local {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.push(Error::invalid(path, text, why));
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(Error::invalid(path, text, why));
    }
}

/// What a client should write instead of a valid but unusual address.
pub fn warning(text: &str, path: &Path<'_>) -> Option<String> {
    let ip = parse_as_written(text)?;
    let (quoted, proper) = (quote(text), quote(&unmapped(ip).to_string()));
    if text.parse::<IpAddr>().is_err() || is_mapped(ip) {
        return Some(format!("{path}: non-standard IP address {quoted} is invalid: use {proper}"));
    }
    (ip.is_ipv6() && ip.to_string() != text)
        .then(|| format!("{path}: IPv6 address {quoted} should be in RFC 5952 canonical format ({proper})"))
}

/// The same for a block; there may be two reasons at once.
pub fn cidr_warnings(text: &str, path: &Path<'_>) -> Vec<String> {
    let Some(cidr) = Cidr::parse(text) else { return Vec::new() };
    let (quoted, proper) = (quote(text), quote(&cidr.canonical()));
    let mut warnings = Vec::new();
    if cidr.ip != cidr.network() {
        let single = quote(&format!("{}/{}", unmapped(cidr.ip), width(cidr.ip)));
        warnings.push(format!(
            "{path}: CIDR value {quoted} is ambiguous in this context (should be {proper} or {single}?)"
        ));
    }
    if !is_strict_cidr(text, cidr) || is_mapped(cidr.ip) {
        warnings.push(format!("{path}: non-standard CIDR value {quoted} is invalid: use {proper}"));
    }
    if warnings.is_empty() && cidr.ip.is_ipv6() && cidr.canonical() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {quoted} should be in RFC 5952 canonical format ({proper})"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: impl Fn(&str, &Path<'_>, &mut ErrorList), text: &str, expect: &str) {
        let mut errors = ErrorList::new();
        rule(text, &Path::new("f"), &mut errors);
        let details: Vec<String> = errors.into_iter().map(|error| error.detail).collect();
        assert_eq!(details.join("; "), expect, "{text}");
    }

    #[test]
    fn addresses() {
        const BAD: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        for good in ["1.2.3.4", "::", "::1", "2001:db8::ffff", "1:2:3:4:5:6:7:8"] {
            check(|text, path, errors| legacy(text, &[], path, errors), good, "");
            check(strict, good, "");
        }
        for bad in [
            "",
            "x",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.x",
            ":",
            "1::2::3",
            "fe80::1%eth0",
            " 1.2.3.4",
        ] {
            check(|text, path, errors| legacy(text, &[], path, errors), bad, BAD);
        }
        check(|text, path, errors| legacy(text, &["01.2.3.4"], path, errors), "01.2.3.4", "");
        check(strict, "01.2.3.4", "must not have leading 0s");
        check(strict, "::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address");
        check(strict, "2001:DB8::1", "must be in canonical form (\"2001:db8::1\")");
        check(|text, path, errors| legacy(text, &[], path, errors), "2001:DB8::1", "");
        assert_eq!(parse("::ffff:010.2.3.4"), Some("10.2.3.4".parse().unwrap()));
    }

    #[test]
    fn blocks() {
        const BAD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        for good in ["0.0.0.0/0", "10.0.0.0/8", "1.2.3.4/32", "::/0", "2001:db8::/64", "::1/128"] {
            check(strict_cidr, good, "");
        }
        for bad in
            ["", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/x", "/8", "10.0.0.0/8/8"]
        {
            check(strict_cidr, bad, BAD);
        }
        check(strict_cidr, "10.0.0.0/08", "must not have leading 0s in IP or prefix length");
        check(strict_cidr, "010.0.0.0/8", "must not have leading 0s in IP or prefix length");
        check(strict_cidr, "::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address");
        check(strict_cidr, "10.0.0.1/8", "must not have bits set beyond the prefix length");
        check(strict_cidr, "2001:DB8::/32", "must be in canonical form (\"2001:db8::/32\")");
        check(|text, path, errors| legacy_cidr(text, &["10.0.0.1/8"], path, errors), "10.0.0.1/8", "");
        let contains = |a: &str, b: &str| Cidr::parse(a).unwrap().strictly_contains(Cidr::parse(b).unwrap());
        assert!(contains("10.0.0.0/8", "10.1.0.0/16"));
        assert!(contains("0.0.0.0/0", "10.1.0.0/16"));
        assert!(!contains("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!contains("::/0", "11.0.0.0/16"));
    }

    #[test]
    fn endpoints_and_warnings() {
        check(endpoint, "10.0.0.1", "");
        check(endpoint, "0.0.0.0", "may not be unspecified (0.0.0.0)");
        check(endpoint, "127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)");
        check(endpoint, "169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
        check(endpoint, "fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
        check(
            endpoint,
            "224.0.0.1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
        check(endpoint, "ff02::1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
        let f = Path::new("f");
        for (text, expect) in [
            ("1.2.3.4", None),
            ("01.2.3.4", Some("f: non-standard IP address \"01.2.3.4\" is invalid: use \"1.2.3.4\"")),
            (
                "::ffff:1.2.3.4",
                Some("f: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""),
            ),
            ("::0", Some("f: IPv6 address \"::0\" should be in RFC 5952 canonical format (\"::\")")),
        ] {
            assert_eq!(warning(text, &f).as_deref(), expect);
        }
        for (text, expect) in [
            ("10.0.0.0/8", ""),
            (
                "10.1.2.3/8",
                "f: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)",
            ),
            ("010.0.0.0/8", "f: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""),
            (
                "2001:db8:0::/64",
                "f: IPv6 CIDR value \"2001:db8:0::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")",
            ),
        ] {
            assert_eq!(cidr_warnings(text, &f).join("; "), expect);
        }
    }
}
