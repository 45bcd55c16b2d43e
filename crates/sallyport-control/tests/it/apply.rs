//! A wanted state applied: compared, all or nothing, each change on record.

use serde_json::{Value, json};

use crate::support::node::{Node, Person};

const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

struct Story {
    node: Node,
    olga: Person,
    /// Owner and security: may change everything.
    paula: Person,
}

async fn story() -> Story {
    let node = Node::start().await;
    let olga = node.owner().await;
    let paula = node
        .person(&olga, "paula", &[], &["owner", "security"])
        .await;
    Story { node, olga, paula }
}

fn target(name: &str, address: &str) -> Value {
    json!({
        "name": name, "protocol": "ssh", "address": address, "sensitivity": "high",
        "labels": { "env": "prod" }, "pins_first_host_key": true,
    })
}

fn wanted() -> Value {
    json!({
        "targets": [target("web-1", "10.0.0.1:22"), target("web-2", "10.0.0.2:22")],
        "accounts": [{ "target": "web-1", "name": "root", "engine": "ssh_ca" }],
        "people": [
            { "name": "dora", "display_name": "Dora", "groups": ["operators"], "admin_roles": ["auditor"] },
        ],
    })
}

impl Story {
    async fn apply(&self, wanted: &Value) -> Value {
        self.node
            .ok(&self.paula, "POST", "/v1/apply", Some(wanted.clone()))
            .await
    }

    async fn refused(&self, person: &Person, wanted: &Value) -> (u16, Value) {
        self.node
            .call(&person.token, "POST", "/v1/apply", Some(wanted.clone()))
            .await
    }

    fn log_size(&self) -> u64 {
        *self.node.control.db().log_size().borrow()
    }

    async fn entries_from(&self, from: u64) -> Vec<Value> {
        let path = format!("/v1/audit/entries?from={from}&limit=1000");
        let answer = self.node.ok(&self.paula, "GET", &path, None).await;
        let entries = answer["entries"].as_array().unwrap();
        let entries = entries
            .iter()
            .map(|entry| serde_json::from_str::<Value>(entry.as_str().unwrap()).unwrap());
        // Reading the log is on record too.
        entries
            .filter(|entry| entry["event"] != "audit.exported")
            .collect()
    }

    /// Names of the policy files in force, with a comment added to each.
    async fn changed_policies(&self) -> Value {
        let mut current = self
            .node
            .ok(&self.paula, "GET", "/v1/policies/current", None)
            .await;
        for (path, text) in current["files"].as_object_mut().unwrap() {
            if path.ends_with(".cedar") {
                *text = Value::from(format!("// Reviewed.\n{}", text.as_str().unwrap()));
            }
        }
        current
    }
}

fn verbs(applied: &Value) -> Vec<String> {
    let changes = applied["changes"].as_array().unwrap();
    let word = |change: &Value, field: &str| change[field].as_str().unwrap().to_owned();
    changes
        .iter()
        .map(|change| {
            format!(
                "{} {} {}",
                word(change, "verb"),
                word(change, "noun"),
                word(change, "name")
            )
        })
        .collect()
}

/// AU-6, AU-1
#[tokio::test]
async fn given_a_wanted_state_then_it_is_made_so_once_with_one_entry_for_each_change() {
    let story = story().await;
    let before = story.log_size();
    let applied = story.apply(&wanted()).await;
    assert_eq!(applied["is_applied"], true);
    assert_eq!(
        verbs(&applied),
        [
            "create target web-1",
            "create target web-2",
            "create account root@web-1",
            "create person dora"
        ]
    );
    let entries = story.entries_from(before).await;
    let events: Vec<&str> = entries
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "target.created",
            "target.created",
            "account.created",
            "person.created"
        ]
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry["actor"] == entries[0]["actor"])
    );
    let dora = story
        .node
        .ok(&story.paula, "GET", "/v1/people/dora", None)
        .await;
    assert_eq!(
        (&dora["is_enrolled"], &dora["groups"]),
        (&json!(false), &json!(["operators"]))
    );
    assert_eq!(dora["admin_roles"], json!(["auditor"]));

    let before = story.log_size();
    let again = story.apply(&wanted()).await;
    assert!(
        verbs(&again)
            .iter()
            .all(|verb| verb.starts_with("unchanged ")),
        "{again}"
    );
    assert_eq!(
        story.log_size(),
        before,
        "nothing changed, so nothing is recorded"
    );
}

