//! Mounts: what is mounted where, and mounting, binding, remounting, unmounting.

use crate::{Error, Result};
use nix::mount::{MntFlags, MsFlags};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u32,
    pub parent: u32,
    /// Device numbers, `(major, minor)`.
    pub device: (u32, u32),
    /// The directory of the file system that is visible at `target`; `/` unless it is a bind mount of a part
    /// or a cgroup namespace's view.
    pub root: PathBuf,
    pub target: PathBuf,
    /// Options of this mount: `rw`, `nosuid`, …
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`; empty means private.
    pub propagation: Vec<String>,
    /// `ext4`, `tmpfs`, `cgroup2`, …
    pub fs_type: String,
    pub source: String,
    /// Options of the file system: `size=…`, or the controllers of a cgroup v1 hierarchy.
    pub super_options: Vec<String>,
}

impl Mount {
    pub fn is_shared(&self) -> bool {
        self.propagation.iter().any(|p| p.starts_with("shared:"))
    }
}

/// How mounts made later on one side of a bind appear on the other (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the source to the bind only.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    fn flag(self) -> MsFlags {
        match self {
            Propagation::Private => MsFlags::MS_PRIVATE,
            Propagation::Slave => MsFlags::MS_SLAVE,
            Propagation::Shared => MsFlags::MS_SHARED,
        }
    }
}

/// How to bind; the default is one writable mount without what is mounted below, propagation unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bind {
    pub read_only: bool,
    /// Take along what is mounted below the source.
    pub recursive: bool,
    pub propagation: Option<Propagation>,
}

/// Parses mountinfo text, passing over lines that are no mount lines.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let options = list(fields.next()?);
    let propagation = fields.by_ref().take_while(|f| *f != "-").map(str::to_owned).collect();
    Some(Mount {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        target,
        options,
        propagation,
        fs_type: fields.next()?.to_owned(),
        source: unescape(fields.next()?).to_string_lossy().into_owned(),
        super_options: list(fields.next().unwrap_or_default()),
    })
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The mounts this thread sees (its mount namespace may be its own), in the kernel's order: parents before children.
pub fn list_mounts() -> Result<Vec<Mount>> {
    // Paths are bytes; a lossy reading only garbles mounts whose names are not UTF-8, which we never make.
    let text = fs::read("/proc/thread-self/mountinfo")
        .map_err(|e| Error::new("reading /proc/thread-self/mountinfo", e))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Whether something is mounted exactly at `path`. `false` when the path does not exist.
///
/// Bind mounts within one file system count, which comparing device numbers would miss.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::new(format!("resolving {}", path.display()), e)),
    };
    Ok(list_mounts()?.iter().any(|m| m.target == real))
}

/// The mounts at and below `path`, deepest first: the order in which they can be unmounted.
pub fn mounts_below(path: &Path) -> Result<Vec<PathBuf>> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found: Vec<PathBuf> =
        list_mounts()?.into_iter().map(|m| m.target).filter(|t| t.starts_with(&real)).collect();
    found.reverse();
    Ok(found)
}

/// Mounts a file system: `source` and `data` as mount(8) takes them, `data` being the `-o` text without the
/// flags.
pub fn mount(source: &str, target: &Path, fs_type: &str, flags: MsFlags, data: &str) -> Result<()> {
    nix::mount::mount(Some(source), target, Some(fs_type), flags, Some(data))
        .map_err(|e| Error::new(format!("mounting {fs_type} on {}", target.display()), e))
}

/// Mounts a new tmpfs on an existing directory. `size` in bytes, `None` for the kernel's half of memory;
/// `mode` is the root directory's, such as `0o777`.
pub fn tmpfs(target: &Path, size: Option<u64>, mode: u32) -> Result<()> {
    let mut data = format!("mode={mode:04o}");
    if let Some(size) = size {
        data.push_str(&format!(",size={size}"));
    }
    mount("tmpfs", target, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &data)
}

/// Shows `source` at `target`, which must exist and be of the same sort (both files or both directories).
pub fn bind(source: &Path, target: &Path, how: Bind) -> Result<()> {
    let mut flags = MsFlags::MS_BIND;
    if how.recursive {
        flags |= MsFlags::MS_REC;
    }
    nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|e| Error::new(format!("binding {} to {}", source.display(), target.display()), e))?;
    // The kernel ignores read-only and propagation on the bind itself: each is a second call.
    let rest = (|| {
        if how.read_only {
            remount_read_only(target)?;
        }
        match how.propagation {
            Some(propagation) => set_propagation(target, propagation, how.recursive),
            None => Ok(()),
        }
    })();
    if rest.is_err() {
        // Half a bind would be a writable one: take it back.
        unmount(target)?;
    }
    rest
}

/// Makes the mount at `target` read-only, keeping its other flags.
pub fn remount_read_only(target: &Path) -> Result<()> {
    let doing = || format!("remounting {} read-only", target.display());
    let kept = nix::sys::statvfs::statvfs(target).map_err(|e| Error::new(doing(), e))?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    // In a user namespace flags that came with the source are locked, and leaving them out is EPERM.
    for (has, flag) in [
        (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (nix::sys::statvfs::FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (nix::sys::statvfs::FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if kept.contains(has) {
            flags |= flag;
        }
    }
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|e| Error::new(doing(), e))
}

/// Changes how the mount at `target` propagates, with all below it when `recursive`.
pub fn set_propagation(target: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = propagation.flag();
    if recursive {
        flags |= MsFlags::MS_REC;
    }
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(|e| {
        Error::new(format!("setting the propagation of {} to {propagation:?}", target.display()), e)
    })
}

/// Unmounts the topmost mount at `target`; `EBUSY` while in use. Nothing mounted there is an error (`EINVAL`).
pub fn unmount(target: &Path) -> Result<()> {
    nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|e| Error::new(format!("unmounting {}", target.display()), e))
}

/// Takes the mount at `target` out of sight at once; the kernel drops it when its last user is gone.
pub fn unmount_lazily(target: &Path) -> Result<()> {
    nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
        .map_err(|e| Error::new(format!("detaching {}", target.display()), e))
}

/// Unmounts everything at and below `path`, deepest first, also stacked mounts. Nothing there is success.
pub fn unmount_below(path: &Path) -> Result<()> {
    for target in mounts_below(path)? {
        match unmount(&target) {
            // Propagation may have removed it together with its peer.
            Err(e) if e.errno() == Some(nix::libc::EINVAL) || e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Size and use of the file system at `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub capacity: u64,
    /// Bytes that an ordinary user can still write.
    pub available: u64,
    /// Bytes in use, of the whole file system.
    pub used: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

