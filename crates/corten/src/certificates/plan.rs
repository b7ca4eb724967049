//! Which certificates are due: a pure function over what is there, what is wanted and the time.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::issue::{BACKDATE_SECONDS, Subject};

/// Why a certificate is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Missing,
    /// The file is not a certificate, or its authority is another one now.
    Unusable,
    /// Less than a third of its life is left.
    Old,
    /// It lives longer than certificates are to live now.
    Long,
    /// It lacks a name or an address that is wanted now.
    Names,
}

/// What a certificate's file says, as far as renewal depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub not_before: i64,
    pub not_after: i64,
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// Reads the first certificate of a PEM text.
pub fn facts(pem: &str) -> Option<Facts> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    let mut facts = Facts {
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names: Vec::new(),
        addresses: Vec::new(),
    };
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(dns) => facts.names.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Some(facts)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whether a certificate must be made (again). `pem` is the file's content when there is one; `signed` tells
/// whether the present authority has signed it; `validity` is how many seconds a new one would live.
pub fn due(pem: Option<&str>, signed: bool, subject: &Subject, validity: i64, now: Timestamp) -> Option<Due> {
    let Some(pem) = pem else { return Some(Due::Missing) };
    let Some(facts) = facts(pem) else { return Some(Due::Unusable) };
    if !signed {
        return Some(Due::Unusable);
    }
    if old(&facts, now) {
        return Some(Due::Old);
    }
    if life(&facts) > validity {
        return Some(Due::Long);
    }
    let named = subject.names.iter().all(|name| facts.names.contains(name))
        && subject.addresses.iter().all(|address| facts.addresses.contains(address));
    (!named).then_some(Due::Names)
}

/// Less than a third of the life of the certificate is left.
pub fn old(facts: &Facts, now: Timestamp) -> bool {
    facts.not_after - now.as_second() < life(facts) / 3
}

/// Seconds from when the certificate was made until it ends.
fn life(facts: &Facts) -> i64 {
    (facts.not_after - facts.not_before - BACKDATE_SECONDS).max(0)
}

#[cfg(test)]
mod tests {
    use super::super::issue::{AUTHORITY_DAYS, Authority, LEAF_DAYS};
    use super::*;

    const YEAR: i64 = LEAF_DAYS * 86_400;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
    }

    #[test]
    fn renewal_comes_when_a_third_is_left() {
        let authority = Authority::new("kubernetes", None, at(0)).unwrap();
        let subject =
            Subject::server("kube-apiserver", vec!["kubernetes".into()], vec!["10.96.0.1".parse().unwrap()]);
        let pair = authority.sign(&subject, at(0)).unwrap();
        let check = |day: i64, expect: Option<Due>| {
            let got = due(Some(&pair.certificate), true, &subject, YEAR, at(day));
            assert_eq!(got, expect, "day {day}");
        };
        check(0, None);
        check(LEAF_DAYS * 2 / 3 - 1, None);
        check(LEAF_DAYS * 2 / 3 + 1, Some(Due::Old));
        check(LEAF_DAYS + 1, Some(Due::Old));
        let facts = facts(&authority.pair.certificate).unwrap();
        assert!(!old(&facts, at(AUTHORITY_DAYS * 2 / 3 - 1)));
        assert!(old(&facts, at(AUTHORITY_DAYS * 2 / 3 + 1)));
    }

    #[test]
    fn other_reasons() {
        let authority = Authority::new("kubernetes", None, at(0)).unwrap();
        let mut subject = Subject::server("kube-apiserver", vec!["kubernetes".into()], vec![]);
        let pair = authority.sign(&subject, at(0)).unwrap();
        let pem = Some(pair.certificate.as_str());
        assert_eq!(due(None, false, &subject, YEAR, at(0)), Some(Due::Missing));
        assert_eq!(due(Some("junk"), true, &subject, YEAR, at(0)), Some(Due::Unusable));
        assert_eq!(due(pem, false, &subject, YEAR, at(0)), Some(Due::Unusable));
        assert_eq!(due(pem, true, &subject, YEAR - 1, at(0)), Some(Due::Long));
        subject.addresses.push("192.0.2.7".parse().unwrap());
        assert_eq!(due(pem, true, &subject, YEAR, at(0)), Some(Due::Names));
        // One that lives for seconds is renewed in time as well, whatever it was backdated by.
        let brief = authority.sign_for(&Subject::client("a", &[]), at(0), 30).unwrap();
        let after = |seconds| {
            let now = Timestamp::from_second(at(0).as_second() + seconds).unwrap();
            due(Some(&brief.certificate), true, &Subject::client("a", &[]), 30, now)
        };
        assert_eq!((after(0), after(20), after(21)), (None, None, Some(Due::Old)));
    }

    #[test]
    fn a_renewed_authority_still_vouches_for_what_it_signed() {
        let first = Authority::new("kubernetes", None, at(0)).unwrap();
        let leaf = first.sign(&Subject::client("admin", &["system:masters"]), at(0)).unwrap();
        let renewed = Authority::new("kubernetes", Some(&first.pair.key), at(3000)).unwrap();
        assert_ne!(first.pair.certificate, renewed.pair.certificate);
        assert!(super::super::store::signed_by(&leaf.certificate, &renewed.pair.certificate));
        let other = Authority::new("kubernetes", None, at(0)).unwrap();
        assert!(!super::super::store::signed_by(&leaf.certificate, &other.pair.certificate));
    }
}
