//! What redaction finds, leaves alone and refuses to load, whichever way the bytes are split.

#![allow(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;

use super::*;

fn rules(names: &[&str], own: &[(&str, &str)]) -> RuleSet {
    let families = names.iter().map(|name| RedactionRule {
        name: (*name).to_owned(),
        pattern: None,
    });
    let own = own.iter().map(|(name, pattern)| RedactionRule {
        name: (*name).to_owned(),
        pattern: Some((*pattern).to_owned()),
    });
    RuleSet::compile(&families.chain(own).collect()).unwrap()
}

fn all() -> RuleSet {
    rules(
        &FAMILIES,
        &[("acme", "acme-[0-9]{6}"), ("pin", "[a-f]+PIN[0-9]+")],
    )
}

/// What is left of a text that is whole, matches replaced by their rules' names.
fn redacted(rules: &RuleSet, text: &str) -> String {
    let mut left = String::new();
    let mut from = 0;
    for (range, rule) in rules.find_all(text.as_bytes()) {
        left.push_str(&text[from..range.start]);
        left.push_str(&format!("<{rule}>"));
        from = range.end;
    }
    left.push_str(&text[from..]);
    left
}

const BODY: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";

fn pem(line_end: &str, margin: &str) -> String {
    let lines = [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        BODY,
        BODY,
        "QyNTUxOQ==",
        "-----END OPENSSH PRIVATE KEY-----",
    ];
    lines.map(|line| format!("{margin}{line}")).join(line_end)
}

/// RE-8
#[test]
fn every_built_in_rule_compiles_and_has_a_quick_start_but_the_one_for_cards() {
    for family in FAMILIES {
        for rule in builtin::family(family).unwrap() {
            assert_eq!(rule.literals().is_some(), family != "cards", "{rule:?}");
        }
    }
}

/// RE-8, K6
#[test]
fn given_secrets_as_programs_print_them_then_each_is_found_whole() {
    let rules = rules(&FAMILIES, &[]);
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLWl0";
    let spt = format!("spt_{}", "x".repeat(43));
    for (text, expected) in [
        (
            format!("$ cat id\r\n{}\r\n$ ", pem("\r\n", "")),
            "$ cat id\r\n<pem-private-key>\r\n$ ",
        ),
        (
            format!("{{\"key\":\"{}\\n\"}}", pem("\\n", "")),
            "{\"key\":\"<pem-private-key>\\n\"}",
        ),
        (
            format!("a\n{}\nb", pem("\n", "  ")),
            "a\n  <pem-private-key>\nb",
        ),
        (
            format!("{}\n", pem("\n", "     7\t")),
            "     7\t<pem-private-key>\n",
        ),
        (format!("{}\n", pem("\n", "+")), "+<pem-private-key>\n"),
        // What was cut off is still most of a key.
        (
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{BODY}\n{BODY}\nroot@web-1:~# ls"
            ),
            "<pem-private-key>\nroot@web-1:~# ls",
        ),
        ("id AKIAIOSFODNN7EXAMPLE.".into(), "id <aws-access-key-id>."),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n".into(),
            "<aws-secret-key>\n",
        ),
        (format!("T=ghp_{} x", "a1".repeat(18)), "T=<github-token> x"),
        (
            format!("github_pat_{}", "a_".repeat(20)),
            "<github-fine-token>",
        ),
        ("glpat-abcdefghij0123456789 ".into(), "<gitlab-token> "),
        ("xoxb-123456789012-abcdef".into(), "<slack-token>"),
        (format!("cookie={jwt};"), "cookie=<jwt>;"),
        (
            format!("curl -H 'Authorization: Bearer {jwt}' https://x"),
            "curl -H '<authorization-header>' https://x",
        ),
        (format!("export T={spt}"), "export T=<sallyport-token>"),
        (
            "pay 4111 1111 1111 1111 123 now".into(),
            "pay <payment-card> 123 now",
        ),
        ("5500-0000-0000-0004".into(), "<payment-card>"),
    ] {
        assert_eq!(redacted(&rules, &text), expected, "{text}");
    }
}

/// RE-8: a terminal shows a token whole that its stream holds in pieces.
#[test]
fn given_a_terminal_when_colours_or_the_right_edge_split_a_token_then_it_is_found() {
    let rules = all();
    for text in [
        &b"\x1b[1mac\x1b[01;31m\x1b[Kme-12\x1b[m\x1b[K3456"[..],
        b"x\x1b[0macme-123456",
        b"acm \re-123 \r456",
        b"acme-\x1b(B123456",
    ] {
        let found = rules.scan(text, Place::of_terminal(), TextEnd::Whole);
        assert!(
            matches!(found, Found::Match { end, .. } if end == text.len()),
            "{found:?}"
        );
    }
    for text in [&b"acme-123 \r\n456"[..], b"acme- 123456", b"acme-123 456"] {
        let found = rules.scan(text, Place::of_terminal(), TextEnd::Whole);
        assert!(matches!(found, Found::Nothing), "{found:?}");
    }
}

