//! A program of this machine, with what it needs to run, as part of an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Image};

/// The shared libraries and the loader that `program` needs, from `ldd`; none for a static program.
///
/// # Errors
/// When `ldd` is missing or a library is not found.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |detail: String| Error::Libraries { program: program.display().to_string(), detail };
    let output = Command::new("ldd").arg(program).output().map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        return if said.contains("not a dynamic executable") { Ok(Vec::new()) } else { Err(fail(said)) };
    }
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|missing| fail(format!("{missing} is not found")))
}

/// The paths in ldd's output, or the name of a library that it did not find.
fn parse(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some((name, "not found")) = line.split_once(" => ") {
            return Err(name.to_owned());
        }
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

impl Image {
    /// Adds a host program at `to`, and its libraries at the places where it looks for them.
    ///
    /// # Errors
    /// When the program or one of its libraries cannot be read.
    pub fn program(self, from: &Path, to: &str) -> Result<Image, Error> {
        let mut image = self.copy(from, to, 0o755)?;
        for library in libraries(from)? {
            let at = library.display().to_string();
            if !image.has(&at) {
                image = image.copy(&library, &at, 0o755)?;
            }
        }
        Ok(image)
    }

    /// Adds busybox at `/bin/busybox` with a link for every applet, and the accounts that a shell expects.
    ///
    /// # Errors
    /// When busybox cannot be read or run.
    pub fn busybox(self, from: &Path) -> Result<Image, Error> {
        let list = Command::new(from)
            .arg("--list")
            .output()
            .map_err(|source| Error::Read { path: from.display().to_string(), source })?;
        let mut image = self.program(from, "/bin/busybox")?;
        for applet in
            String::from_utf8_lossy(&list.stdout).split_whitespace().filter(|name| *name != "busybox")
        {
            image = image.symlink(&format!("/bin/{applet}"), "busybox");
        }
        Ok(image
            .file(
                "/etc/passwd",
                *b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
                0o644,
            )
            .file("/etc/group", *b"root:x:0:\nnogroup:x:65534:\n", 0o644)
            .directory("/root", 0o700)
            .directory("/tmp", 0o1777)
            .directory("/usr/bin", 0o755)
            .symlink("/usr/bin/env", "../../bin/env"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x0)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x0)\n";
        let paths = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(text), Ok(paths.iter().map(PathBuf::from).collect()));
        assert_eq!(parse("\tlibx.so.1 => not found\n"), Err("libx.so.1".to_owned()));
    }
}
