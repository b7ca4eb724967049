//! A directory in memory that can lose what was not synced.
//!
//! Each file has what is durable and, in order, the writes since its last sync. [`SimDisk::crash`] lets any
//! part of those happen: each write whole, not at all, or torn, in any combination, as a disk with a volatile
//! cache does. The same holds for names since the last sync of the directory. Everything follows from one
//! seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Disk, File};
use crate::sync::Mutex;

/// The disk writes whole sectors.
const SECTOR: usize = 512;

/// What a [`SimDisk`] does wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// From the operation with this number on (counted from 0 since the disk was made or crashed), all fail;
    /// that one, if it writes, may have been done in part.
    pub crash_at: Option<u64>,
    /// Syncs answer that all is well and do nothing: what a log without syncs would be like. For showing that
    /// a test notices.
    pub ignore_sync: bool,
    /// The sync with this number (counted from 0 over all files) fails, and what it was to make durable stays
    /// undecided for ever.
    pub fail_sync: Option<u64>,
    /// Room for so many bytes, over all files.
    pub capacity: Option<u64>,
    /// [`File::allocate`] sets nothing aside, so that any write may find the disk full.
    pub sparse: bool,
}

/// Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    faults: Faults,
    operations: u64,
    syncs: u64,
    files: Vec<SimContent>,
    /// Names as a running process sees them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the directory was synced.
    pending: Vec<Names>,
    trace: Vec<String>,
    /// Raised by each crash: files opened before are gone.
    generation: u64,
}

#[derive(Clone)]
enum Names {
    Create(String, usize),
    /// From, to, and which file that was: a name that never was has nothing to do with it.
    Rename(String, String, usize),
    Remove(String),
}

#[derive(Default, Clone)]
struct SimContent {
    /// As a running process sees it.
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// A sync failed: later ones make nothing of what was pending then durable.
    stuck: Vec<Change>,
    /// Bytes that hold data (and not holes) for the disk's capacity.
    used: u64,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty directory on a disk without faults, for as long as none are set.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// The same; what a crash does follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        let state = State {
            random: Random(seed),
            faults: Faults::default(),
            operations: 0,
            syncs: 0,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            trace: Vec::new(),
            generation: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// How many operations there have been since the disk was made or last crashed.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// What has been done, one line for each operation.
    pub fn trace(&self) -> Vec<String> {
        self.state.lock().trace.clone()
    }

    /// Cuts the power: of what was not synced, any part has happened. Faults are gone. Files that are still open
    /// only fail.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        let State { random, files, pending, durable_names, .. } = &mut *state;
        for file in files.iter_mut() {
            let changes: Vec<_> = std::mem::take(&mut file.stuck)
                .into_iter()
                .chain(std::mem::take(&mut file.pending))
                .collect();
            // Once in a while all or none, else each by itself.
            let mode = random.below(4);
            for change in changes {
                match (mode, change) {
                    (0, _) => {}
                    (1, change) => change.apply(&mut file.durable),
                    (_, Change::Size(size)) if random.below(2) == 0 => {
                        Change::Size(size).apply(&mut file.durable);
                    }
                    (_, Change::Size(_)) => {}
                    (_, Change::Write(offset, bytes)) => match random.below(3) {
                        0 => {}
                        1 => write(&mut file.durable, offset, &bytes),
                        _ => tear(random, &mut file.durable, offset, &bytes),
                    },
                }
            }
            file.now = file.durable.clone();
        }
        for change in std::mem::take(pending) {
            if random.below(2) == 0 {
                change.apply(durable_names);
            }
        }
        state.names = state.durable_names.clone();
        state.faults = Faults::default();
        state.operations = 0;
        state.syncs = 0;
        state.generation += 1;
        state.trace.push("crash".into());
    }

    /// Changes one byte of a file where it is durable, as a failing disk does. False when there is no such
    /// byte.
    pub fn corrupt(&self, name: &str, offset: u64, flip: u8) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.names.get(name).copied() else { return false };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(file) = state.files.get_mut(index) else { return false };
        match (file.now.get_mut(at), file.durable.get_mut(at)) {
            (Some(now), Some(durable)) => {
                *now ^= flip;
                *durable ^= flip;
                true
            }
            _ => false,
        }
    }

    /// A disk with the same durable content, to try something on.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let state = self.state.lock();
        let disk = SimDisk::seeded(seed);
        {
            let mut copy = disk.state.lock();
            let files = state.files.iter();
            copy.files = files
                .map(|file| SimContent {
                    now: file.durable.clone(),
                    durable: file.durable.clone(),
                    ..SimContent::default()
                })
                .collect();
            copy.names = state.durable_names.clone();
            copy.durable_names = state.durable_names.clone();
        }
        disk
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write(offset, bytes) => write(content, *offset, bytes),
            Change::Size(size) => content.resize(*size as usize, 0),
        }
    }
}

