//! Control groups through the file system (the "cgroupfs driver"), versions 1 and 2.
//!
//! A group is named by a path below the hierarchy's root, such as `kubepods/burstable/pod1234`; in version 1
//! that is one directory per controller, in version 2 a single one. [`Cgroups::plan`] says which directories
//! and files a group with its limits takes, without touching any; [`Cgroups::create`] carries it out.
//!
//! Version 1 next to a version 2 hierarchy without controllers ("hybrid", usually at
//! `/sys/fs/cgroup/unified`) is treated as version 1; the extra hierarchy gets the directories too, because
//! container runtimes use it for bookkeeping.

use crate::mount::{self, Mount};
use crate::{Error, Result};
use nix::sys::signal::{Signal, kill};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Limits of a group. `None` leaves the kernel's value alone; `-1` (or `Some(-1)`) means unlimited where the
/// type allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight in version 1's unit: 1024 for one core; 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time per period, `-1` for no limit.
    pub cpu_quota_us: Option<i64>,
    /// Microseconds, 1,000 to 1,000,000; 100,000 when a quota is given without it.
    pub cpu_period_us: Option<u64>,
    /// Bytes, `-1` for no limit.
    pub memory_limit: Option<i64>,
    /// Number of tasks, `-1` for no limit.
    pub pids_limit: Option<i64>,
    /// Per page size as the kernel spells it (`2MB`): bytes.
    pub hugepages: [Option<(HugePage, u64)>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePage {
    Size2M,
    Size1G,
}

impl HugePage {
    fn kernel_name(self) -> &'static str {
        match self {
            HugePage::Size2M => "2MB",
            HugePage::Size1G => "1GB",
        }
    }
}

/// What a group takes, in the order of doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub directories: Vec<PathBuf>,
    pub writes: Vec<(PathBuf, String)>,
}

/// What a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time since the group was made, nanoseconds.
    pub cpu_ns: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    /// `memory_usage` without inactive file pages: what cannot be reclaimed at once.
    pub memory_working_set: u64,
    /// Anonymous memory in bytes.
    pub memory_rss: u64,
    pub memory_limit: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub pids: u64,
    /// Processes that the kernel killed here for want of memory.
    pub oom_kills: u64,
}

/// The hierarchies of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    version: Version,
    /// Version 1: controller (or `name=systemd`, or `unified`) to mount; a hierarchy with two controllers
    /// occurs twice. Version 2: the one entry `unified`.
    roots: BTreeMap<String, PathBuf>,
}

const UNIFIED: &str = "unified";
const DEFAULT_PERIOD_US: u64 = 100_000;

impl Cgroups {
    /// Finds the hierarchies in this process's mount table. An error when none is mounted.
    pub fn discover() -> Result<Self> {
        Self::from_mounts(&mount::list_mounts()?).ok_or_else(|| {
            Error::new(
                "looking for control groups",
                io::Error::new(io::ErrorKind::NotFound, "no cgroup or cgroup2 file system is mounted"),
            )
        })
    }

