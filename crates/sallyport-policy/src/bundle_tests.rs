//! What loads, what is refused and with which words, and what the hash names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests stop at the first surprise"
)]

use expect_test::expect_file;
use proptest::prelude::*;
use sallyport_core::policy::Constraint;

use super::*;
use crate::fixture::{PERMIT_ALL, bundle, load};

/// PO-1, PO-2: each fault with the words its author reads: file, line, policy, problem, remedy.
#[test]
fn a_faulty_bundle_is_refused_with_the_place_and_a_remedy() {
    const ALL: &str = "permit (principal, action, resource)";
    let authorise = |text: &str| vec![("authorise/a.cedar", text.to_owned())];
    let require = |text: &str| vec![("require/a.cedar", text.to_owned())];
    let tests = |text: &str| vec![("tests/a.json", text.to_owned())];
    let cases = [
        (
            "text that ends too early",
            authorise(&format!("// one\n@id(\"a\")\n{ALL} when {{ ")),
        ),
        (
            "a misspelt fact",
            authorise(&format!(
                "@id(\"a\") {ALL}\nwhen {{ context.mfa.strenght_rank > 1 }};"
            )),
        ),
        (
            "a fact of another type",
            authorise(&format!(
                "@id(\"a\") {ALL} when {{ context.mfa.age_s == \"60\" }};"
            )),
        ),
        (
            "a fact that need not exist",
            authorise(&format!(
                "@id(\"a\") {ALL}\nwhen {{ context.request.has_ticket }};"
            )),
        ),
        (
            "a label that need not exist",
            authorise(&format!(
                "@id(\"a\") {ALL} when {{ resource.target.getTag(\"env\") == \"prod\" }};"
            )),
        ),
        (
            "a misspelt kind of operation",
            authorise(
                "@id(\"a\") permit (principal, action == Action::\"operation.run\", resource)\nwhen { context.operation.kind == OperationKind::\"exce\" };",
            ),
        ),
        (
            "a misspelt action",
            authorise(
                "@id(\"a\") permit (principal, action == Action::\"session.opens\", resource);",
            ),
        ),
        (
            "a misspelt entity type",
            authorise("@id(\"a\") permit (principal in Groop::\"sre\", action, resource);"),
        ),
        (
            "a policy that can never apply",
            authorise(&format!(
                "@id(\"a\") {ALL} when {{ principal.name == \"x\" && false }};"
            )),
        ),
        (
            "a principal that no action takes",
            authorise("@id(\"a\") permit (principal is Workload, action, resource);"),
        ),
        (
            "a template",
            authorise("@id(\"a\") permit (principal == ?principal, action, resource);"),
        ),
        (
            "a policy without an id",
            authorise(&format!("@id(\"a\")\n{ALL};\n\n{ALL};")),
        ),
        (
            "an id of other characters",
            authorise(&format!("@id(\"Not so\") {ALL};")),
        ),
        (
            "an id that is taken in the other set",
            vec![
                ("authorise/a.cedar", format!("@id(\"a\") {ALL};")),
                (
                    "require/b.cedar",
                    format!("\n@approval(\"1\")\n@id(\"a\")\n{ALL};"),
                ),
            ],
        ),
        (
            "a demand in the authorise set",
            authorise(&format!("@id(\"a\")\n@approval(\"1\")\n{ALL};")),
        ),
        (
            "a misspelt demand",
            require(&format!("@id(\"a\")\n@aproval(\"1\")\n{ALL};")),
        ),
        (
            "a demand of no form",
            require(&format!("@id(\"a\")\n@approval(\"many\")\n{ALL};")),
        ),
        (
            "a demand twice",
            require(&format!(
                "@id(\"a\")\n@approval(\"1\")\n@approval(\"2\")\n{ALL};"
            )),
        ),
        ("no demand", require(&format!("@id(\"a\")\n{ALL};"))),
        (
            "a forbid policy that demands",
            require("@id(\"a\") @approval(\"1\") forbid (principal, action, resource);"),
        ),
        (
            "a file of no set",
            vec![("policies/a.cedar", PERMIT_ALL.to_owned())],
        ),
        (
            "a test with a misspelt field",
            tests("{\n  \"tests\": [\n    { \"name\": \"x\", \"questoin\": 1 }\n  ]\n}"),
        ),
        (
            "a test of an action that is none",
            tests(
                r#"{ "tests": [ { "name": "x", "question": { "action": "session.close", "on": "root@web-1" }, "expect": { "outcome": "deny" } } ] }"#,
            ),
        ),
        (
            "a test on no account",
            tests(
                r#"{ "tests": [ { "name": "x", "question": { "action": "session.open", "on": "web-1" }, "expect": { "outcome": "deny" } } ] }"#,
            ),
        ),
    ];
    let mut words = String::new();
    for (name, files) in cases {
        let files: Vec<_> = files
            .iter()
            .map(|(path, content)| (*path, content.as_str()))
            .collect();
        let error = load(&files).expect_err(name);
        words.push_str(&format!("## {name}\n{error}\n\n"));
    }
    expect_file!["../testdata/faults.txt"].assert_eq(&words);
}

