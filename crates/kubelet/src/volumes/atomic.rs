//! Files that change all at once: they lie in a directory with the time in its name, `..data` is a symbolic link
//! to that directory, and the visible names are links through `..data`. A new set of files is made beside the
//! old one, and one rename makes it the current one. The layout is upstream's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::payload::Files;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Brings `dir` to hold `files`, and answers whether anything changed. `stamp` names the new directory; it must
/// be new each time. With `group` everything belongs to that group and it may read.
pub fn write(dir: &Path, files: &Files, stamp: &str, group: Option<u32>) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && same(&dir.join(current), files, group)
    {
        return Ok(false);
    }
    let fresh = PathBuf::from(format!("..{stamp}"));
    let base = dir.join(&fresh);
    fs::create_dir(&base)?;
    set(&base, 0o755, None, group)?;
    for (path, file) in files {
        let mut parent = base.clone();
        if let Some(above) = Path::new(path).parent() {
            for part in above.components() {
                parent.push(part);
                if !parent.exists() {
                    fs::create_dir(&parent)?;
                    set(&parent, 0o755, None, group)?;
                }
            }
        }
        let at = base.join(path);
        fs::write(&at, &file.data)?;
        set(&at, file.mode, file.uid, group)?;
    }
    let _ = fs::remove_file(dir.join(DATA_NEW));
    symlink(&fresh, dir.join(DATA_NEW))?;
    fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;

    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let visible: BTreeSet<String> = files.keys().map(first).collect();
    for name in &visible {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == DATA || Path::new(&name) == fresh || visible.contains(&name) {
            continue;
        }
        // Former files, and former directories with a time.
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(true)
}

fn check(path: &str) -> io::Result<()> {
    let parts_fine = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !parts_fine || path.starts_with("..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid path {path:?} in a volume"),
        ));
    }
    Ok(())
}

fn mode_for(mode: u32, is_dir: bool, group: Option<u32>) -> u32 {
    match (group, is_dir) {
        (None, _) => mode,
        (Some(_), false) => mode | 0o440,
        (Some(_), true) => mode | 0o2550,
    }
}

fn set(path: &Path, mode: u32, uid: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if uid.is_some() || group.is_some() {
        chown(path, uid, group)?;
    }
    // Last, since a change of owner clears bits.
    fs::set_permissions(path, fs::Permissions::from_mode(mode_for(mode, path.is_dir(), group)))
}

fn same(base: &Path, files: &Files, group: Option<u32>) -> bool {
    let mut present = BTreeSet::new();
    if collect(base, "", &mut present).is_err() {
        return false;
    }
    let wanted: BTreeSet<String> = files.keys().cloned().collect();
    present == wanted
        && files.iter().all(|(path, file)| {
            let at = base.join(path);
            let meta = fs::metadata(&at);
            fs::read(&at).is_ok_and(|data| data == file.data)
                && meta.is_ok_and(|m| m.mode() & 0o7777 == mode_for(file.mode, false, group))
        })
}

fn collect(dir: &Path, prefix: &str, out: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), out)?;
        } else {
            out.insert(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.into(), mode: 0o640, uid: None };
        list.iter().map(|(k, v)| ((*k).to_owned(), file(v))).collect()
    }

    #[test]
    fn a_set_of_files_replaces_the_former_one() {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path();
        assert!(write(dir, &files(&[("a", "1"), ("d/x", "2")]), "t1", None).expect("write"));
        assert!(
            !write(dir, &files(&[("a", "1"), ("d/x", "2")]), "t2", None).expect("write"),
            "nothing changed"
        );
        assert_eq!(fs::read_to_string(dir.join("d/x")).expect("read"), "2");
        assert_eq!(fs::metadata(dir.join("a")).expect("meta").mode() & 0o777, 0o640);
        assert!(write(dir, &files(&[("a", "3"), ("b", "4")]), "t3", None).expect("write"));
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["..data", "..t3", "a", "b"]);
        assert_eq!(fs::read_to_string(dir.join("a")).expect("read"), "3");
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().expect("tempdir");
        for path in ["../x", "/x", "a/../x", "", "..x"] {
            assert!(write(dir.path(), &files(&[(path, "1")]), "t", None).is_err(), "{path}");
        }
    }
}
