//! The built-in families of patterns: private keys, tokens, payment cards.
//!
//! INVARIANT: each pattern begins with what tells the secret from other text, and is long enough not to
//! match prose. What has no such beginning (a bare password, a bare AWS secret key) is not here: it would
//! redact hashes and file names as well.

use std::sync::{Arc, LazyLock};

use super::{
    MATCH_BYTES_MAX, RedactionError,
    rule::{Check, Rule},
};

/// What policies call the families.
pub(crate) const FAMILIES: [&str; 3] = ["cards", "private_keys", "tokens"];

const TOKEN_BYTES_MAX: usize = 8 * 1_024;

/// White space between the lines of a key, also as JSON and YAML write it.
macro_rules! gap {
    () => {
        r"(?:[ \t\r\n]|\\[nrt])+"
    };
}
/// What may stand before a line of a key: its number, a mark of `diff` or of a quotation.
macro_rules! margin {
    () => {
        r#"(?:[0-9]+[ \t:|]+)?(?:[-+>|#"'][ \t]*)?"#
    };
}

struct Pattern {
    family: &'static str,
    name: &'static str,
    pattern: &'static str,
    match_bytes_max: usize,
    check: Option<Check>,
}

const fn key(name: &'static str, pattern: &'static str) -> Pattern {
    Pattern {
        family: "private_keys",
        name,
        pattern,
        match_bytes_max: MATCH_BYTES_MAX,
        check: None,
    }
}

const fn token(name: &'static str, pattern: &'static str) -> Pattern {
    Pattern {
        family: "tokens",
        name,
        pattern,
        match_bytes_max: TOKEN_BYTES_MAX,
        check: None,
    }
}

const PATTERNS: [Pattern; 12] = [
    // RFC 7468, RFC 1421 headers, OpenSSH's own, PGP's armour. A key that is cut matches as far as its
    // lines go: what follows the first line only counts if it looks like one.
    key(
        "pem-private-key",
        concat!(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\x22',]?",
            r"(?:",
            gap!(),
            margin!(),
            r"(?:[A-Za-z0-9+/=]{16,}|=[A-Za-z0-9+/]{4}",
            r"|(?:Proc-Type|DEK-Info|Comment|Version|Hash): [^\r\n]+)[\x22',]?)*",
            r"(?:(?:",
            gap!(),
            margin!(),
            r"[A-Za-z0-9+/=]+[\x22',]?)?",
            gap!(),
            margin!(),
            r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)?"
        ),
    ),
    key(
        "putty-private-key",
        concat!(
            r"Private-Lines: [0-9]{1,3}(?:",
            gap!(),
            r"[A-Za-z0-9+/=]{16,})+(?:",
            gap!(),
            r"[A-Za-z0-9+/=]+)?(?:",
            gap!(),
            r"Private-MAC: [0-9a-f]{32,64})?"
        ),
    ),
    token(
        "aws-access-key-id",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    ),
    token(
        "aws-secret-key",
        concat!(
            r"(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY|SecretAccessKey|secretAccessKey",
            r"|aws_session_token|AWS_SESSION_TOKEN|SessionToken|sessionToken)",
            r"[\x22']?[ \t]{0,8}[:=][ \t]{0,8}[\x22']?[A-Za-z0-9/+=]{16,}"
        ),
    ),
    token("github-token", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    token("github-fine-token", r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    token(
        "gitlab-token",
        r"\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt)-[A-Za-z0-9_.-]{20,}",
    ),
    token(
        "slack-token",
        r"\b(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,})",
    ),
    // RFC 7515 and RFC 7516 in compact form: the header is JSON, so it begins `{"`.
    token(
        "jwt",
        r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]{2,}){0,2}",
    ),
    token(
        "authorization-header",
        concat!(
            r"(?:Authorization|authorization|AUTHORIZATION)[\x22']?[ \t]{0,4}[:=][ \t]{0,4}[\x22']?",
            r"(?:[Bb]asic|[Bb]earer|[Dd]igest|[Nn]egotiate|[Tt]oken|AWS4-HMAC-SHA256)[ \t]{1,4}",
            r"[^\r\n\x22']{4,}"
        ),
    ),
    token("sallyport-token", r"\bsp[tk]_[A-Za-z0-9_-]{43}"),
    Pattern {
        family: "cards",
        name: "payment-card",
        pattern: r"\b[2-6](?:[ -]?[0-9]){12,18}\b",
        match_bytes_max: 64,
        check: Some(is_card),
    },
];

static COMPILED: LazyLock<Vec<(&'static str, Arc<Rule>)>> = LazyLock::new(|| {
    PATTERNS
        .iter()
        .filter_map(|pattern| {
            let rule = Rule::compile(
                pattern.name,
                pattern.pattern,
                pattern.match_bytes_max,
                pattern.check,
            );
            // A test holds that every one compiles; `family` refuses a family that is not whole.
            Some((pattern.family, Arc::new(rule.ok()?)))
        })
        .collect()
});

pub(super) fn is_rule_name(name: &str) -> bool {
    PATTERNS.iter().any(|pattern| pattern.name == name)
}

/// The rules of a family.
pub(super) fn family(name: &str) -> Result<Vec<Arc<Rule>>, RedactionError> {
    let expected = PATTERNS
        .iter()
        .filter(|pattern| pattern.family == name)
        .count();
    let rules: Vec<_> = COMPILED
        .iter()
        .filter(|(family, _)| *family == name)
        .map(|(_, rule)| Arc::clone(rule))
        .collect();
    if expected == 0 || rules.len() != expected {
        return Err(RedactionError::Unknown {
            name: name.to_owned(),
        });
    }
    Ok(rules)
}

/// The check digit of ISO/IEC 7812-1, annex B; not all digits the same.
fn is_card(text: &[u8]) -> bool {
    let digits: Vec<u32> = text
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| u32::from(byte.wrapping_sub(b'0')))
        .collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => *digit,
            _ if *digit > 4 => digit.saturating_mul(2).saturating_sub(9),
            _ => digit.saturating_mul(2),
        })
        .sum();
    (13..=19).contains(&digits.len())
        && sum.is_multiple_of(10)
        && digits.iter().any(|digit| Some(digit) != digits.first())
}
