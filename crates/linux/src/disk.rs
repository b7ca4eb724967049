//! Setting room aside in files.

use std::fs::File;
use std::io;

use nix::fcntl::{FallocateFlags, fallocate};

/// Makes `file` `size` bytes long (never shorter) and sets its room on the disk aside, so that writing within
/// it cannot run out of space on file systems that write in place. A file system that cannot do that only
/// gets the length.
pub fn allocate(file: &File, size: u64) -> io::Result<()> {
    let length = i64::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        Err(nix::Error::EOPNOTSUPP) if file.metadata()?.len() < size => file.set_len(size),
        Err(nix::Error::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_longer_never_shorter() {
        let path = std::env::temp_dir().join(format!("allocate-{}", std::process::id()));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
        let file = file.expect("a file in the temporary directory");
        std::fs::remove_file(&path).expect("removing it");
        for (size, length) in [(100, 100), (5000, 5000), (10, 5000)] {
            allocate(&file, size).expect("room for a few bytes");
            assert_eq!(file.metadata().expect("metadata").len(), length);
        }
    }
}
