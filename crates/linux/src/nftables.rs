//! nftables: one text, one transaction.
//!
//! [`apply`] hands a text in nft(8) syntax to the `nft` program, which compiles it to a single netlink batch:
//! the kernel takes all of it or nothing. Starting the program costs 6 ms of processor time with a small table
//! and 45 ms with 5,000 chains (it reads the set declarations first); `docs/decisions` says why that was
//! chosen over netlink messages of our own.
//!
//! [`generation`] tells, for the price of one small message, whether anybody changed any table since.

use crate::{Error, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
        }
    }
}

/// What a table consists of, as far as it can be compared: rules are counted, not read, because the kernel
/// gives them back in another wording than they had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Chain to number of rules.
    pub chains: BTreeMap<String, usize>,
    /// Set or map to the keys of its elements; concatenations joined by ` . `.
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

/// Applies `script` in the calling thread's network namespace, all or nothing.
///
/// # Errors
/// nft's own words, which quote the offending line, when it refuses; `NotFound` when the program is missing.
pub async fn apply(script: &str) -> Result<()> {
    nft(&["-f", "-"], script, "applying an nftables transaction").await.map(|_| ())
}

/// The tables that exist.
pub async fn list_tables() -> Result<BTreeSet<(String, String)>> {
    let doing = "listing nftables tables";
    let text = nft(&["-j", "list", "tables"], "", doing).await?;
    Ok(objects(&text, doing)?
        .iter()
        .filter_map(|o| o.get("table"))
        .filter_map(|t| Some((string(t, "family")?, string(t, "name")?)))
        .collect())
}

/// A table's contents; `None` when it does not exist.
pub async fn list_table(family: Family, table: &str) -> Result<Option<Listing>> {
    let doing = format!("listing the nftables table {} {table}", family.name());
    match nft(&["-j", "list", "table", family.name(), table], "", &doing).await {
        Ok(text) => parse_listing(&text, &doing).map(Some),
        Err(e) if missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A base chain of any table, such as iptables' `FORWARD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainListing {
    /// `accept` or `drop`; empty for a chain without a hook.
    pub policy: String,
    /// The kernel's number of each rule, by which it can be deleted, and the rule's comment.
    pub rules: Vec<(u64, String)>,
}

/// A chain's rules; `None` when the chain does not exist.
pub async fn list_chain(family: Family, table: &str, chain: &str) -> Result<Option<ChainListing>> {
    let doing = format!("listing the nftables chain {} {table} {chain}", family.name());
    let text = match nft(&["-j", "list", "chain", family.name(), table, chain], "", &doing).await {
        Ok(text) => text,
        Err(e) if missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut listing = ChainListing::default();
    for object in objects(&text, &doing)? {
        if let Some(policy) = object.get("chain").and_then(|c| string(c, "policy")) {
            listing.policy = policy;
        }
        if let Some(rule) = object.get("rule") {
            let handle = rule.get("handle").and_then(|h| h.as_u64()).unwrap_or_default();
            listing.rules.push((handle, string(rule, "comment").unwrap_or_default()));
        }
    }
    Ok(Some(listing))
}

/// Removes a table; one that is not there is success.
pub async fn delete_table(family: Family, table: &str) -> Result<()> {
    let name = format!("{} {table}", family.name());
    // Adding first makes the deletion succeed either way, in one transaction.
    nft(
        &["-f", "-"],
        &format!("add table {name}\ndelete table {name}\n"),
        &format!("removing the nftables table {name}"),
    )
    .await
    .map(|_| ())
}

fn missing(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|s| s.to_string().contains("No such file or directory"))
        && error.kind() != io::ErrorKind::NotFound
}

async fn nft(args: &[&str], input: &str, doing: &str) -> Result<String> {
    let fail = |e: io::Error| {
        let e = match e.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::NotFound,
                "the program nft is missing (Debian package nftables)",
            ),
            _ => e,
        };
        Error::new(doing, e)
    };
    let mut child = tokio::process::Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    // Written beside reading the output: either pipe may fill up.
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input.as_bytes()).await?;
        }
        Ok::<(), io::Error>(())
    };
    let (written, output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(fail)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(doing, io::Error::other(shorten(said.trim()))));
    }
    written.map_err(fail)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// nft repeats whole lines, which may hold thousands of elements.
fn shorten(said: &str) -> String {
    let mut out = String::new();
    for line in said.lines().take(12) {
        let end = line.char_indices().nth(300).map_or(line.len(), |(i, _)| i);
        out.push_str(line.get(..end).unwrap_or(line));
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn objects(text: &str, doing: &str) -> Result<Vec<serde_json::Value>> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| Error::new(doing, io::Error::from(e)))?;
    Ok(value.get("nftables").and_then(|v| v.as_array()).cloned().unwrap_or_default())
}