impl Names {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Names::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Names::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Names::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let at = offset as usize;
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Some sectors of a write have happened; one of them perhaps only up to some byte.
fn tear(random: &mut Random, content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let sector_end = (offset as usize + at) / SECTOR * SECTOR + SECTOR - offset as usize;
        let end = sector_end.min(bytes.len());
        match random.below(8) {
            0..=3 => write(content, offset + at as u64, &bytes[at..end]),
            4 => {
                let cut = at + random.below((end - at) as u64) as usize;
                write(content, offset + at as u64, &bytes[at..cut]);
            }
            _ => {}
        }
        at = end;
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

fn cut_off() -> io::Error {
    io::Error::other("the power has been cut")
}

impl State {
    /// Counts an operation. `Ok(false)`: it is to be done in part, and fails.
    fn operation(&mut self, what: impl FnOnce() -> String) -> io::Result<bool> {
        let number = self.operations;
        self.operations += 1;
        match self.faults.crash_at {
            Some(at) if number > at => Err(cut_off()),
            Some(at) if number == at => Ok(false),
            _ => {
                self.trace.push(what());
                Ok(true)
            }
        }
    }

    fn names(&mut self, change: Names, what: String) -> io::Result<()> {
        let whole = self.operation(|| what)?;
        if whole || self.random.below(2) == 0 {
            change.apply(&mut self.names);
            self.pending.push(change);
        }
        if whole { Ok(()) } else { Err(cut_off()) }
    }

    fn room(&self) -> u64 {
        let used = |index: &usize| self.files.get(*index).map_or(0, |file| file.used);
        let used: u64 = self.names.values().map(used).sum();
        self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }

    fn open(&self, index: usize, state: &Arc<Mutex<State>>) -> Arc<dyn File> {
        Arc::new(SimFile { state: Arc::clone(state), index, generation: self.generation })
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let state = self.state.lock();
        let index = state.names.get(name).copied().ok_or_else(|| missing(name))?;
        Ok(state.open(index, &self.state))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        let index = state.files.len();
        state.files.push(SimContent::default());
        state.names(Names::Create(name.to_owned(), index), format!("create {name}"))?;
        Ok(state.open(index, &self.state))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.names.get(from).copied().ok_or_else(|| missing(from))?;
        state.names(Names::Rename(from.to_owned(), to.to_owned(), file), format!("rename {from} {to}"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.names.get(name).ok_or_else(|| missing(name))?;
        state.names(Names::Remove(name.to_owned()), format!("remove {name}"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.operation(|| "sync directory".into())? {
            return Err(cut_off());
        }
        if !state.faults.ignore_sync {
            let State { pending, durable_names, .. } = &mut *state;
            std::mem::take(pending).iter().for_each(|change| change.apply(durable_names));
        }
        Ok(())
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    index: usize,
    generation: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.generation != self.generation {
            return Err(cut_off());
        }
        act(&mut state, self.index)
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state, index| Ok(state.files[index].now.len() as u64))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|state, index| {
            let content = &state.files[index].now;
            let rest = usize::try_from(offset).ok().and_then(|at| content.get(at..)).unwrap_or_default();
            let len = rest.len().min(into.len());
            into[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, index| {
            let whole =
                state.operation(|| format!("write {index} {offset} {:08x}", crc32fast::hash(bytes)))?;
            let room = state.room();
            let used = state.files[index].used;
            let grows = (offset + bytes.len() as u64).saturating_sub(used);
            let (fits, cut) = match grows > room {
                true => (false, (bytes.len() as u64).saturating_sub(grows - room) as usize),
                false if whole => (true, bytes.len()),
                false => (true, state.random.below(bytes.len() as u64 + 1) as usize),
            };
            let done = &bytes[..cut];
            let file = &mut state.files[index];
            write(&mut file.now, offset, done);
            file.used = used.max(offset + cut as u64);
            file.pending.push(Change::Write(offset, done.to_vec()));
            match (whole, fits) {
                (false, _) => Err(cut_off()),
                (true, false) => Err(io::ErrorKind::StorageFull.into()),
                (true, true) => Ok(()),
            }
        })
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.with(|state, index| {
            let whole = state.operation(|| format!("allocate {index} {size}"))?;
            let grows = size.saturating_sub(state.files[index].used);
            if grows > state.room() && !state.faults.sparse {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let sparse = state.faults.sparse;
            let file = &mut state.files[index];
            if !sparse {
                file.used = file.used.max(size);
            }
            if size > file.now.len() as u64 {
                file.now.resize(size as usize, 0);
                file.pending.push(Change::Size(size));
            }
            if whole { Ok(()) } else { Err(cut_off()) }
        })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.with(|state, index| {
            let whole = state.operation(|| format!("truncate {index} {size}"))?;
            let file = &mut state.files[index];
            file.now.resize(size as usize, 0);
            file.used = file.used.min(size);
            file.pending.push(Change::Size(size));
            if whole { Ok(()) } else { Err(cut_off()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, index| {
            if !state.operation(|| format!("sync {index}"))? {
                return Err(cut_off());
            }
            let number = state.syncs;
            state.syncs += 1;
            let (fails, ignored) = (state.faults.fail_sync == Some(number), state.faults.ignore_sync);
            let file = &mut state.files[index];
            if fails {
                // As Linux does: the pages count as clean from now on, so no later sync writes them.
                let lost = std::mem::take(&mut file.pending);
                file.stuck.extend(lost);
                return Err(io::Error::other("input/output error"));
            }
            if !ignored {
                let SimContent { pending, durable, .. } = file;
                std::mem::take(pending).iter().for_each(|change| change.apply(durable));
            }
            Ok(())
        })
    }
}
