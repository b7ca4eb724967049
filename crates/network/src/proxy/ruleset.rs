//! nftables tables as values: compared by name, written as one transaction.

use linux::nftables::{Family, Listing};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A table's family and name.
pub type TableName = (Family, String);

/// Tables that are ours alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub tables: BTreeMap<TableName, Table>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// For a base chain where it hangs: `type nat hook output priority -100; policy accept;`.
    pub hook: Option<&'static str>,
    /// In nft's syntax, without "add rule …".
    pub rules: Vec<String>,
}

/// A set, or a map from keys to verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `type ipv4_addr . inet_service`, for a map with ` : verdict`.
    pub declaration: &'static str,
    pub is_map: bool,
    /// Key to verdict, which is empty in a set.
    pub elements: BTreeMap<String, String>,
}

/// A change, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// nft's syntax; empty when nothing changes.
    pub text: String,
    /// Chains that nothing refers to any more and that are empty now. Before Linux 6.2 the kernel notices
    /// only a moment later that the last reference is gone, so they are deleted by [`sweep`] in a transaction
    /// of their own.
    pub retired: BTreeSet<(TableName, String)>,
}

/// What leads from `old` to `new`: only chains and elements that differ.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Transaction {
    let mut tx = Transaction::default();
    let empty = Table::default();
    for name in old.tables.keys().filter(|n| !new.tables.contains_key(*n)) {
        let _ = writeln!(tx.text, "delete table {}", words(name));
    }
    for (name, table) in &new.tables {
        if !old.tables.contains_key(name) {
            let _ = writeln!(tx.text, "add table {}", words(name));
        }
        diff_table(name, old.tables.get(name).unwrap_or(&empty), table, &mut tx);
    }
    tx
}

/// Makes `new` whatever is there now, in one step: no packet meets a table that is missing or half full.
pub fn replace(new: &Ruleset) -> Transaction {
    let mut text = String::new();
    for name in new.tables.keys() {
        // Adding first makes the deletion succeed when there is no such table yet.
        let _ = writeln!(text, "add table {0}\ndelete table {0}", words(name));
    }
    text.push_str(&diff(&Ruleset::default(), new).text);
    Transaction { text, retired: BTreeSet::new() }
}

/// Deletes retired chains.
pub fn sweep(retired: &BTreeSet<(TableName, String)>) -> String {
    retired.iter().fold(String::new(), |mut text, (table, chain)| {
        let _ = writeln!(text, "delete chain {} {chain}", words(table));
        text
    })
}

fn words((family, name): &TableName) -> String {
    format!("{} {name}", family.name())
}

/// The order matters: what is referred to comes before what refers to it, and references go before what they
/// refer to.
fn diff_table(name: &TableName, old: &Table, new: &Table, tx: &mut Transaction) {
    let table = words(name);
    let out = &mut tx.text;
    // A chain or set whose kind changes would have to go and come again; ours have fixed names and kinds.
    for (set_name, set) in new.sets.iter().filter(|(n, _)| !old.sets.contains_key(*n)) {
        let kind = if set.is_map { "map" } else { "set" };
        let _ = writeln!(out, "add {kind} {table} {set_name} {{ {}; }}", set.declaration);
    }
    for (chain_name, chain) in &new.chains {
        match old.chains.get(chain_name) {
            None => {
                let hook = chain.hook.map(|h| format!(" {{ {h} }}")).unwrap_or_default();
                // Flushed too: a retired chain of this name may still be there.
                let _ = writeln!(out, "add chain {table} {chain_name}{hook}");
                let _ = writeln!(out, "flush chain {table} {chain_name}");
            }
            Some(old_chain) if old_chain.rules != chain.rules => {
                let _ = writeln!(out, "flush chain {table} {chain_name}");
            }
            Some(_) => {}
        }
    }
    let no_set = Set::default();
    for (set_name, set) in &new.sets {
        let old_set = old.sets.get(set_name).unwrap_or(&no_set);
        let gone = old_set.elements.iter().filter(|(k, v)| set.elements.get(*k) != Some(*v));
        elements(out, "delete", &table, set_name, gone.map(|(k, _)| (k.as_str(), "")));
    }
    for (chain_name, chain) in &new.chains {
        if old.chains.get(chain_name).is_none_or(|o| o.rules != chain.rules) {
            for rule in &chain.rules {
                let _ = writeln!(out, "add rule {table} {chain_name} {rule}");
            }
        }
    }
    for (set_name, set) in &new.sets {
        let old_set = old.sets.get(set_name).unwrap_or(&no_set);
        let added = set.elements.iter().filter(|(k, v)| old_set.elements.get(*k) != Some(*v));
        elements(out, "add", &table, set_name, added.map(|(k, v)| (k.as_str(), v.as_str())));
    }
    for chain_name in old.chains.keys().filter(|n| !new.chains.contains_key(*n)) {
        let _ = writeln!(out, "flush chain {table} {chain_name}");
        tx.retired.insert((name.clone(), chain_name.clone()));
    }
    for set_name in old.sets.keys().filter(|n| !new.sets.contains_key(*n)) {
        let kind = if old.sets.get(set_name).is_some_and(|s| s.is_map) { "map" } else { "set" };
        let _ = writeln!(out, "delete {kind} {table} {set_name}");
    }
}

fn elements<'a>(
    out: &mut String,
    verb: &str,
    table: &str,
    set: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let list: Vec<String> = pairs
        .map(|(key, verdict)| if verdict.is_empty() { key.to_owned() } else { format!("{key} : {verdict}") })
        .collect();
    if !list.is_empty() {
        let _ = writeln!(out, "{verb} element {table} {set} {{ {} }}", list.join(", "));
    }
}

/// Whether a table in the kernel still has the shape that it was given: the same chains with as many rules,
/// the same keys. Chains in `retired` may be there or not.
pub fn is_intact(found: &Listing, wanted: &Table, retired: &BTreeSet<&str>) -> bool {
    let chains = wanted.chains.iter().all(|(n, c)| found.chains.get(n) == Some(&c.rules.len()))
        && found.chains.keys().all(|n| wanted.chains.contains_key(n) || retired.contains(n.as_str()));
    let sets = found.sets.len() == wanted.sets.len()
        && wanted.sets.iter().all(|(n, s)| {
            found.sets.get(n).is_some_and(|keys| {
                keys.len() == s.elements.len() && s.elements.keys().all(|k| keys.contains(k))
            })
        });
    chains && sets
}