pub fn usage(path: &Path) -> Result<Usage> {
    let s = nix::sys::statvfs::statvfs(path)
        .map_err(|e| Error::new(format!("reading the file system usage of {}", path.display()), e))?;
    let block = s.fragment_size();
    Ok(Usage {
        capacity: s.blocks() * block,
        available: s.blocks_available() * block,
        used: s.blocks().saturating_sub(s.blocks_free()) * block,
        inodes: s.files(),
        inodes_free: s.files_free(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_mountinfo() {
        let text = "\
36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
nonsense
40 31 0:37 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
";
        let got = parse(text);
        assert_eq!(got.len(), 3);
        assert_eq!(
            got[0],
            Mount {
                id: 36,
                parent: 35,
                device: (98, 0),
                root: "/mnt1".into(),
                target: "/mnt 2".into(),
                options: vec!["rw".into(), "noatime".into()],
                propagation: vec!["shared:1".into(), "master:2".into()],
                fs_type: "ext3".into(),
                source: "/dev/root".into(),
                super_options: vec!["rw".into(), "errors=continue".into()],
            }
        );
        assert!(got[0].is_shared() && !got[1].is_shared());
        assert_eq!(got[2].super_options, ["rw", "cpu", "cpuacct"]);
    }

    #[test]
    fn unescapes_only_octal() {
        for (text, want) in [
            ("/a\\040b\\011", "/a b\t"),
            ("/back\\134slash", "/back\\slash"),
            ("/x\\9", "/x\\9"),
            ("\\", "\\"),
        ] {
            assert_eq!(unescape(text), PathBuf::from(want), "{text}");
        }
    }

    /// Real mounts, in a mount namespace of this thread's own, so that nothing leaks.
    #[test]
    fn tmpfs_bind_and_unmount() {
        if !crate::testing::root_or_skip("mounts") {
            return;
        }
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            set_propagation(Path::new("/"), Propagation::Private, true).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let mounted = |p: &Path| list_mounts().unwrap().into_iter().rfind(|m| m.target == p);
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            fs::create_dir(&a).unwrap();
            fs::create_dir(&b).unwrap();
            tmpfs(&a, Some(1 << 20), 0o777).unwrap();
            fs::write(a.join("f"), "x").unwrap();
            assert_eq!(usage(&a).unwrap().capacity, 1 << 20);
            bind(&a, &b, Bind { read_only: true, recursive: false, propagation: Some(Propagation::Slave) })
                .unwrap();
            assert_eq!(fs::read(b.join("f")).unwrap(), b"x");
            assert_eq!(fs::write(b.join("g"), "x").unwrap_err().raw_os_error(), Some(nix::libc::EROFS));
            assert!(mounted(&b).unwrap().options.contains(&"ro".to_owned()));
            assert!(is_mount_point(&b).unwrap() && !is_mount_point(dir.path()).unwrap());
            assert_eq!(mounts_below(dir.path()).unwrap(), [b.clone(), a.clone()]);
            unmount(&b).unwrap();
            unmount_lazily(&a).unwrap();
            assert_eq!(mounted(&a), None);
            tmpfs(&a, None, 0o755).unwrap();
            tmpfs(&a, None, 0o755).unwrap();
            unmount_below(dir.path()).unwrap();
            assert!(!is_mount_point(&a).unwrap());
            assert_eq!(unmount(&a).unwrap_err().errno(), Some(nix::libc::EINVAL));
        })
        .join()
        .unwrap();
    }
}
