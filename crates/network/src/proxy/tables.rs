//! What the kernel holds of ours, as far as we know, and how it gets to hold something else.

use super::ruleset::{self, Ruleset, TableName};
use linux::nftables;
use std::collections::BTreeSet;

/// Our side of the kernel's tables. One owner at a time per table.
#[derive(Debug, Default)]
pub struct Tables {
    /// `None` when unknown: the next change replaces everything.
    applied: Option<Ruleset>,
    retired: BTreeSet<(TableName, String)>,
    /// The kernel's generation when our tables were last known to be as applied.
    generation: Option<u32>,
}

/// What [`Tables::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nobody has changed any table on this machine.
    Unchanged,
    /// Somebody has, but not ours.
    Intact,
    /// Ours are not as they were applied.
    Damaged,
}

impl Tables {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the kernel hold `wanted`, with one transaction or, when nothing differs, with none. `true` when
    /// there was one.
    ///
    /// When a small change is refused (somebody tampered with a table), everything is replaced instead.
    pub async fn sync(&mut self, wanted: Ruleset) -> linux::Result<bool> {
        let change = match &self.applied {
            Some(applied) => ruleset::diff(applied, &wanted),
            None => ruleset::replace(&wanted),
        };
        if change.text.is_empty() {
            return Ok(false);
        }
        let before = nftables::generation().ok();
        let retired = match nftables::apply(&change.text).await {
            Ok(()) => {
                let mut retired =
                    if self.applied.is_some() { std::mem::take(&mut self.retired) } else { BTreeSet::new() };
                retired.retain(|(table, chain)| {
                    wanted.tables.get(table).is_some_and(|t| !t.chains.contains_key(chain))
                });
                retired.extend(change.retired);
                retired
            }
            Err(error) if self.applied.is_some() => {
                tracing::warn!(error = %error.chain(), "the rules could not be changed; replacing all of them");
                self.applied = None;
                nftables::apply(&ruleset::replace(&wanted).text).await?;
                BTreeSet::new()
            }
            Err(error) => return Err(error),
        };
        self.retired = retired;
        let undisturbed = self.applied.is_none() || self.generation == before;
        self.applied = Some(wanted);
        self.generation = match (before, nftables::generation().ok()) {
            (Some(before), Some(after)) if undisturbed && after == before.wrapping_add(1) => Some(after),
            // Somebody else's transaction came between: look again at the next check.
            _ => None,
        };
        Ok(true)
    }

    /// Whether the kernel still holds what was applied. Costs one small message as long as nobody changed any
    /// table. After [`Check::Damaged`] the next [`Tables::sync`] replaces everything.
    pub async fn check(&mut self) -> linux::Result<Check> {
        let Some(applied) = &self.applied else { return Ok(Check::Damaged) };
        let generation = nftables::generation()?;
        if self.generation == Some(generation) {
            return Ok(Check::Unchanged);
        }
        for (name, table) in &applied.tables {
            let retired = self.retired.iter().filter(|(t, _)| t == name).map(|(_, c)| c.as_str()).collect();
            let found = nftables::list_table(name.0, &name.1).await?;
            if !found.is_some_and(|f| ruleset::is_intact(&f, table, &retired)) {
                self.applied = None;
                return Ok(Check::Damaged);
            }
        }
        self.generation = Some(generation);
        Ok(Check::Intact)
    }

    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Deletes the chains that became unused; to be called a second or so after the change.
    pub async fn sweep(&mut self) -> linux::Result<()> {
        if self.retired.is_empty() {
            return Ok(());
        }
        let before = nftables::generation().ok();
        let text = ruleset::sweep(&self.retired);
        self.retired.clear();
        if let Err(error) = nftables::apply(&text).await {
            self.applied = None;
            return Err(error);
        }
        if before.is_some() && before == self.generation {
            self.generation =
                nftables::generation().ok().filter(|after| Some(*after) == before.map(|b| b.wrapping_add(1)));
        }
        Ok(())
    }
}
