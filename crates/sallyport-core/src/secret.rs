//! Values that must never be printed, serialised, cloned by accident or left in memory.
//!
//! INVARIANT: `Secret` has no `Debug`, `Display`, `Serialize` or `Clone`; reading it is spelled
//! `expose_secret`, so every use can be found by searching for that word.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret value, wiped from memory when dropped.
#[allow(
    missing_debug_implementations,
    reason = "a secret must not be printable, not even by mistake"
)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a secret value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Lends the secret. Keep the borrow short and never copy it into a type that can be printed.
    pub const fn expose_secret(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for Secret<T> {}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

/// Secret bytes, such as a key.
pub type SecretBytes = Secret<Vec<u8>>;
/// A secret text, such as a password.
pub type SecretString = Secret<String>;
