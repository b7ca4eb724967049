//! Who owns whom: the synchronous heart of the garbage collector. Events come in, uids to look at come out.

use std::collections::{BTreeMap, BTreeSet};

use api::meta::v1::{ObjectMeta, OwnerReference};
use client::Gvr;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// An object as far as ownership goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) gvr: Gvr,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    /// It is being deleted and waits for what it owns.
    pub(super) deleting_dependents: bool,
    /// It is being deleted and what it owns is to be left alone.
    pub(super) orphaning: bool,
}

impl Node {
    fn new(gvr: &Gvr, meta: &ObjectMeta) -> Node {
        let deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
        Node {
            gvr: gvr.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            deleting_dependents: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
        }
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|o| o.uid == owner && o.block_owner_deletion == Some(true))
    }
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Task {
    /// Whether this object can or must go.
    Delete(String),
    /// What this object owns is to be set free.
    Orphan(String),
}

/// All objects that have a uid, and by owner those that name it, whether the owner is there or not.
#[derive(Default)]
pub(super) struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The objects that name this owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }

    /// Those of them that must go before the owner can.
    pub(super) fn blocking(&self, uid: &str) -> Vec<(String, Node)> {
        let mut dependents = self.dependents(uid);
        dependents.retain(|(_, node)| node.blocks(uid));
        dependents
    }

    /// An object was seen.
    pub(super) fn put(&mut self, gvr: &Gvr, meta: &ObjectMeta) -> Vec<Task> {
        let Some(uid) = meta.uid.clone() else { return Vec::new() };
        let node = Node::new(gvr, meta);
        let mut tasks = Vec::new();
        let before = self.nodes.insert(uid.clone(), node.clone());
        let owners_before = before.as_ref().map(|b| b.owners.clone()).unwrap_or_default();
        for owner in &owners_before {
            let still = node.owners.iter().any(|o| o.uid == owner.uid);
            if !still {
                self.unlink(&owner.uid, &uid);
            }
            let blocked = owner.block_owner_deletion == Some(true);
            if blocked && !node.blocks(&owner.uid) {
                self.wake_waiting(&owner.uid, &mut tasks);
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            let new = !owners_before.iter().any(|o| o.uid == owner.uid);
            // An owner that is not there, or is on its way out, may mean that this one goes too.
            let leaving = self.nodes.get(&owner.uid).is_none_or(|o| o.deleting_dependents);
            if new && leaving && !tasks.contains(&Task::Delete(uid.clone())) {
                tasks.push(Task::Delete(uid.clone()));
            }
        }
        let was = |flag: fn(&Node) -> bool| before.as_ref().is_some_and(flag);
        if node.orphaning && !was(|b| b.orphaning) {
            tasks.push(Task::Orphan(uid.clone()));
        }
        if node.deleting_dependents && !was(|b| b.deleting_dependents) {
            tasks.extend(self.dependents(&uid).into_iter().map(|(uid, _)| Task::Delete(uid)));
            tasks.push(Task::Delete(uid.clone()));
            // Owners that wait for this one must see that it waits in turn: that may be a circle.
        }
        tasks
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.owners {
                self.unlink(&owner.uid, uid);
                self.wake_waiting(&owner.uid, &mut tasks);
            }
        }
        tasks.extend(self.dependents(uid).into_iter().map(|(uid, _)| Task::Delete(uid)));
        tasks
    }

    fn wake_waiting(&self, owner: &str, tasks: &mut Vec<Task>) {
        if self.nodes.get(owner).is_some_and(|o| o.deleting_dependents) {
            tasks.push(Task::Delete(owner.to_owned()));
        }
    }

    fn unlink(&mut self, owner: &str, uid: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(uid);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// How an owner stands to an object that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there and stays.
    Solid,
    /// It is not there.
    Absent,
    /// It is being deleted and waits for what it owns.
    Waiting,
}

/// What is done about an object, by its owners' standings.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// It stays, and forgets these owners.
    Forget(Vec<String>),
    /// It goes, with this policy; `unblock` first takes away its hold on its owners, which would make a circle.
    Delete { policy: &'static str, unblock: bool },
}