/// AU-1
#[tokio::test]
async fn given_differences_then_they_are_named_field_by_field_and_what_is_not_listed_stays() {
    let story = story().await;
    story.apply(&wanted()).await;
    let applied = story
        .apply(&json!({
            "targets": [target("web-1", "10.0.0.9:22")],
            "people": [{ "name": "dora", "display_name": "Dora", "groups": ["dba", "operators"] }],
        }))
        .await;
    assert_eq!(
        verbs(&applied),
        ["change target web-1", "change person dora"]
    );
    assert_eq!(
        applied["changes"][0]["differences"],
        json!(["address: 10.0.0.1:22 -> 10.0.0.9:22"])
    );
    assert_eq!(
        applied["changes"][1]["differences"],
        json!([
            "groups: operators -> dba,operators",
            "admin_roles: auditor -> "
        ])
    );
    let targets = story
        .node
        .ok(&story.paula, "GET", "/v1/targets", None)
        .await;
    assert_eq!(targets["items"].as_array().unwrap().len(), 2);
    assert_eq!(targets["items"][0]["accounts"], json!(["root"]));
}

/// GW-11: applying the same files again must not forget whom a target proved to be.
#[tokio::test]
async fn given_a_host_key_pinned_on_first_sight_then_applying_again_keeps_it() {
    let story = story().await;
    let mut pinned = target("web-1", "10.0.0.1:22");
    pinned["host_keys"] = json!([HOST_KEY]);
    story.apply(&json!({ "targets": [pinned] })).await;
    let again = story
        .apply(&json!({ "targets": [target("web-1", "10.0.0.1:22")] }))
        .await;
    assert_eq!(verbs(&again), ["unchanged target web-1"]);
    let mut strict = target("web-1", "10.0.0.1:22");
    strict["pins_first_host_key"] = json!(false);
    let emptied = story.apply(&json!({ "targets": [strict] })).await;
    assert_eq!(
        verbs(&emptied),
        ["change target web-1"],
        "said outright, it is done"
    );
}

/// AU-6
#[tokio::test]
async fn given_a_dry_run_then_it_says_the_same_and_does_nothing() {
    let story = story().await;
    let mut document = wanted();
    document["policies"] = story.changed_policies().await;
    let before = story.log_size();
    let planned = story
        .node
        .ok(
            &story.paula,
            "POST",
            "/v1/apply?dry_run=true",
            Some(document.clone()),
        )
        .await;
    assert_eq!(planned["is_applied"], false);
    assert_eq!(story.log_size(), before);
    let targets = story
        .node
        .ok(&story.paula, "GET", "/v1/targets", None)
        .await;
    assert_eq!(targets["items"], json!([]));

    let applied = story.apply(&document).await;
    assert_eq!(applied["changes"], planned["changes"]);
    assert_eq!(verbs(&applied).last().unwrap(), "change policies policies");
    let current = story
        .node
        .ok(&story.paula, "GET", "/v1/policies/current", None)
        .await;
    assert_eq!(current, document["policies"], "in force at once");
    assert_eq!(
        verbs(&story.apply(&document).await).last().unwrap(),
        "unchanged policies policies"
    );
}

