//! Kernel settings below `/proc/sys`. Those under `net/` belong to the calling thread's network namespace.

use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// `name` with slashes, because interface names may contain dots: `net/ipv4/conf/eth0.1/forwarding`.
fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.trim_start_matches('/'))
}

/// The value without its newline.
pub fn read(name: &str) -> Result<String> {
    fs::read_to_string(path(name))
        .map(|text| text.trim_end().to_owned())
        .map_err(|e| Error::new(format!("reading the kernel setting {name}"), e))
}

/// Sets `name` unless it already has the value; `true` when it changed.
pub fn ensure(name: &str, value: &str) -> Result<bool> {
    if read(name)? == value {
        return Ok(false);
    }
    fs::write(path(name), value)
        .map(|()| true)
        .map_err(|e| Error::new(format!("setting the kernel setting {name} to {value}"), e))
}

/// Whether this kernel has the setting at all.
pub fn exists(name: &str) -> bool {
    path(name).exists()
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_of_a_namespace() {
        assert!(super::exists("kernel/hostname") && !super::exists("kernel/nonsense"));
        if !crate::testing::root_or_skip("sysctl") {
            return;
        }
        let namespace = crate::netns::Namespace::new().unwrap();
        namespace
            .run(|| {
                let (one, zero) = ("1", "0");
                super::ensure("net/ipv4/ip_forward", zero).unwrap();
                assert!(super::ensure("net/ipv4/ip_forward", one).unwrap());
                assert!(!super::ensure("net/ipv4/ip_forward", one).unwrap());
                assert_eq!(super::read("net/ipv4/ip_forward").unwrap(), one);
            })
            .unwrap();
    }
}
