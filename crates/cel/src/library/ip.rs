//! `net.IP` and `net.CIDR`: addresses and networks as Go's `net/netip` reads them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::library::string;
use crate::library::url::quoted;
use crate::value::{Result, Value};

/// An address and how many of its bits are the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// An address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(it) => (u32::from(it).into(), 32),
        IpAddr::V6(it) => (it.into(), 128),
    }
}

impl Cidr {
    /// The bits of the network, with those of the host zero.
    fn masked(self) -> Cidr {
        let (value, width) = number(self.address);
        let host = u32::from(width - self.bits);
        let value = if host >= 128 { 0 } else { value >> host << host };
        let address = match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(value as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(value).into(),
        };
        Cidr { address, ..self }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && self.masked() == Cidr { address, bits: self.bits }.masked()
    }
}

fn parse_address(text: &str) -> std::result::Result<IpAddr, String> {
    let fail = |reason: &str| Err(format!("ParseAddr({}): {reason}", quoted(text)));
    match text.find(['.', ':', '%']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => fail(&v4_fault(text)),
        },
        Some(b':') => match text.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => fail(&v6_fault(text)),
        },
        Some(_) => fail("missing IPv6 address"),
        None => fail("unable to parse IP"),
    }
}

fn v4_fault(text: &str) -> String {
    let (mut value, mut digits, mut fields) = (0u32, 0, 0);
    for (at, character) in text.char_indices() {
        match character.to_digit(10) {
            Some(_) if digits == 1 && value == 0 => {
                return "IPv4 field has octet with leading zero".to_owned();
            }
            Some(digit) => {
                value = value * 10 + digit;
                digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            None if character == '.' => {
                if at == 0 || at + 1 == text.len() || text.as_bytes()[at - 1] == b'.' {
                    let rest = quoted(&text[at..]);
                    return format!("IPv4 field must have at least one digit (at {rest})");
                }
                if fields == 3 {
                    return "IPv4 address too long".to_owned();
                }
                fields += 1;
                value = 0;
                digits = 0;
            }
            None => return format!("unexpected character (at {})", quoted(&text[at..])),
        }
    }
    "IPv4 address too short".to_owned()
}

fn v6_fault(text: &str) -> String {
    for (at, character) in text.char_indices() {
        if !character.is_ascii_hexdigit() && !matches!(character, ':' | '.') {
            return if text[at..].starts_with('%') {
                "zone must be a non-empty string".to_owned()
            } else {
                let start = text[..at].rfind(':').map_or(0, |it| it + 1);
                let start = if start == at { at } else { start.max(at) };
                format!("unexpected character, want colon (at {})", quoted(&text[start..]))
            };
        }
    }
    if let Some(long) = text.split(':').find(|it| it.len() > 4 && !it.contains('.')) {
        let at = text.find(long).unwrap_or(0);
        return format!("each group must have 4 or fewer digits (at {})", quoted(&text[at..]));
    }
    if let Some(at) = text.find(":::") {
        let rest = quoted(&text[at + 2..]);
        return format!("each colon-separated field must have at least one digit (at {rest})");
    }
    match text.rsplit_once("::") {
        Some((before, _)) if before.contains("::") => {
            let at = text.rfind("::").unwrap_or(0);
            format!("multiple :: in address (at {})", quoted(&text[at..]))
        }
        _ if text.split(':').count() > 8 => "trailing garbage after address".to_owned(),
        _ => "address string too short".to_owned(),
    }
}

fn parse_ip(text: &str) -> std::result::Result<IpAddr, String> {
    if let Some((address, zone)) = text.split_once('%')
        && !zone.is_empty()
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Err(format!("IP address {} with zone value is not allowed", quoted(text)));
    }
    let address = parse_address(text).map_err(|it| {
        format!("IP Address {} parse error during conversion from string: {it}", quoted(text))
    })?;
    if is_mapped(address) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", quoted(text)));
    }
    Ok(address)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some())
}

fn parse_prefix(text: &str) -> std::result::Result<Cidr, String> {
    let failed = |reason: String| {
        let fault = format!("netip.ParsePrefix({}): {reason}", quoted(text));
        format!("network address parse error during conversion from string: {fault}")
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| failed("no '/'".to_owned()))?;
    if address.contains('%') && address.contains(':') {
        return Err(failed("IPv6 zones cannot be present in a prefix".to_owned()));
    }
    let address = parse_address(address).map_err(failed)?;
    let bad = || failed(format!("bad bits after slash: {}", quoted(bits)));
    let plain = !bits.is_empty()
        && bits.bytes().all(|it| it.is_ascii_digit())
        && (bits.len() == 1 || !bits.starts_with('0'));
    let count: u64 = if plain { bits.parse().map_err(|_| bad())? } else { return Err(bad()) };
    if count > number(address).1.into() {
        return Err(failed("prefix length out of range".to_owned()));
    }
    if is_mapped(address) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", quoted(text)));
    }
    Ok(Cidr { address, bits: count as u8 })
}

fn to_ip(text: &str) -> Result<IpAddr> {
    parse_ip(text).map_err(Error::new)
}

fn to_cidr(text: &str) -> Result<Cidr> {
    parse_prefix(text)
        .map_err(|it| Error::new(format!("network address parse error during conversion from string: {it}")))
}

pub(super) fn ip<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    match args.first() {
        Some(Value::Cidr(it)) => Ok(Value::Ip(it.address)),
        _ => to_ip(string(args, 0)?).map(Value::Ip),
    }
}

pub(super) fn is_ip<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(parse_ip(string(args, 0)?).is_ok()))
}

pub(super) fn is_canonical<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let text = string(args, 0)?;
    Ok(Value::Bool(to_ip(text)?.to_string() == text))
}

fn this(args: &[Value<'_>]) -> Result<IpAddr> {
    match args.first() {
        Some(Value::Ip(it)) => Ok(*it),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn family<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Int(if this(args)?.is_ipv4() { 4 } else { 6 }))
}

pub(super) fn test<'a>(args: &[Value<'a>], test: fn(&IpAddr) -> bool) -> Result<Value<'a>> {
    Ok(Value::Bool(test(&this(args)?)))
}

pub(super) fn is_link_local_multicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.octets()[..3] == [224, 0, 0],
        IpAddr::V6(it) => it.segments()[0] & 0xff0f == 0xff02,
    }
}

pub(super) fn is_link_local_unicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => it.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// As Go has it: private addresses are global, too.
pub(super) fn is_global_unicast(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(it) if it.is_broadcast());
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_link_local_unicast(address)
}

pub(super) fn cidr<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    to_cidr(string(args, 0)?).map(Value::Cidr)
}

pub(super) fn is_cidr<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(parse_prefix(string(args, 0)?).is_ok()))
}

fn network(args: &[Value<'_>]) -> Result<Cidr> {
    match args.first() {
        Some(Value::Cidr(it)) => Ok(*it),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn contains_ip<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let address = match args.get(1) {
        Some(Value::Ip(it)) => *it,
        // What cannot be read is no address, and there is no overload for that.
        _ => to_ip(string(args, 1)?).map_err(|_| Error::no_such_overload())?,
    };
    Ok(Value::Bool(network(args)?.contains(address)))
}

pub(super) fn contains_cidr<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let other = match args.get(1) {
        Some(Value::Cidr(it)) => *it,
        _ => to_cidr(string(args, 1)?)?,
    };
    let this = network(args)?;
    Ok(Value::Bool(this.bits <= other.bits && this.contains(other.address)))
}

pub(super) fn prefix_length<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Int(network(args)?.bits.into()))
}

pub(super) fn masked<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Cidr(network(args)?.masked()))
}
