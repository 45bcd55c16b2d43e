//! What a stranger can learn from how long a refusal takes, and from what it costs.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sallyport_testkit::effort;
use serde_json::json;

use crate::support::node::{Node, Person};

const WRONG: &str = "not the password!";

/// The process has one recorder of metrics.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

/// How many passwords were hashed for a check so far.
fn hashed() -> u64 {
    let rendered = recorder().render();
    let line = rendered
        .lines()
        .find(|line| line.starts_with("sallyport_password_checks_total"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn refused(node: &Node, name: &str, password: &str, code: &str) -> (u16, String) {
    let body = json!({ "name": name, "password": password, "code": code });
    let (status, mut answer) = node.call("", "POST", "/v1/sign-in", Some(body)).await;
    answer.as_object_mut().unwrap().remove("reference");
    (status, answer.to_string())
}

async fn people(node: &Node) -> Person {
    let owner = node.owner().await;
    node.person(&owner, "alice", &[], &[]).await;
    node.person(&owner, "leaver", &[], &[]).await;
    let reason = json!({ "reason": "left" });
    node.ok(&owner, "POST", "/v1/people/leaver/disable", Some(reason))
        .await;
    node.ok(
        &owner,
        "POST",
        "/v1/people",
        Some(json!({ "name": "newcomer" })),
    )
    .await;
    owner
}

/// R9, A4, ID-5: whoever is or is not there, a refusal is the same and costs one password hash.
#[tokio::test]
async fn given_a_wrong_sign_in_then_its_answer_and_its_work_are_the_same_whoever_exists() {
    recorder();
    let node = Node::start().await;
    people(&node).await;
    let mut answers = Vec::new();
    for (name, password, code) in [
        ("alice", WRONG, "000000"),
        ("alice", crate::support::node::PASSWORD, "000000"),
        ("alice", "short", "000000"),
        ("alice", WRONG, "not a code"),
        ("leaver", WRONG, "000000"),
        ("newcomer", WRONG, "000000"),
        ("nobody", WRONG, "000000"),
        ("no name at all!", WRONG, "000000"),
        ("", "", ""),
    ] {
        let before = hashed();
        answers.push(refused(&node, name, password, code).await);
        assert_eq!(hashed() - before, 1, "{name:?} {password:?} {code:?}");
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );

    // A locked name costs nothing, and says so whether or not somebody has it.
    for name in ["alice", "nobody"] {
        while refused(&node, name, WRONG, "000000").await.0 == 401 {}
        let before = hashed();
        answers.push(refused(&node, name, WRONG, "000000").await);
        assert_eq!(hashed(), before, "{name}: not checked");
    }
    assert_eq!(answers.pop(), answers.pop());
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
async fn timed(node: &Node, name: &str) -> Duration {
    let start = Instant::now();
    refused(node, name, WRONG, "000000").await;
    start.elapsed()
}

/// Welch's t of two samples, each without its slowest tenth, which is the machine's and not ours
/// (dudect: Reparaz, Balasch, Verbauwhede 2017).
fn welch(mut left: Vec<f64>, mut right: Vec<f64>) -> (f64, f64) {
    let crop = |sample: &mut Vec<f64>| {
        sample.sort_by(f64::total_cmp);
        sample.truncate(sample.len() * 9 / 10);
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count, sample[sample.len() / 2])
    };
    let ((mean_l, error_l, median_l), (mean_r, error_r, median_r)) =
        (crop(&mut left), crop(&mut right));
    let t = (mean_l - mean_r) / (error_l + error_r).sqrt();
    (t, (median_l / median_r - 1.0).abs())
}

/// R9, A4: nor does the time it takes tell. Measured always; what a loaded machine measures is asserted
/// only where there are samples enough, with `SALLYPORT_TEST_EFFORT` above 1.
#[tokio::test]
async fn given_interleaved_wrong_sign_ins_then_time_does_not_tell_who_exists() {
    let node = Node::start_with(|config| config.sign_in.failures_max = 20).await;
    people(&node).await;
    let samples = effort::rounds(20);
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        // Which of the two comes first changes, so that neither is always on a warm cache.
        let names = if sample % 2 == 0 {
            ["alice", "nobody"]
        } else {
            ["nobody", "alice"]
        };
        for name in names {
            let took = timed(&node, name).await.as_secs_f64();
            if name == "alice" {
                known.push(took)
            } else {
                unknown.push(took)
            }
        }
        if sample % 10 == 9 {
            node.clock.advance(Duration::from_secs(1_000));
        }
    }
    let (t, apart) = welch(known, unknown);
    assert!(t.is_finite());
    if samples >= 200 {
        assert!(t.abs() < 4.5, "t = {t:.2} over {samples} pairs");
        assert!(apart < 0.05, "medians are {:.1} % apart", apart * 100.0);
    }
}