#[test]
fn a_file_that_belongs_to_no_bundle_is_refused() {
    for path in [
        "a.cedar",
        "authorise/a.cedar.bak",
        "authorise/../a.cedar",
        "authorise/sub/a.cedar",
        "authorise/.cedar",
        "authorise/A.cedar",
        "/authorise/a.cedar",
        "require/a.json",
        "tests/a.cedar",
        "",
    ] {
        let error = load(&[(path, PERMIT_ALL)]).expect_err(path);
        assert!(
            error.to_string().contains("not a file of a policy bundle"),
            "{error}"
        );
    }
}

#[test]
fn every_fault_is_listed_not_only_the_first() {
    let error = load(&[
        ("authorise/a.cedar", "permit (principal, action, resource);"),
        (
            "authorise/b.cedar",
            "@id(\"b\") permit (principal, action, resource) when { context.x };",
        ),
        ("notes.txt", ""),
    ])
    .unwrap_err();
    let BundleError::Faulty { faults } = error else {
        panic!("{error}");
    };
    let files: Vec<_> = faults.iter().map(|fault| fault.file.as_str()).collect();
    assert!(files.contains(&"authorise/a.cedar"));
    assert!(files.contains(&"authorise/b.cedar"));
    assert!(files.contains(&"notes.txt"));
}

#[test]
fn a_bundle_beyond_its_bounds_is_refused() {
    let many: String = (0..=POLICIES_MAX)
        .map(|n| format!("@id(\"p{n}\") permit (principal, action, resource);"))
        .collect();
    assert!(matches!(
        load(&[("authorise/a.cedar", &many)]),
        Err(BundleError::TooManyPolicies { count: 5_001 })
    ));
    let large = format!("// {}", " ".repeat(BUNDLE_BYTES_MAX));
    assert!(matches!(
        load(&[("authorise/a.cedar", &large)]),
        Err(BundleError::TooLarge { .. })
    ));
    assert!(matches!(
        Bundle::from_text(&" ".repeat(TEXT_BYTES_MAX + 1)),
        Err(BundleError::TooLarge { .. })
    ));
}

/// PO-9: the hash in a record names exactly these files.
#[test]
fn the_hash_names_exactly_the_files() {
    let one = load(&[("authorise/a.cedar", PERMIT_ALL)]).unwrap();
    // SHA-256 of "sallyport policy bundle v1", then path and content, each after its length as eight
    // bytes, big end first; computed with another implementation. These two are the vectors of
    // docs/formats/policy-bundle.md.
    assert_eq!(
        one.hash().0,
        "01b3abe61039caeba79dc386f5ca68363960b6dd09dcdeccd1bf855896e90e51"
    );

    let empty = load(&[]).unwrap();
    assert_eq!(
        empty.hash().0,
        "d0fc095a649e9132990bb3ca38646e124117e88c84d0c36cb356c57c94e99e82"
    );
    let renamed = load(&[("authorise/b.cedar", PERMIT_ALL)]).unwrap();
    let commented = load(&[("authorise/a.cedar", &format!("{PERMIT_ALL} // x"))]).unwrap();
    let tested = load(&[
        ("authorise/a.cedar", PERMIT_ALL),
        ("tests/a.json", "{\"tests\":[]}"),
    ])
    .unwrap();
    let hashes =
        [&one, &empty, &renamed, &commented, &tested].map(|bundle| bundle.hash().0.clone());
    for (n, hash) in hashes.iter().enumerate() {
        assert!(!hashes.iter().skip(n + 1).any(|other| other == hash), "{n}");
    }
}

