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
    /// If the target does, or if more than [`MEMORY`] was held. Of large inputs only what [`bounded`] runs counts:
    /// the parser, and not what compares its results.
    pub fn check(&self, bytes: &[u8]) {
        match is_large(bytes) {
            true => (self.run)(bytes),
            false => bounded(|| (self.run)(bytes)),
        }
    }

    /// As [`Target::check`], for tests that go on.
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

/// Whether an input is so large that it is only parsed, and what comes of it not looked at any further.
pub fn is_large(bytes: &[u8]) -> bool {
    bytes.len() > 64 << 10
}

/// What this makes.
///
/// # Panics
/// If it holds more than [`MEMORY`] on the way. Tables that are made once and stay do not count: they are there
/// when it is tried again.
pub fn bounded<T>(mut make: impl FnMut() -> T) -> T {
    let (made, held) = measured(&mut make);
    if held <= MEMORY {
        return made;
    }
    drop(made);
    let (made, held) = measured(&mut make);
    assert!(held <= MEMORY, "holds {held} bytes");
    made
}

/// With the most that was held at once while it was made.
fn measured<T>(make: &mut impl FnMut() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let made = make();
    (made, ALLOCATOR.peak_usage().saturating_sub(before))
}
