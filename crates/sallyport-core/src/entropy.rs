//! Where shells get randomness from, so that tests choose it.
//!
//! INVARIANT: nothing in this crate draws randomness; ids take [`IdEntropy`](crate::id::IdEntropy) as
//! an argument. The system's source is `sallyport_vault::SystemEntropy`.

use std::fmt;

/// A source of randomness fit for keys. The system's in production, a seeded one in tests.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Overwrites all of `destination` with random bytes. Cannot fail: a source that has no
    /// randomness to give must end the process, because keys made without it protect nothing.
    fn fill(&self, destination: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// Draws `N` random bytes, such as the ten of an id. For secrets, fill a buffer that is wiped.
    #[must_use]
    pub fn draw<const N: usize>(&self) -> [u8; N] {
        let mut drawn = [0; N];
        self.fill(&mut drawn);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Constant(u8);

    impl Entropy for Constant {
        fn fill(&self, destination: &mut [u8]) {
            destination.fill(self.0);
        }
    }

    #[test]
    fn drawing_fills_exactly_what_is_asked_for() {
        let entropy: &dyn Entropy = &Constant(7);
        assert_eq!(entropy.draw::<10>(), [7; 10]);
        assert_eq!(entropy.draw::<0>(), [0; 0]);
    }
}