#[test]
fn a_bundle_survives_its_text_form_and_other_versions_are_refused() {
    let bundle = bundle(
        PERMIT_ALL,
        "@id(\"r\") @approval(\"1\") permit (principal, action, resource);",
    );
    let again = Bundle::from_text(&bundle.to_text()).unwrap();
    assert_eq!(again.hash(), bundle.hash());
    assert_eq!(again.files(), bundle.files());
    assert_eq!(again.policy_count(), 2);

    let newer = bundle.to_text().replace("\"version\":1", "\"version\":2");
    assert!(matches!(
        Bundle::from_text(&newer),
        Err(BundleError::TextVersion { version: 2 })
    ));
    assert!(matches!(Bundle::from_text("{}"), Err(BundleError::Text(_))));
    let faulty = bundle.to_text().replace("permit", "premit");
    assert!(matches!(
        Bundle::from_text(&faulty),
        Err(BundleError::Faulty { .. })
    ));
}

/// PO-2: an empty bundle is allowed, and permits nothing.
#[test]
fn an_empty_bundle_permits_nothing() {
    use sallyport_core::authz::{Action, PolicyEngine as _};
    let bundle = load(&[]).unwrap();
    for action in [
        Action::RequestCreate,
        Action::SessionOpen,
        Action::OperationRun,
    ] {
        let evaluation = bundle.evaluate(&crate::fixture::question(action)).unwrap();
        assert!(!evaluation.is_authorised);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_loading_panic(
        path in "(authorise|require)/a\\.cedar|tests/a\\.json|\\PC{0,12}",
        content in "\\PC{0,64}|(@id\\(\"a\"\\) )?(permit|forbid) ?\\(principal, action, resource\\) ?(when \\{[a-z. =<\"]{0,16}\\})?;?",
    ) {
        if let Ok(bundle) = load(&[(&path, &content)]) {
            let again = Bundle::from_text(&bundle.to_text()).unwrap();
            prop_assert_eq!(again.hash(), bundle.hash());
        }
    }
}

/// RE-8: a permit says by itself what is redacted, also by patterns of the bundle's own.
#[test]
fn a_demand_for_redaction_carries_the_patterns_that_the_bundle_defines() {
    let files = BTreeMap::from([
        (
            String::from("redaction/acme.json"),
            String::from(r#"{"rules": [{"name": "acme", "pattern": "acme-[0-9]{6}"}]}"#),
        ),
        (
            String::from("require/a.cedar"),
            String::from(
                "@id(\"a\")\n@redact(\"cards, acme\")\npermit (principal, action, resource);",
            ),
        ),
    ]);
    let bundle = Bundle::load(&files).unwrap();
    let demand = bundle.inner.demands.values().next().unwrap();
    let [Constraint::Redact { rules }] = &demand.constraints[..] else {
        panic!("{demand:?}");
    };
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.pattern.as_deref()))
        .collect();
    assert_eq!(rules, [("acme", Some("acme-[0-9]{6}")), ("cards", None)]);
}

/// RE-8: a flawed redaction rule refuses the bundle, with the place and what is wrong.
#[test]
fn a_flawed_redaction_rule_refuses_the_bundle() {
    let refused = |path: &str, content: &str| {
        let files = BTreeMap::from([(path.to_owned(), content.to_owned())]);
        Bundle::load(&files).unwrap_err().to_string()
    };
    let rules = r#"{"rules": [
        {"name": "tokens", "pattern": "abcd"},
        {"name": "a", "pattern": "abc("},
        {"name": "b", "pattern": "[0-9]*"},
        {"name": "c", "pattern": "abcd"},
        {"name": "c", "pattern": "abcd"}
    ]}"#;
    let said = refused("redaction/a.json", rules);
    for part in [
        "redaction/a.json",
        "cannot have the name `tokens`",
        "the redaction pattern `a`",
        "the redaction pattern `b`: it matches fewer than 4 bytes",
        "`c` is defined twice",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = refused("redaction/a.json", "{\"rule\": []}");
    assert!(said.contains("not a file of redaction rules"), "{said}");
    let policy = "@id(\"a\")\n@redact(\"tokens, acme\")\npermit (principal, action, resource);";
    let said = refused("require/a.cedar", policy);
    assert!(
        said.contains("require/a.cedar:2") && said.contains("no redaction rule is named `acme`"),
        "{said}"
    );
}
