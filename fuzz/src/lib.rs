//! Fuzz targets for every parser that takes bytes from a client, as plain functions.
//!
//! Start at [`TARGETS`]. Two things call them: the fuzzer (`fuzz/libfuzzer`, built by `cargo xtask fuzz` with
//! coverage counters) and `tests/it.rs`, which replays `corpus/` and [`hostile`], the inputs too large to be
//! committed. A target does more than not panic: it holds what must be true of anything that was accepted
//! (what is decoded encodes to the same again, the text of a selector reads as an equal one).
//!
//! Bytes in, nothing out: no network, and but for the store of [`targets::request`] no files.

pub mod hostile;
pub mod targets;

use std::panic::{self, AssertUnwindSafe};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// How many bytes one input may hold at once.
pub const MEMORY: usize = 64 << 20;

/// A parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// As in `cargo xtask fuzz NAME` and `corpus/NAME/`.
    pub name: &'static str,
    /// Panics where an input breaks a promise.
    pub run: fn(&[u8]),
    /// Inputs are longer than this only among [`hostile`]; it keeps the fuzzer quick.
    pub longest: usize,
}

/// All of them.
pub const TARGETS: &[Target] = targets::ALL;

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Runs one input.
    ///
    /// # Panics
    /// If the target does, or if the input held more than [`MEMORY`]. Tables that are made once and stay do not
    /// count: they are there when it is tried again.
    pub fn check(&self, bytes: &[u8]) {
        if peak(self, bytes) > MEMORY {
            let again = peak(self, bytes);
            assert!(again <= MEMORY, "{}: {} bytes of input hold {again} bytes", self.name, bytes.len());
        }
    }

    /// As [`Target::check`], for inputs with a name.
    ///
    /// # Errors
    /// What the panic said.
    pub fn replay(&self, bytes: &[u8]) -> Result<(), String> {
        panic::catch_unwind(AssertUnwindSafe(|| self.check(bytes))).map_err(|cause| {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        })
    }
}

/// The most that was held at once while this input ran.
fn peak(target: &Target, bytes: &[u8]) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    (target.run)(bytes);
    ALLOCATOR.peak_usage().saturating_sub(before)
}
