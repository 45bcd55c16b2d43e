//! What one decision costs, at the sizes of bundle that installations have: mostly policies for one
//! group on one target each, some for one person, and one in twenty that looks at everybody. And what one costs
//! about a statement of a database, of which a session asks thousands a second that differ in their numbers.
//!
//! With `-- --figures` it prints percentiles of single decisions instead, as `cargo xtask bench` reads
//! them: a line `figure KEY VALUE UNIT` each.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use sallyport_core::{
    authz::{
        AccountFacts, Action, Decision, GrantFacts, HistoryFacts, NetworkFacts, OperationAnswer,
        PrincipalFacts, Question, RequestFacts, SessionQuestion, TargetFacts, decide,
        decide_operation,
    },
    id::{AccountId, GrantId, PersonId, TargetId},
    inventory::Sensitivity,
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    session::{Operation, OperationKind, StatementFacts, Verb},
    time::Timestamp,
};
use sallyport_policy::{Bundle, default_bundle};

const TEAMS: usize = 50;
const TARGETS: usize = 200;
const SIZES: [usize; 3] = [10, 100, 2_000];
/// Single decisions whose time is taken, after as many as there are targets to warm up.
const DECISIONS: usize = 20_000;

fn files(policies: usize) -> BTreeMap<String, String> {
    let (mut authorise, mut require) = (String::new(), String::new());
    for n in 0..policies {
        let (team, target) = (n % TEAMS, n % TARGETS);
        let written = match n % 20 {
            0 => writeln!(
                authorise,
                "@id(\"p{n}\") forbid (principal, action, resource) when {{ resource.target.sensitivity_rank >= 4 && context.mfa.strength_rank < 2 && context.time.hour == {} }};",
                n % 24
            ),
            1 | 2 => writeln!(
                authorise,
                "@id(\"p{n}\") permit (principal == Person::\"person-{n}\", action, resource in Target::\"target-{target}\");"
            ),
            3..=6 => writeln!(
                require,
                "@id(\"p{n}\") @approval(\"1\") permit (principal in Group::\"team-{team}\", action, resource in Target::\"target-{target}\") when {{ resource.target.sensitivity_rank >= 3 }};"
            ),
            _ => writeln!(
                authorise,
                "@id(\"p{n}\") permit (principal in Group::\"team-{team}\", action, resource in Target::\"target-{target}\") when {{ context.mfa.age_s < 28800 }};"
            ),
        };
        written.expect("writing to a string");
    }
    BTreeMap::from([
        ("authorise/all.cedar".to_owned(), authorise),
        ("require/all.cedar".to_owned(), require),
    ])
}

fn question(n: usize) -> Question {
    let now = Timestamp::from_unix_ms(1_772_445_600_000);
    Question {
        action: Action::RequestCreate,
        now,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: PersonId::new(now, [1; 10]),
            name: "alice".parse().expect("a name"),
            groups: (0..5)
                .map(|team| format!("team-{}", (n + team) % TEAMS))
                .collect(),
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::MultiFactor,
            at: now,
            methods: vec!["ssh_key".to_owned()],
        },
        network: NetworkFacts {
            ip: "192.0.2.10".parse().expect("an address"),
        },
        target: TargetFacts {
            id: TargetId::new(now, [2; 10]),
            name: format!("target-{}", n % TARGETS).parse().expect("a name"),
            protocol: "ssh".to_owned(),
            labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            sensitivity: Sensitivity::Medium,
        },
        account: AccountFacts {
            id: AccountId::new(now, [3; 10]),
            name: "root".parse().expect("a name"),
        },
        request: Some(RequestFacts {
            id: None,
            reason: "rotate the certificates".to_owned(),
            ticket: None,
            duration_s: 3_600,
            is_break_glass: false,
        }),
        grant: None,
        operation: None,
        locks: Vec::new(),
        history: HistoryFacts::default(),
    }
}

/// A session under a grant of one hour.
fn session() -> SessionQuestion {
    let asked = question(0);
    SessionQuestion::new(&Question {
        grant: Some(GrantFacts {
            id: GrantId::new(asked.now, [4; 10]),
            person_id: asked.principal.id.clone(),
            account_id: asked.account.id.clone(),
            from: asked.now,
            until: asked.now.plus(Duration::from_secs(3_600)),
            is_open: true,
            is_break_glass: false,
        }),
        ..asked
    })
}

/// Statements of one program.
fn statements() -> Vec<Operation> {
    let statement = |number| Operation {
        kind: OperationKind::Statement,
        detail: format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};"),
        facts: Some(Box::new(StatementFacts {
            verbs: [Verb::Read].into(),
            relations: ["shop.*.pgbench_accounts".to_owned()].into(),
            ..StatementFacts::default()
        })),
    };
    (0..1_000).map(statement).collect()
}

/// Asks about one of them after the other, so long after the first.
fn ask(bundle: &Bundle, session: &SessionQuestion, statement: &Operation, after: Duration) {
    let now = question(0).now.plus(after);
    let answer = decide_operation(black_box(bundle), session, statement, now);
    assert_eq!(answer, OperationAnswer::Permit);
}

fn bench_statements(criterion: &mut Criterion) {
    let bundle = default_bundle().expect("a bundle");
    let (session, statements) = (session(), statements());
    let mut group = criterion.benchmark_group("statement");
    group.bench_function("in the same second", |bencher| {
        let mut asked = statements.iter().cycle();
        bencher.iter(|| {
            let statement = asked.next().expect("a statement");
            ask(&bundle, &session, statement, Duration::ZERO);
        });
    });
    group.bench_function("first of its second", |bencher| {
        let mut asked = statements.iter().zip(0_u64..).cycle();
        bencher.iter(|| {
            let (statement, second) = asked.next().expect("a statement");
            ask(&bundle, &session, statement, Duration::from_secs(second));
        });
    });
    group.finish();
}

/// Prints what one decision took at the middle, and what one in a hundred exceeded.
fn print_figures() {
    for policies in SIZES {
        let bundle = Bundle::load(&files(policies)).expect("a bundle");
        let questions: Vec<Question> = (0..TARGETS).map(question).collect();
        let mut taken: Vec<Duration> = questions
            .iter()
            .cycle()
            .take(TARGETS + DECISIONS)
            .map(|question| {
                let start = Instant::now();
                black_box(decide(black_box(&bundle), question));
                start.elapsed()
            })
            .skip(TARGETS)
            .collect();
        taken.sort_unstable();
        for (key, at) in [("p50", DECISIONS / 2), ("p99", DECISIONS / 100 * 99)] {
            let taken = taken.get(at).expect("a decision");
            println!(
                "figure policies-{policies}.{key} {:.1} µs",
                taken.as_secs_f64() * 1e6
            );
        }
    }
}

fn main() {
    if std::env::args().any(|word| word == "--figures") {
        return print_figures();
    }
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("decide");
    for policies in SIZES {
        let bundle = Bundle::load(&files(policies)).expect("a bundle");
        let questions: Vec<Question> = (0..TARGETS).map(question).collect();
        assert!(matches!(decide(&bundle, &question(7)), Decision::Permit(_)));
        group.bench_function(BenchmarkId::new("policies", policies), |bencher| {
            let mut asked = questions.iter().cycle();
            bencher.iter(|| {
                asked
                    .next()
                    .map(|question| decide(black_box(&bundle), question))
            });
        });
    }
    group.finish();
    bench_statements(&mut criterion);
    let files = files(2_000);
    criterion.bench_function("load 2000 policies", |bencher| {
        bencher.iter(|| Bundle::load(black_box(&files)));
    });
    criterion.final_summary();
}
