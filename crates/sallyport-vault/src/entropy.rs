//! Randomness from the system, for keys and ids. The only place in the project that draws it.

use sallyport_core::entropy::Entropy;

/// The system's source of randomness, through aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, destination: &mut [u8]) {
        if aws_lc_rs::rand::fill(destination).is_err() {
            // Keys and ids that an attacker can guess are worse than an outage, and no caller
            // could do anything else: aws-lc itself aborts when the system's source fails.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let entropy: &dyn Entropy = &SystemEntropy;
        assert_ne!(entropy.draw::<32>(), entropy.draw::<32>());
    }
}
