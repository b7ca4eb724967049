//! Part of a volume as a mount of its own. The volume's content is its users': a link in it must not lead out.
//!
//! The part is opened step by step without following links, and what was opened is bound to a place that only
//! the kubelet writes to, so that nothing changes between the check and the use.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// Makes `part` of `volume` available at `target` and answers with `target`. A missing part becomes a directory
/// with the volume's own mode. Errors do not tell what the node's file system looks like.
pub fn prepare(volume: &Path, part: &str, target: &Path) -> Result<PathBuf, String> {
    let inside = Path::new(part).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if Path::new(part).is_absolute() {
        return Err(format!("error SubPath `{part}` must not be an absolute path"));
    }
    if !inside {
        return Err(format!("unable to provision SubPath `{part}`: must not contain '..'"));
    }
    let hidden = |_: std::io::Error| "failed to prepare subPath".to_owned();
    let root = fs::canonicalize(volume).map_err(hidden)?;
    let wanted = root.join(part);
    if fs::symlink_metadata(&wanted).is_err() {
        make(&root, part).map_err(|_| "failed to create subPath directory".to_owned())?;
    }
    let real = fs::canonicalize(&wanted).map_err(hidden)?;
    let within = real.strip_prefix(&root).map_err(|_| "failed to prepare subPath".to_owned())?;
    let fd = open_within(&root, within).map_err(|e| hidden(e.into()))?;
    if linux::mount::is_mount_point(target).unwrap_or(false) {
        return Ok(target.to_owned());
    }
    if let Some(above) = target.parent() {
        fs::create_dir_all(above).map_err(hidden)?;
    }
    if real.is_dir() {
        fs::create_dir_all(target).map_err(hidden)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target).map_err(hidden)?;
    }
    let opened = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    linux::mount::bind(&opened, target, linux::mount::Bind::default())
        .map_err(|_| "failed to prepare subPath".to_owned())?;
    Ok(target.to_owned())
}

fn open_within(root: &Path, within: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut fd = open(root, flags, Mode::empty())?;
    for part in within.components() {
        fd = openat(&fd, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(fd)
}

/// Makes the missing directories below an existing, real parent.
fn make(root: &Path, part: &str) -> std::io::Result<()> {
    let mode = fs::metadata(root)?.permissions().mode() & 0o7777;
    let mut at = root.to_owned();
    for component in Path::new(part).components() {
        at.push(component);
        if fs::symlink_metadata(&at).is_err() {
            let parent = fs::canonicalize(at.parent().unwrap_or(root))?;
            if !parent.starts_with(root) {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            fs::create_dir(&at)?;
            fs::set_permissions(&at, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).expect("dir");
        std::os::unix::fs::symlink("/etc", volume.join("out")).expect("link");
        for part in ["../x", "/etc", "out", "out/passwd", "out/new"] {
            let error = prepare(&volume, part, &dir.path().join("target")).expect_err(part);
            assert!(!error.contains("/etc/"), "{error}");
        }
        assert!(!Path::new("/etc/new").exists());
    }
}