/// `meta` is the live object's; `owners` are its references with their standings, `dependents` what the graph
/// says it owns.
pub(super) fn judge(
    meta: &ObjectMeta,
    owners: &[(String, Standing)],
    dependents: &[(String, Node)],
) -> Verdict {
    let with =
        |standing: Standing| owners.iter().filter(move |(_, s)| *s == standing).map(|(uid, _)| uid.clone());
    if with(Standing::Solid).next().is_some() {
        let gone: Vec<String> = with(Standing::Absent).chain(with(Standing::Waiting)).collect();
        return if gone.is_empty() { Verdict::Keep } else { Verdict::Forget(gone) };
    }
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if with(Standing::Waiting).next().is_some() && !dependents.is_empty() {
        let circle = dependents.iter().any(|(_, node)| node.deleting_dependents);
        return Verdict::Delete { policy: "Foreground", unblock: circle };
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
    let policy = match () {
        () if has(ORPHAN) => "Orphan",
        () if has(FOREGROUND) => "Foreground",
        () => "Background",
    };
    Verdict::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, owners: &[&str], finalizer: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(uid.into()),
            owner_references: Some(
                owners
                    .iter()
                    .map(|owner| OwnerReference {
                        uid: owner.trim_end_matches('!').into(),
                        block_owner_deletion: Some(owner.ends_with('!')),
                        ..OwnerReference::default()
                    })
                    .collect(),
            ),
            deletion_timestamp: finalizer.map(|_| api::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)),
            finalizers: finalizer.map(|f| vec![f.to_owned()]),
            ..ObjectMeta::default()
        }
    }

    /// `+uid:owner,owner!:finalizer` sees, `-uid` removes.
    fn check(events: &[&str], expect: &[&str]) {
        let mut graph = Graph::default();
        let gvr = Gvr::new("", "v1", "things");
        let mut tasks = Vec::new();
        for event in events {
            tasks = match event.strip_prefix('-') {
                Some(uid) => graph.remove(uid),
                None => {
                    let mut parts = event[1..].split(':');
                    let uid = parts.next().unwrap();
                    let owners: Vec<&str> =
                        parts.next().unwrap_or_default().split(',').filter(|o| !o.is_empty()).collect();
                    graph.put(&gvr, &meta(uid, &owners, parts.next()))
                }
            };
        }
        let text: Vec<String> = tasks
            .iter()
            .map(|task| match task {
                Task::Delete(uid) => format!("delete {uid}"),
                Task::Orphan(uid) => format!("orphan {uid}"),
            })
            .collect();
        assert_eq!(text, expect, "{events:?}");
    }

    #[test]
    fn what_events_lead_to() {
        check(&["+a", "+b:a"], &[]);
        check(&["+b:a"], &["delete b"]);
        check(&["+b:a", "+a"], &[]);
        check(&["+a", "+b:a", "+c:b", "-a"], &["delete b"]);
        check(&["+a", "+b:a!", "+a::foregroundDeletion"], &["delete b", "delete a"]);
        check(&["+a", "+b:a!", "+a::foregroundDeletion", "-b"], &["delete a"]);
        check(&["+a", "+b:a!", "+a::foregroundDeletion", "+b:a"], &["delete a"]);
        check(&["+a", "+b:a", "+a::orphan"], &["orphan a"]);
        check(&["+a", "+b:a", "+a::orphan", "+b"], &[]);
        check(&["+a", "+b:a", "+b", "-a"], &[]);
        check(&["+a::foregroundDeletion", "+b:a!"], &["delete b"]);
    }

    #[test]
    fn verdicts() {
        use Standing::*;
        let gone = |policy| Verdict::Delete { policy, unblock: false };
        let check = |finalizer: Option<&str>,
                     owners: &[(&str, Standing)],
                     dependents: &[Option<&str>],
                     expect: Verdict| {
            let owners: Vec<_> =
                owners.iter().map(|(uid, standing)| ((*uid).to_owned(), *standing)).collect();
            let dependents: Vec<_> = dependents
                .iter()
                .map(|f| ("d".to_owned(), Node::new(&Gvr::new("", "v1", "x"), &meta("d", &[], *f))))
                .collect();
            assert_eq!(judge(&meta("x", &[], finalizer), &owners, &dependents), expect);
        };
        check(None, &[], &[], Verdict::Keep);
        check(None, &[("a", Solid)], &[], Verdict::Keep);
        check(
            None,
            &[("a", Solid), ("b", Absent), ("c", Waiting)],
            &[],
            Verdict::Forget(vec!["b".into(), "c".into()]),
        );
        check(None, &[("a", Absent)], &[None], gone("Background"));
        check(None, &[("a", Waiting)], &[], gone("Background"));
        check(None, &[("a", Waiting)], &[None], gone("Foreground"));
        check(
            None,
            &[("a", Waiting)],
            &[Some(FOREGROUND)],
            Verdict::Delete { policy: "Foreground", unblock: true },
        );
        check(Some(ORPHAN), &[("a", Absent)], &[], gone("Orphan"));
    }
}
