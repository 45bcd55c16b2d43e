//! People: who may be made, changed and disabled by whom, and what ends when somebody is.

use serde_json::{Value, json};

use crate::support::{
    home::Home,
    node::{Node, Person},
};

async fn status(node: &Node, person: &Person, method: &str, path: &str, body: Value) -> u16 {
    node.call(&person.token, method, path, Some(body)).await.0
}

/// ID-1
#[tokio::test]
async fn given_the_last_owner_then_nobody_takes_that_away() {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        let owner = node.owner().await;
        let sam = node.person(&owner, "sam", &[], &["security"]).await;
        let demote = json!({ "admin_roles": ["security"] });
        let disable = json!({ "reason": "by mistake" });
        assert_eq!(
            status(&node, &owner, "PATCH", "/v1/people/olga", demote.clone()).await,
            409
        );
        for who in [&owner, &sam] {
            let path = "/v1/people/olga/disable";
            assert_eq!(
                status(&node, who, "POST", path, disable.clone()).await,
                409,
                "{}",
                who.name
            );
        }

        // An owner who never enrolled could not do anything: does not count.
        let second = json!({ "name": "otto", "admin_roles": ["owner"] });
        let created = node.ok(&owner, "POST", "/v1/people", Some(second)).await;
        assert_eq!(
            status(&node, &owner, "PATCH", "/v1/people/olga", demote.clone()).await,
            409
        );
        let otto = node.enrol("otto", created["code"].as_str().unwrap()).await;
        assert_eq!(
            status(&node, &owner, "PATCH", "/v1/people/olga", demote).await,
            200
        );
        assert_eq!(
            status(
                &node,
                &owner,
                "PATCH",
                "/v1/people/sam",
                json!({ "groups": [] })
            )
            .await,
            403,
            "{}: no owner any more, at once",
            home.kind()
        );
        assert_eq!(
            status(&node, &otto, "POST", "/v1/people/otto/disable", disable).await,
            409
        );
    }
}

/// ID-1: disabling somebody ends every way in at once; enabling brings none of them back.
#[tokio::test]
async fn given_a_disabled_person_then_every_way_in_is_closed_at_once() {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        let owner = node.owner().await;
        let alice = node.person(&owner, "alice", &["sre"], &[]).await;
        let wanted = json!({ "label": "ci", "scopes": ["self.show"], "ttl_s": 3600 });
        let made = node
            .ok(&alice, "POST", "/v1/self/tokens", Some(wanted))
            .await;
        let api_token = made["token"].as_str().unwrap();
        node.ok(&owner, "POST", "/v1/people/alice/enrolment", None)
            .await;

        let reason = json!({ "reason": "left the company" });
        let view = node
            .ok(
                &owner,
                "POST",
                "/v1/people/alice/disable",
                Some(reason.clone()),
            )
            .await;
        assert_eq!(view["is_enabled"], json!(false));
        for token in [alice.token.as_str(), api_token] {
            assert_eq!(node.call(token, "GET", "/v1/whoami", None).await.0, 401);
        }
        assert_eq!(
            home.count("SELECT count(*) FROM enrolment_code").await,
            0,
            "{}",
            home.kind()
        );
        let issue = node
            .call(&owner.token, "POST", "/v1/people/alice/enrolment", None)
            .await;
        assert_eq!(issue.0, 409);
        node.ok(&owner, "POST", "/v1/people/alice/disable", Some(reason))
            .await;
        let recorded = "SELECT count(*) FROM audit_entry WHERE entry LIKE '%person.disabled%'";
        assert_eq!(
            home.count(recorded).await,
            1,
            "asked again, nothing happens again"
        );

        node.ok(&owner, "POST", "/v1/people/alice/enable", None)
            .await;
        assert_eq!(
            node.call(&alice.token, "GET", "/v1/whoami", None).await.0,
            401
        );
    }
}

/// ID-1: every spelling of a name is one person.
#[tokio::test]
async fn given_a_name_in_another_spelling_then_it_is_taken() {
    let node = Node::start().await;
    let owner = node.owner().await;
    for name in ["olga", "Olga", " OLGA\t"] {
        let (code, answer) = node
            .call(
                &owner.token,
                "POST",
                "/v1/people",
                Some(json!({ "name": name })),
            )
            .await;
        assert_eq!(
            (code, answer["code"].as_str()),
            (409, Some("conflict")),
            "{name:?}"
        );
    }
    for name in ["", "a b", "olgа", "olga@example", "-x", "ol\u{0}ga"] {
        let (code, answer) = node
            .call(
                &owner.token,
                "POST",
                "/v1/people",
                Some(json!({ "name": name })),
            )
            .await;
        assert_eq!(
            (code, answer["field"].as_str()),
            (400, Some("name")),
            "{name:?}"
        );
    }
}

/// ID-1
#[tokio::test]
async fn given_edits_then_only_what_is_named_changes_and_the_record_says_what() {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        let owner = node.owner().await;
        let body =
            json!({ "name": "alice", "display_name": "Alice", "groups": ["SRE", "web", "sre"] });
        let created = node.ok(&owner, "POST", "/v1/people", Some(body)).await;
        assert_eq!(
            created["person"]["groups"],
            json!(["sre", "web"]),
            "{}",
            home.kind()
        );
        let edit = json!({ "admin_roles": ["auditor", "member"] });
        let edited = node
            .ok(&owner, "PATCH", "/v1/people/ALICE", Some(edit))
            .await;
        assert_eq!(edited["admin_roles"], json!(["auditor"]));
        assert_eq!(edited["groups"], json!(["sre", "web"]));
        assert_eq!(edited["display_name"], json!("Alice"));
        assert_eq!(edited["is_enrolled"], json!(false));
        let shown = node.ok(&owner, "GET", "/v1/people/alice", None).await;
        assert_eq!(shown, edited);
        let missing = node
            .call(&owner.token, "GET", "/v1/people/nobody", None)
            .await;
        assert_eq!(
            (missing.0, missing.1["code"].as_str()),
            (404, Some("not-found"))
        );
        for bad in [
            json!({ "groups": ["a b"] }),
            json!({ "admin_roles": ["root"] }),
            json!({ "name": "x" }),
        ] {
            assert_eq!(
                status(&node, &owner, "PATCH", "/v1/people/alice", bad).await,
                400
            );
        }
    }
}

/// ID-1
#[tokio::test]
async fn given_more_people_than_fit_a_page_then_pages_hold_each_once() {
    for home in Home::both() {
        let node = Node::start_with(|config| home.configure(config)).await;
        let owner = node.owner().await;
        for number in 0..7 {
            let body = json!({ "name": format!("p{number}") });
            node.ok(&owner, "POST", "/v1/people", Some(body)).await;
        }
        let (mut names, mut path) = (Vec::new(), "/v1/people?limit=3".to_owned());
        loop {
            let page = node.ok(&owner, "GET", &path, None).await;
            for person in page["items"].as_array().unwrap() {
                names.push(person["name"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!("/v1/people?limit=3&cursor={next}");
        }
        assert_eq!(
            names,
            ["olga", "p0", "p1", "p2", "p3", "p4", "p5", "p6"],
            "{}",
            home.kind()
        );
        for bad in ["limit=0", "limit=501", "limit=x", "cursor=%00", "page=2"] {
            let (code, answer) = node
                .call(&owner.token, "GET", &format!("/v1/people?{bad}"), None)
                .await;
            assert_eq!(
                (code, answer["code"].as_str()),
                (400, Some("bad-field")),
                "{bad}"
            );
        }
    }
}
