//! The real clock and the real source of randomness.

use apimachinery::clock::{Clock, Entropy};
use ring::rand::{SecureRandom, SystemRandom};

/// The wall clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// The kernel's cryptographically secure generator.
#[derive(Clone, Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    pub fn new() -> Self {
        SystemEntropy(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the kernel has no randomness to give, which Linux rules out once it has booted. Going on with
    /// predictable bytes would be worse: they become keys.
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the kernel refused getrandom");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_fills_the_whole_buffer() {
        let (mut a, mut b) = ([0u8; 64], [0u8; 64]);
        SystemEntropy::new().fill(&mut a);
        SystemEntropy::new().fill(&mut b);
        assert_ne!(a, b);
        assert_ne!(a[32..], [0; 32]);
    }
}
