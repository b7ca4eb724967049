//! The pause image: one program of about two hundred bytes that sleeps and reaps.
//!
//! A sandbox container only has to exist. The program ignores SIGCHLD, which makes the kernel reap orphans when
//! pods share a process namespace; SIGTERM and SIGINT end it; otherwise it sleeps. Written as machine code, so
//! that it needs no C library, and a sleeping pod costs one page of memory.

use crate::{Error, Image};

/// `sigaction(SIGCHLD, SIG_IGN)`, `sigaction(SIGTERM | SIGINT, exit)`, then `pause()` for ever.
const X86_64: &[u8] = &[
    0x48, 0x83, 0xec, 0x20, // sub rsp, 32: room for a kernel sigaction {handler, flags, restorer, mask}
    0x48, 0xc7, 0x04, 0x24, 1, 0, 0, 0, // handler = SIG_IGN
    0x48, 0xc7, 0x44, 0x24, 0x08, 0, 0, 0, 0, // flags = 0
    0x48, 0xc7, 0x44, 0x24, 0x10, 0, 0, 0, 0, // restorer = 0
    0x48, 0xc7, 0x44, 0x24, 0x18, 0, 0, 0, 0, // mask = 0
    0xbf, 17, 0, 0, 0, // edi = SIGCHLD
    0x48, 0x89, 0xe6, // rsi = rsp
    0x31, 0xd2, // edx = 0
    0x41, 0xba, 8, 0, 0, 0, // r10d = sizeof mask
    0xb8, 13, 0, 0, 0, 0x0f, 0x05, // rt_sigaction
    0x48, 0x8d, 0x05, 0x33, 0, 0, 0, // rax = quit
    0x48, 0x89, 0x04, 0x24, // handler = quit
    0x48, 0xc7, 0x44, 0x24, 0x08, 0, 0, 0, 4, // flags = SA_RESTORER, which the kernel insists on
    0x48, 0x89, 0x44, 0x24, 0x10, // restorer = quit
    0xbf, 15, 0, 0, 0, // edi = SIGTERM
    0xb8, 13, 0, 0, 0, 0x0f, 0x05, // rt_sigaction
    0xbf, 2, 0, 0, 0, // edi = SIGINT
    0xb8, 13, 0, 0, 0, 0x0f, 0x05, // rt_sigaction
    0xb8, 34, 0, 0, 0, 0x0f, 0x05, // sleep: pause
    0xeb, 0xf7, // jmp sleep
    0x31, 0xff, // quit: edi = 0
    0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit
];

/// A static ELF executable of one segment around `code`.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(2u16.to_le_bytes()); // ET_EXEC
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((BASE + HEADERS).to_le_bytes()); // entry
    out.extend(64u64.to_le_bytes()); // program headers follow the ELF header
    out.extend(0u64.to_le_bytes()); // no sections
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes()); // PT_LOAD
    out.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        out.extend(word.to_le_bytes());
    }
    out.extend(code);
    out
}

/// The pause program for this machine.
///
/// # Errors
/// On an architecture for which no program is built in.
pub fn program() -> Result<Vec<u8>, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(elf(62, X86_64)),
        other => Err(Error::Architecture(other.to_owned())),
    }
}

/// The pause image under the given reference.
///
/// # Errors
/// As [`program`].
pub fn pause(name: &str) -> Result<Image, Error> {
    Ok(Image::new(name).entrypoint(&["/pause"]).user("65535:65535").file("/pause", program()?, 0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn it_sleeps_until_terminated_and_exits_with_zero() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        // Asleep: the wait channel is reached and no exit is seen.
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        assert!(child.try_wait().unwrap().is_none());
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
