//! The fuzzer around the targets. Which one is in the environment, so that all share one build.

#![no_main]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name}: there is no such target"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.check(bytes));
