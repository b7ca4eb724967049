//! What this machine is: names, identifiers, sizes.

use crate::{Error, Result};
use std::fs;

/// Names of the kernel, from uname(2) and `/etc/os-release`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `Linux`.
    pub kernel: String,
    /// `6.1.0-40-amd64`.
    pub release: String,
    /// The kernel's name of the processor family: `x86_64`, `aarch64`.
    pub machine: String,
    /// `Debian GNU/Linux 12 (bookworm)`; `Linux` when the system does not say.
    pub os_image: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub total: u64,
    /// Bytes that can be had without swapping.
    pub available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

pub fn system() -> Result<System> {
    let name = nix::sys::utsname::uname().map_err(|e| Error::new("asking for the kernel's name", e))?;
    let os_release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|f| fs::read_to_string(f).ok());
    Ok(System {
        kernel: name.sysname().to_string_lossy().into_owned(),
        release: name.release().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        os_image: os_release.as_deref().and_then(pretty_name).unwrap_or_else(|| "Linux".to_owned()),
    })
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// The host name as set, without a domain added.
pub fn hostname() -> Result<String> {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .map_err(|e| Error::new("asking for the host name", e))
}

/// A UUID that is new at every boot.
pub fn boot_id() -> Result<String> {
    line("/proc/sys/kernel/random/boot_id")
}

/// 32 hexadecimal digits that stay; empty on a system without one.
pub fn machine_id() -> Result<String> {
    for file in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        match line(file) {
            Ok(id) if !id.is_empty() => return Ok(id),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(String::new())
}

/// The firmware's UUID; the machine id where the firmware has none to show.
pub fn system_uuid() -> Result<String> {
    match line("/sys/class/dmi/id/product_uuid") {
        Ok(uuid) if !uuid.is_empty() => Ok(uuid),
        _ => machine_id(),
    }
}

fn line(file: &str) -> Result<String> {
    fs::read_to_string(file)
        .map(|text| text.trim().to_owned())
        .map_err(|e| Error::new(format!("reading {file}"), e))
}

pub fn memory() -> Result<Memory> {
    Ok(parse_meminfo(&line("/proc/meminfo")?))
}

fn parse_meminfo(text: &str) -> Memory {
    let bytes = |key: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
            .and_then(|v| v.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    Memory {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        swap_total: bytes("SwapTotal"),
        swap_free: bytes("SwapFree"),
    }
}

/// Processors that are switched on, whatever this process may use of them.
pub fn cpu_count() -> usize {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1)
}

/// Seconds since boot, suspended time included.
pub fn uptime() -> Result<f64> {
    let text = line("/proc/uptime")?;
    Ok(text.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let text =
            "MemTotal:       24682420 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\nSwapTotal: 8 kB\n";
        let want =
            Memory { total: 24_682_420 * 1024, available: 20_000_000 * 1024, swap_total: 8192, swap_free: 0 };
        assert_eq!(parse_meminfo(text), want);
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"A B\"\n").as_deref(), Some("A B"));
        assert_eq!(pretty_name("ID=x\n"), None);
    }

    #[test]
    fn this_machine() {
        assert_eq!(system().unwrap().kernel, "Linux");
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(memory().unwrap().total > memory().unwrap().available);
        assert!(cpu_count() >= 1 && uptime().unwrap() > 0.0 && !hostname().unwrap().is_empty());
        assert!(machine_id().is_ok() && system_uuid().is_ok());
    }
}