fn string(value: &serde_json::Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn parse_listing(text: &str, doing: &str) -> Result<Listing> {
    let mut listing = Listing::default();
    for object in objects(text, doing)? {
        if let Some(name) = object.get("chain").and_then(|c| string(c, "name")) {
            listing.chains.entry(name).or_default();
        }
        if let Some(name) = object.get("rule").and_then(|r| string(r, "chain")) {
            *listing.chains.entry(name).or_default() += 1;
        }
        for kind in ["set", "map"] {
            let Some(set) = object.get(kind) else { continue };
            let Some(name) = string(set, "name") else { continue };
            let elements = set.get("elem").and_then(|e| e.as_array()).map(Vec::as_slice).unwrap_or_default();
            let is_map = kind == "map";
            listing.sets.insert(name, elements.iter().map(|e| element_key(e, is_map)).collect());
        }
    }
    Ok(listing)
}

/// A map's element is `[key, value]`; a concatenated key is `{"concat": [...]}`; a key with a comment, a
/// counter or a timeout is `{"elem": {"val": key, …}}`; a range is `{"prefix": {"addr", "len"}}`.
fn element_key(element: &serde_json::Value, is_map: bool) -> String {
    let key = if is_map { element.get(0).unwrap_or(element) } else { element };
    let key = key.get("elem").and_then(|e| e.get("val")).unwrap_or(key);
    if let Some(parts) = key.get("concat").and_then(|c| c.as_array()) {
        return parts.iter().map(scalar).collect::<Vec<_>>().join(" . ");
    }
    scalar(key)
}

fn scalar(value: &serde_json::Value) -> String {
    if let Some(prefix) = value.get("prefix") {
        let part = |k| prefix.get(k).map(scalar).unwrap_or_default();
        return format!("{}/{}", part("addr"), part("len"));
    }
    match value {
        serde_json::Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
const NLM_F_REQUEST: u16 = 1;

/// A number that the kernel raises with every transaction of anybody in this network namespace.
pub fn generation() -> Result<u32> {
    generation_message().map_err(|e| Error::new("asking for the nftables generation", e))
}

fn generation_message() -> io::Result<u32> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let mut request = Vec::with_capacity(20);
    request.extend(20u32.to_ne_bytes());
    request.extend(((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN).to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([0; 4]); // nfgenmsg: any family, version 0
    sendto(fd.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0u8; 512];
    let length = recv(fd.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    reply
        .get(..length)
        .and_then(parse_generation)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer has no generation"))
}

fn parse_generation(reply: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    if kind != (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN {
        return None;
    }
    let mut attributes = reply.get(20..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == NFTA_GEN_ID {
            return Some(u32::from_be_bytes(attributes.get(4..8)?.try_into().ok()?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_listing() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "ip", "name": "t", "handle": 1}},
            {"chain": {"family": "ip", "table": "t", "name": "a", "handle": 1}},
            {"chain": {"family": "ip", "table": "t", "name": "b", "handle": 2}},
            {"rule": {"family": "ip", "table": "t", "chain": "a", "handle": 3, "expr": [{"accept": null}]}},
            {"map": {"family": "ip", "name": "m", "table": "t", "type": ["ipv4_addr", "inet_service"], "map": "verdict",
                "elem": [[{"concat": ["10.0.0.1", 80]}, {"goto": {"target": "a"}}],
                         [{"elem": {"val": {"concat": ["10.0.0.2", 80]}, "comment": "x"}}, {"accept": null}]]}},
            {"set": {"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr",
                "elem": ["10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 16}}]}},
            {"set": {"family": "ip", "name": "empty", "table": "t", "type": "ipv4_addr"}}]}"#;
        let listing = parse_listing(text, "x").unwrap();
        let keys = |k: &[&str]| k.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(listing.chains, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
        assert_eq!(listing.sets["m"], keys(&["10.0.0.1 . 80", "10.0.0.2 . 80"]));
        assert_eq!(listing.sets["s"], keys(&["10.0.0.1", "10.1.0.0/16"]));
        assert_eq!(listing.sets["empty"], keys(&[]));
        assert!(parse_listing("nonsense", "x").is_err());
    }

    #[test]
    fn transactions_in_a_namespace() {
        if !crate::testing::root_or_skip("nftables") {
            return;
        }
        let namespace = crate::netns::Namespace::new().unwrap();
        namespace
            .run_async(async || {
                assert_eq!(list_table(Family::Ip, "t").await.unwrap(), None);
                let before = generation().unwrap();
                apply("add table ip t\nadd chain ip t c\nadd rule ip t c accept\n").await.unwrap();
                assert_eq!(generation().unwrap(), before + 1);
                // The second line is wrong: the first must not have happened either.
                let error = apply("add chain ip t d\nadd rule ip t nowhere accept\n").await.unwrap_err();
                use std::error::Error as _;
                let why = error.source().unwrap().to_string();
                assert!(why.contains("nowhere"), "{why}");
                let listing = list_table(Family::Ip, "t").await.unwrap().unwrap();
                assert_eq!(listing.chains, BTreeMap::from([("c".to_owned(), 1)]));
                assert!(list_tables().await.unwrap().contains(&("ip".into(), "t".into())));
                assert_eq!(list_chain(Family::Ip, "t", "nowhere").await.unwrap(), None);
                delete_table(Family::Ip, "t").await.unwrap();
                delete_table(Family::Ip, "t").await.unwrap();
                assert!(list_tables().await.unwrap().is_empty());
            })
            .unwrap();
    }
}