/// RE-14
#[test]
fn given_text_that_only_looks_like_a_secret_then_it_stays() {
    let rules = rules(&FAMILIES, &[]);
    for text in [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "4111 1111 1111 1112",
        "1700000000000000000",
        "0000 0000 0000 0000",
        "grep -r ghp_ .",
        "eyJhbGciOiJIUzI1NiJ9",
        "Authorization: required by policy",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "XAKIAIOSFODNN7EXAMPLE",
    ] {
        assert_eq!(redacted(&rules, text), text);
    }
}

/// RE-8: no pattern can make the gateway slow or redact everything.
#[test]
fn a_pattern_that_is_flawed_too_large_or_matches_next_to_anything_is_refused() {
    for pattern in [
        "a(",
        "abc",
        "[a-z]*",
        "(?:abcd)?",
        r"(abcd)\1",
        "(?=abcd)abcd",
        r"\p{L}{9}",
        "[0-9]{4,60000}",
        "(?:a|b)*a(?:a|b){24}",
    ] {
        check_pattern("own", pattern).expect_err(pattern);
    }
    assert!(matches!(
        check_pattern("own", &"a".repeat(1_025)),
        Err(RedactionError::TooLong { bytes: 1_025, .. })
    ));
    check_pattern("own", r"(?i)passport[ :]+[A-Z]{2}[0-9]{7}\b").unwrap();
}

/// RE-8
#[test]
fn a_name_that_is_taken_or_unknown_is_refused() {
    assert!(is_own_name("acme-token"));
    for name in ["", "tokens", "jwt", "Acme", "a_b", &"a".repeat(65)] {
        assert!(!is_own_name(name), "{name}");
    }
    let unknown = RedactionRule {
        name: "tokenz".into(),
        pattern: None,
    };
    assert!(matches!(
        RuleSet::compile(&BTreeSet::from([unknown])),
        Err(RedactionError::Unknown { .. })
    ));
}

/// Text with matches, near misses and beginnings of matches in it.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[ -~\r\n]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..12),
        Just(pem("\r\n", "").into_bytes()),
        Just(pem("\n", "> ").into_bytes()),
        Just(b"-----BEGIN PRIVATE".to_vec()),
        Just(b"acme-123456".to_vec()),
        Just(b"acme-12345".to_vec()),
        Just(b"acmeacme-1234567".to_vec()),
        Just(b"ac\x1b[01;31mme-\x1b[K12\x1b[m3456".to_vec()),
        Just(b"acme \r-12 \r3456".to_vec()),
        Just(b"acme-12 \r\n3456".to_vec()),
        Just(b"acme-123456 ".to_vec()),
        Just(b"abcPIN12".to_vec()),
        Just(b" 4111111111111111 ".to_vec()),
        Just(b"411111111111111 ".to_vec()),
        Just(b" AKIAIOSFODNN7EXAMPLE".to_vec()),
        Just(b"ghp_aaaaaaaaaabbbbbbbbbbccccccccccdddddd".to_vec()),
        Just(b"eyJhbGciOiJIUzI1NiJ9.e30x.c2ln".to_vec()),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// RE-8, RE-14: the quick start finds what trying every place finds.
    #[test]
    fn looking_for_literals_first_finds_what_trying_every_byte_finds(text in text()) {
        let quick = all();
        let mut slow = all();
        slow.literals = None;
            prop_assert_eq!(quick.find_all(&text), slow.find_all(&text));
    }

    /// RE-8: what is said of a beginning holds of the whole.
    #[test]
    fn an_answer_given_before_the_end_is_the_answer_at_the_end(text in text(), is_terminal: bool, cut in any::<prop::sample::Index>()) {
        let rules = all();
        let cut = cut.index(text.len() + 1);
        let place = if is_terminal { Place::of_terminal() } else { Place::of_bytes() };
        let whole = rules.scan(&text, place, TextEnd::Open);
        match (rules.scan(&text[..cut], place, TextEnd::Open), whole) {
            (Found::Match { start, end, rule }, Found::Match { start: s, end: e, rule: r }) => {
                prop_assert_eq!((start, end, rule), (s, e, r));
            }
            (Found::Match { .. }, other) => prop_assert!(false, "a match was taken back: {:?}", other),
            (Found::Nothing, Found::Match { start, .. } | Found::Open { start, .. }) => {
                prop_assert!(start >= cut);
            }
            (Found::Open { start: early, .. }, Found::Match { start, .. } | Found::Open { start, .. }) => {
                prop_assert!(start >= early);
            }
            (Found::Nothing | Found::Open { .. }, Found::Nothing) => {}
        }
    }
}
