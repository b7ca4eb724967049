//! Making and removing volumes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

use api::core::v1::{HostPathVolumeSource, Pod, Volume};
use apimachinery::quantity::Quantity;

use super::payload::Files;
use super::{Sort, atomic};
use crate::pod::spec;

fn io(doing: &str, path: &Path) -> impl Fn(io::Error) -> String {
    let text = format!("{doing} {}", path.display());
    move |e| format!("{text}: {e}")
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = spec::spec(pod).security_context.as_ref().and_then(|c| c.fs_group)?;
    u32::try_from(group).ok()
}

/// Makes one volume ready at `path`; doing it again brings its files up to date and answers whether they
/// changed. `files` for the sorts that are collections of files; `stamp` is new each time.
pub fn setup(
    pod: &Pod,
    volume: &Volume,
    sort: Sort,
    path: &Path,
    files: Option<&Files>,
    stamp: &str,
) -> Result<bool, String> {
    if sort == Sort::HostPath {
        return volume.host_path.as_ref().map_or(Ok(false), |h| host_path(h).map(|()| false));
    }
    let group = fs_group(pod);
    let existed = path.is_dir();
    fs::create_dir_all(path).map_err(io("making", path))?;
    if sort == Sort::EmptyDir {
        let source = volume.empty_dir.clone().unwrap_or_default();
        match source.medium.as_deref().unwrap_or_default() {
            "" => {}
            "Memory" => {
                let limit = source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok());
                let size = limit.map(|q| q.value()).filter(|v| *v > 0).and_then(|v| u64::try_from(v).ok());
                mount_tmpfs(path, size, 0o777)?;
            }
            other => return Err(format!("unknown storage medium {other:?}")),
        }
        if !existed {
            let mode = if group.is_some() { 0o2777 } else { 0o777 };
            chown(path, None, group).map_err(io("changing the owner of", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(io("changing the mode of", path))?;
        }
        return Ok(false);
    }
    // Secrets and tokens never reach a disk.
    if matches!(sort, Sort::Secret | Sort::Projected | Sort::DownwardApi) {
        mount_tmpfs(path, None, 0o777)?;
    }
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(io("changing the owner of", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o2777))
            .map_err(io("changing the mode of", path))?;
    } else if !existed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))
            .map_err(io("changing the mode of", path))?;
    }
    let none = Files::new();
    atomic::write(path, files.unwrap_or(&none), stamp, group).map_err(io("writing the volume", path))
}

fn mount_tmpfs(path: &Path, size: Option<u64>, mode: u32) -> Result<(), String> {
    let text = |e: linux::Error| {
        format!("{e}: {}", std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default())
    };
    if linux::mount::is_mount_point(path).map_err(text)? {
        return Ok(());
    }
    linux::mount::tmpfs(path, size, mode).map_err(text)
}

/// Checks what a hostPath volume says it is, and makes it where it says so.
fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let shown = path.display();
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(path).ok().map(|m| m.file_type());
    let fail = |what: &str| Err(format!("hostPath type check failed: {shown} is not {what}"));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => fs::create_dir_all(path).map_err(io("making", path)),
        "DirectoryOrCreate" | "Directory" => {
            found.filter(|f| f.is_dir()).map_or_else(|| fail("a directory"), |_| Ok(()))
        }
        "FileOrCreate" if found.is_none() => {
            fs::OpenOptions::new().create(true).append(true).open(path).map(drop).map_err(io("making", path))
        }
        "FileOrCreate" | "File" => found.filter(|f| f.is_file()).map_or_else(|| fail("a file"), |_| Ok(())),
        "Socket" => found.filter(|f| f.is_socket()).map_or_else(|| fail("a socket file"), |_| Ok(())),
        "CharDevice" => {
            found.filter(|f| f.is_char_device()).map_or_else(|| fail("a character device"), |_| Ok(()))
        }
        "BlockDevice" => {
            found.filter(|f| f.is_block_device()).map_or_else(|| fail("a block device"), |_| Ok(()))
        }
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// Gives a volume's content to its pod's group again, recursively; for content that others have written.
pub fn own(path: &Path, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let more = if meta.is_dir() { 0o2770 } else { 0o660 };
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & 0o7777 | more))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), group)?;
        }
    }
    Ok(())
}

/// Unmounts what a pod has mounted and removes its directory. Refuses to delete through a mount that will not go.
pub fn teardown(pod_dir: &Path) -> Result<(), String> {
    if !pod_dir.exists() {
        return Ok(());
    }
    let text = |e: linux::Error| {
        format!("{e}: {}", std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default())
    };
    linux::mount::unmount_below(pod_dir).map_err(text)?;
    if !linux::mount::mounts_below(pod_dir).map_err(text)?.is_empty() {
        return Err(format!("{} still has mounts", pod_dir.display()));
    }
    fs::remove_dir_all(pod_dir).map_err(io("removing", pod_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        fs::write(at("file"), "").expect("write");
        for (name, kind, expect) in [
            ("none", "", ""),
            ("file", "File", ""),
            ("file", "Directory", "is not a directory"),
            ("none", "Directory", "is not a directory"),
            ("new/dir", "DirectoryOrCreate", ""),
            ("new/dir", "Directory", ""),
            ("new/file", "FileOrCreate", ""),
            ("file", "Socket", "is not a socket file"),
            ("file", "Odd", "invalid volume type"),
        ] {
            let source = HostPathVolumeSource { path: at(name), type_: Some(kind.into()) };
            let got = host_path(&source).err().unwrap_or_default();
            assert!(
                if expect.is_empty() { got.is_empty() } else { got.contains(expect) },
                "{name} {kind}: {got}"
            );
        }
    }
}
