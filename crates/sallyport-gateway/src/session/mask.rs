//! Tokens that stand for values of masked columns.
//!
//! The key is drawn when the gateway starts and never leaves it: a token says nothing of its value to whoever
//! does not have the key, and equal values of a column have equal tokens for as long as this process runs.
//!
//! Not here: which columns are masked (policies), whose values they are (protocols).

use aws_lc_rs::{hmac, rand::SystemRandom};

/// Bytes of a token that come from its value.
const TOKEN_BYTES: usize = 16;

/// What tokens are made with.
pub(crate) struct TokenKey(Option<hmac::Key>);

impl TokenKey {
    /// A new one. Without randomness it makes no tokens.
    pub(crate) fn generate() -> Self {
        Self(hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok())
    }

    /// The token of a value of this column; nothing when none can be made.
    pub(crate) fn token(&self, column: &str, value: &[u8]) -> Option<String> {
        let mut context = hmac::Context::with_key(self.0.as_ref()?);
        // No column and value run into another pair.
        let length = u64::try_from(column.len()).ok()?;
        context.update(&length.to_be_bytes());
        context.update(column.as_bytes());
        context.update(value);
        let tag = context.sign();
        let bytes = tag.as_ref().get(..TOKEN_BYTES)?;
        Some(format!("tok_{}", hex::encode(bytes)))
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-2: equal values are equal tokens, of the same column and gateway alone, and no token shows its value.
    #[test]
    fn given_values_then_equal_ones_have_equal_tokens_in_their_column_and_nowhere_else() {
        let key = TokenKey::generate();
        let token = |column: &str, value: &[u8]| key.token(column, value).unwrap();
        let first = token("shop.public.customers.email", b"ann@example.com");
        assert_eq!(
            first,
            token("shop.public.customers.email", b"ann@example.com")
        );
        assert_ne!(
            first,
            token("shop.public.customers.email", b"bob@example.com")
        );
        assert_ne!(
            first,
            token("shop.public.customers.phone", b"ann@example.com")
        );
        assert_ne!(token("a", b"b\0c"), token("a\0b", b"c"));
        assert!(first.starts_with("tok_") && !first.contains("ann"));
        let other = TokenKey::generate();
        assert_ne!(
            Some(first),
            other.token("shop.public.customers.email", b"ann@example.com")
        );
    }
}