    /// `None` when the table has no cgroup mount.
    pub fn from_mounts(mounts: &[Mount]) -> Option<Self> {
        let mut roots = BTreeMap::new();
        for m in mounts.iter().filter(|m| m.fs_type == "cgroup") {
            for option in m.super_options.iter().filter(|o| is_controller(o)) {
                roots.entry(option.clone()).or_insert_with(|| m.target.clone());
            }
        }
        let version = if roots.is_empty() { Version::V2 } else { Version::V1 };
        if let Some(m) = mounts.iter().find(|m| m.fs_type == "cgroup2") {
            roots.insert(UNIFIED.to_owned(), m.target.clone());
        }
        (!roots.is_empty()).then_some(Cgroups { version, roots })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers that limits can be set for, sorted.
    pub fn controllers(&self) -> Result<Vec<String>> {
        match self.version {
            Version::V1 => {
                Ok(self.roots.keys().filter(|k| !k.contains('=') && *k != UNIFIED).cloned().collect())
            }
            Version::V2 => {
                let text = read(&self.root(UNIFIED)?.join("cgroup.controllers"))?;
                let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                names.sort();
                Ok(names)
            }
        }
    }

    /// The directory of `group` for a controller: version 2 has one for all.
    pub fn directory(&self, controller: &str, group: &str) -> Result<PathBuf> {
        Ok(below(self.root(controller)?, group))
    }

    fn root(&self, controller: &str) -> Result<&Path> {
        let key = if self.version == Version::V2 { UNIFIED } else { controller };
        self.roots.get(key).map(PathBuf::as_path).ok_or_else(|| {
            Error::new(
                format!("looking for the cgroup controller {controller}"),
                io::Error::new(io::ErrorKind::Unsupported, "the kernel has no such controller mounted"),
            )
        })
    }

    /// Every directory of `group`, without repetition.
    fn directories(&self, group: &str) -> BTreeSet<PathBuf> {
        self.roots.values().map(|root| below(root, group)).collect()
    }

    /// What it takes to make `group` and to give it `resources`. Pure. A limit whose controller this machine
    /// does not have is left out; [`Cgroups::controllers`] tells.
    pub fn plan(&self, group: &str, resources: &Resources) -> Plan {
        let writes = match self.version {
            Version::V1 => v1_writes(resources),
            Version::V2 => v2_writes(resources),
        };
        Plan {
            directories: self.directories(group).into_iter().collect(),
            writes: writes
                .into_iter()
                .filter_map(|w| Some((self.directory(w.controller, group).ok()?.join(w.file), w.value)))
                .collect(),
        }
    }

    /// Makes `group` with its parents where missing, and sets its limits. Doing it again changes nothing.
    pub fn create(&self, group: &str, resources: &Resources) -> Result<()> {
        for root in self.roots.values() {
            let mut dir = root.clone();
            for part in group.split('/').filter(|p| !p.is_empty()) {
                if self.version == Version::V2 {
                    enable_controllers(&dir)?;
                }
                let parent = dir.clone();
                dir.push(part);
                match fs::create_dir(&dir) {
                    Ok(()) => inherit_cpuset(&parent, &dir)?,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(Error::new(format!("making the cgroup {}", dir.display()), e)),
                }
            }
        }
        self.set(group, resources)
    }

    /// Sets limits of an existing group.
    pub fn set(&self, group: &str, resources: &Resources) -> Result<()> {
        for (file, value) in self.plan(group, resources).writes {
            write(&file, &value)?;
        }
        Ok(())
    }

    /// Whether `group` exists in every hierarchy that has limits.
    pub fn exists(&self, group: &str) -> bool {
        let needed = ["cpu", "memory", "pids", UNIFIED];
        self.roots
            .iter()
            .filter(|(name, _)| needed.contains(&name.as_str()))
            .filter(|(name, _)| self.version == Version::V2 || *name != UNIFIED)
            .all(|(_, root)| below(root, group).is_dir())
    }

    /// The names of the groups directly below `group`, sorted; of any hierarchy.
    pub fn children(&self, group: &str) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for dir in self.directories(group) {
            for child in subdirectories(&dir)? {
                if let Some(name) = child.file_name() {
                    names.insert(name.to_string_lossy().into_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Removes `group` and all groups below it. A group that is not there is success; one that has processes
    /// is an error (`EBUSY`): [`Cgroups::kill`] first.
    pub fn remove(&self, group: &str) -> Result<()> {
        self.directories(group).iter().try_for_each(|dir| remove_tree(dir))
    }

    /// The processes in `group` and below, in any hierarchy. A group that is not there has none.
    pub fn pids(&self, group: &str) -> Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for dir in self.directories(group) {
            collect_pids(&dir, &mut pids)?;
        }
        Ok(pids)
    }

    /// Puts a process into `group`.
    pub fn add(&self, group: &str, pid: i32) -> Result<()> {
        for dir in self.directories(group) {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Sends SIGKILL to every process in `group` and below, and returns how many there were. They may take a
    /// moment to go: call again until it says 0.
    pub fn kill(&self, group: &str) -> Result<usize> {
        let pids = self.pids(group)?;
        for &pid in &pids {
            match kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(e) => return Err(Error::new(format!("killing process {pid} of the cgroup {group}"), e)),
            }
        }
        Ok(pids.len())
    }

    /// Stops all processes of `group` where they are. Returns at once; freezing ends shortly after.
    pub fn freeze(&self, group: &str) -> Result<()> {
        self.set_frozen(group, true)
    }

    pub fn thaw(&self, group: &str) -> Result<()> {
        self.set_frozen(group, false)
    }

    fn set_frozen(&self, group: &str, frozen: bool) -> Result<()> {
        let dir = self.directory("freezer", group)?;
        match self.version {
            Version::V1 => write(&dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
            Version::V2 => write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
        }
    }

    /// What `group` and the groups below it use. Controllers that are missing leave zeros.
    pub fn stats(&self, group: &str) -> Result<Stats> {
        let file = |controller: &str, name: &str| -> Result<Option<String>> {
            let Ok(dir) = self.directory(controller, group) else { return Ok(None) };
            match fs::read_to_string(dir.join(name)) {
                Ok(text) => Ok(Some(text)),
                // A controller may be off, and version 2's root has no limits; but the group must be there.
                Err(e) if e.kind() == io::ErrorKind::NotFound && dir.is_dir() => Ok(None),
                Err(e) => Err(Error::new(format!("reading {}", dir.join(name).display()), e)),
            }
        };
        let single = |controller: &str, name: &str| -> Result<u64> {
            Ok(file(controller, name)?.and_then(|t| t.trim().parse().ok()).unwrap_or(0))
        };
        let mut stats = Stats { pids: single("pids", "pids.current")?, ..Stats::default() };
        let memory = file("memory", "memory.stat")?.unwrap_or_default();
        let (inactive, rss, faults, major, limit) = match self.version {
            Version::V1 => {
                stats.cpu_ns = single("cpuacct", "cpuacct.usage")?;
                stats.memory_usage = single("memory", "memory.usage_in_bytes")?;
                let oom = file("memory", "memory.oom_control")?.unwrap_or_default();
                stats.oom_kills = keyed(&oom, "oom_kill");
                (
                    "total_inactive_file",
                    "total_rss",
                    "total_pgfault",
                    "total_pgmajfault",
                    file("memory", "memory.limit_in_bytes")?,
                )
            }
            Version::V2 => {
                let cpu = file("cpu", "cpu.stat")?.unwrap_or_default();
                stats.cpu_ns = keyed(&cpu, "usage_usec") * 1_000;
                stats.memory_usage = single("memory", "memory.current")?;
                let events = file("memory", "memory.events")?.unwrap_or_default();
                stats.oom_kills = keyed(&events, "oom_kill");
                ("inactive_file", "anon", "pgfault", "pgmajfault", file("memory", "memory.max")?)
            }
        };
        stats.memory_working_set = stats.memory_usage.saturating_sub(keyed(&memory, inactive));
        stats.memory_rss = keyed(&memory, rss);
        stats.page_faults = keyed(&memory, faults);
        stats.major_page_faults = keyed(&memory, major);
        // Version 1 writes "unlimited" as the largest page-aligned number, version 2 as "max".
        stats.memory_limit =
            limit.and_then(|t| t.trim().parse().ok()).filter(|&bytes: &u64| bytes < i64::MAX as u64 / 2);
        Ok(stats)
    }
}

/// One file of a group. `controller` picks the hierarchy in version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    controller: &'static str,
    file: String,
    value: String,
}

fn v1_writes(r: &Resources) -> Vec<Write> {
    let mut out = Writes::default();
    out.put("cpu", "cpu.shares", r.cpu_shares.map(|s| s.clamp(2, 262_144).to_string()));
    out.put("cpu", "cpu.cfs_period_us", r.cpu_period_us.map(|p| p.to_string()));
    out.put(
        "cpu",
        "cpu.cfs_quota_us",
        r.cpu_quota_us.map(|q| if q <= 0 { "-1".into() } else { q.to_string() }),
    );
    out.put("memory", "memory.limit_in_bytes", r.memory_limit.map(|m| m.max(-1).to_string()));
    out.put("pids", "pids.max", r.pids_limit.map(limit_or_max));
    for (size, bytes) in r.hugepages.iter().flatten() {
        out.put(
            "hugetlb",
            &format!("hugetlb.{}.limit_in_bytes", size.kernel_name()),
            Some(bytes.to_string()),
        );
    }
    out.0
}

fn v2_writes(r: &Resources) -> Vec<Write> {
    let mut out = Writes::default();
    out.put("cpu", "cpu.weight", r.cpu_shares.map(|s| weight_of_shares(s).to_string()));
    let period = r.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US);
    let max = match r.cpu_quota_us {
        Some(quota) if quota > 0 => Some(format!("{quota} {period}")),
        Some(_) => Some(format!("max {period}")),
        None => None,
    };
    out.put("cpu", "cpu.max", max);
    out.put("memory", "memory.max", r.memory_limit.map(limit_or_max));
    out.put("pids", "pids.max", r.pids_limit.map(limit_or_max));
    for (size, bytes) in r.hugepages.iter().flatten() {
        out.put("hugetlb", &format!("hugetlb.{}.max", size.kernel_name()), Some(bytes.to_string()));
    }
    out.0
}

#[derive(Default)]
struct Writes(Vec<Write>);

impl Writes {
    fn put(&mut self, controller: &'static str, file: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.push(Write { controller, file: file.to_owned(), value });
        }
    }
}

fn limit_or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// Version 2's weight (1 to 10,000) for version 1's shares (2 to 262,144), on a straight line between the
/// ends as the KEP for cgroup v2 (sig-node 2254) lays it down.
pub fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn is_controller(option: &str) -> bool {
    option.starts_with("name=")
        || matches!(
            option,
            "blkio"
                | "cpu"
                | "cpuacct"
                | "cpuset"
                | "devices"
                | "freezer"
                | "hugetlb"
                | "memory"
                | "misc"
                | "net_cls"
                | "net_prio"
                | "perf_event"
                | "pids"
                | "rdma"
        )
}

/// `root` and `group`'s parts; `..` and the like cannot lead out of the root.
fn below(root: &Path, group: &str) -> PathBuf {
    let mut dir = root.to_owned();
    dir.extend(group.split('/').filter(|p| !matches!(*p, "" | "." | "..")));
    dir
}

/// A new version 1 cpuset has no processors and refuses every process until it gets some.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = dir.join(name);
        // Version 2 has the files too, but there an empty one means the parent's.
        if !dir.join("cpuset.cpu_exclusive").exists() {
            return Ok(());
        }
        if read(&file)?.trim().is_empty() {
            write(&file, read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Lets the children of a version 2 group have every controller that the group itself has.
fn enable_controllers(dir: &Path) -> Result<()> {
    let have = read(&dir.join("cgroup.controllers"))?;
    let on = read(&dir.join("cgroup.subtree_control"))?;
    let on: Vec<&str> = on.split_whitespace().collect();
    for controller in have.split_whitespace().filter(|c| !on.contains(c)) {
        if let Err(error) = write(&dir.join("cgroup.subtree_control"), &format!("+{controller}")) {
            // One controller may be refused (cpu while real-time tasks run) without harm to the others.
            tracing::debug!(%error, controller, "a cgroup controller could not be enabled");
        }
    }
    Ok(())
}

fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(k, _)| *k == key)
        .and_then(|(_, v)| v.trim().parse().ok())
        .unwrap_or(0)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|e| Error::new(format!("reading {}", file.display()), e))
}

fn write(file: &Path, value: &str) -> Result<()> {
    // The kernel's files must not be created or truncated: a wrong name has to fail.
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()))
        .map_err(|e| Error::new(format!("writing {value:?} to {}", file.display()), e))
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::new(format!("listing {}", dir.display()), e)),
    };
    Ok(entries
        .filter_map(|e| e.ok())
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect())
}

fn remove_tree(dir: &Path) -> Result<()> {
    for child in subdirectories(dir)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::new(format!("removing the cgroup {}", dir.display()), e)),
    }
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()).filter(|p| *p > 0)),
        // Gone meanwhile, or (ENODEV) being removed.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ENODEV) => {
            return Ok(());
        }
        Err(e) => return Err(Error::new(format!("listing the processes of {}", dir.display()), e)),
    }
    subdirectories(dir)?.iter().try_for_each(|child| collect_pids(child, pids))
}

#[cfg(test)]
mod tests;