/// AU-6
#[tokio::test]
async fn given_one_thing_that_cannot_be_then_nothing_happens_and_its_place_is_named() {
    let story = story().await;
    let before = story.log_size();
    let mut lost = wanted();
    lost["accounts"][0]["target"] = json!("web-9");
    let mut last_owner = wanted();
    last_owner["people"] = json!([{ "name": "dora" }, { "name": "paula" }, { "name": "olga" }]);
    for (document, field) in [
        (lost, json!("accounts[0].target")),
        (last_owner, Value::Null),
    ] {
        let (status, problem) = story.refused(&story.paula, &document).await;
        assert!(status == 400 || status == 409, "{problem}");
        assert_eq!(problem["field"], field, "{problem}");
        assert_eq!(story.log_size(), before);
        let targets = story
            .node
            .ok(&story.paula, "GET", "/v1/targets", None)
            .await;
        assert_eq!(targets["items"], json!([]));
        assert_eq!(
            story
                .node
                .call(&story.paula.token, "GET", "/v1/people/dora", None)
                .await
                .0,
            404
        );
    }
}

/// AU-6
#[tokio::test]
async fn given_several_faults_then_all_are_reported_at_once() {
    let story = story().await;
    let document = json!({
        "targets": [target("web-1", "nowhere"), target("web-2", "10.0.0.2:22"), target("web-2", "10.0.0.2:22")],
        "accounts": [{ "target": "web-1", "name": "root", "engine": "nonesuch" }],
        "policies": { "files": { "authorise/a.cedar": "permit (" } },
    });
    let (status, problem) = story.refused(&story.paula, &document).await;
    assert_eq!(
        (status, &problem["field"]),
        (400, &json!("targets[0].address")),
        "{problem}"
    );
    let places: Vec<&str> = problem["unmet"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "targets[0].address",
            "targets[2].name",
            "accounts[0].engine",
            "policies.files"
        ]
    );
    let (status, problem) = story.refused(&story.paula, &json!({ "hosts": [] })).await;
    assert_eq!((status, &problem["field"]), (400, &json!("hosts")));
}

/// ID-1, PO-1
#[tokio::test]
async fn given_each_part_of_a_document_then_the_right_to_change_that_part_is_asked_for() {
    let story = story().await;
    let sven = story
        .node
        .person(&story.olga, "sven", &[], &["security"])
        .await;
    let mike = story.node.person(&story.olga, "mike", &[], &[]).await;
    let policies = json!({ "policies": story.changed_policies().await });
    let targets = json!({ "targets": [target("web-1", "10.0.0.1:22")] });
    let accounts =
        json!({ "accounts": [{ "target": "web-1", "name": "root", "engine": "ssh_ca" }] });
    let people = json!({ "people": [{ "name": "dora" }] });
    let before = story.log_size();
    for (person, document, right) in [
        (&story.olga, &policies, "policy.apply"),
        (&sven, &targets, "target.edit"),
        (&sven, &accounts, "target.edit"),
        (&sven, &people, "person.edit"),
        (&mike, &targets, "target.edit"),
    ] {
        let (status, problem) = story.refused(person, document).await;
        assert_eq!(
            (status, &problem["code"]),
            (403, &json!("missing-right")),
            "{problem}"
        );
        assert!(
            problem["title"].as_str().unwrap().contains(right),
            "{problem}"
        );
    }
    assert_eq!(story.log_size(), before);
    assert_eq!(story.refused(&sven, &policies).await.0, 200);
}

/// ID-1: the ceilings are those of `person edit`.
#[tokio::test]
async fn given_an_api_token_then_it_gives_no_role_by_apply_either() {
    let story = story().await;
    let body = json!({ "label": "ci", "scopes": ["target.list", "person.edit"], "ttl_s": 3600 });
    let made = story
        .node
        .ok(&story.paula, "POST", "/v1/self/tokens", Some(body))
        .await;
    let token = made["token"].as_str().unwrap();
    let giving = json!({ "people": [{ "name": "dora", "admin_roles": ["auditor"] }] });
    let (status, problem) = story
        .node
        .call(token, "POST", "/v1/apply", Some(giving))
        .await;
    assert_eq!(status, 403, "{problem}");
    let plain = json!({ "people": [{ "name": "dora" }] });
    let (status, applied) = story
        .node
        .call(token, "POST", "/v1/apply", Some(plain))
        .await;
    assert_eq!(status, 200, "{applied}");
}
