//! A storm of leases over kills.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sallyport_api::gateway::{OpenSession, Reply};
use sallyport_control::broker;
use sallyport_core::id::{AuthenticationId, GatewayId};
use sallyport_testkit::effort;

use super::{LATE, READERS, Story};
use crate::support::{
    chance::{Random, for_steps},
    gateway::asking,
};

/// Lifetimes that are asked for, seconds: from this,
const SHORTEST_S: u64 = 5;
/// and so many possibilities.
const LIFETIMES: u64 = 56;
/// Sessions that are asked for at once.
const AT_ONCE: usize = 8;
const SEED: u64 = 25;

/// How long things really took, whatever the story's clock said.
#[derive(Debug, Default)]
struct Spent {
    made: u32,
    making: Duration,
    seconds: u32,
    ending: Duration,
    longest_catching_up: Duration,
}

impl Spent {
    async fn second(&mut self, story: &Story) {
        let began = Instant::now();
        story.second().await;
        self.seconds += 1;
        self.ending += began.elapsed();
    }
}

/// R14, D4, VA-4: sessions of 5 to 60 seconds, each with a user at a real server, over kills in the middle of
/// making and ending them: no user is there five seconds after its lease's end, and none is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_storm_of_leases_over_kills_then_no_user_outlives_its_lease() {
    let mut random = Random(SEED);
    let mut story = Story::new().await;
    let kills = effort::rounds(3).min(20);
    let sessions = effort::rounds(10);
    let mut spent = Spent::default();
    for kill in 0..kills {
        let (serving, gateway, proof) = story.gateway().await;
        let id = story.gateway_id();
        let mut opened = 0;
        for _ in 0..sessions {
            if opened >= sessions {
                break;
            }
            let asked = some(&mut random, &proof);
            let began = Instant::now();
            let replies = join_all(open(&story, &id, &asked)).await;
            spent.making += began.elapsed();
            for (asked, reply) in asked.iter().zip(replies) {
                match reply {
                    Reply::Opened(_) => {
                        opened += 1;
                        spent.made += 1;
                    }
                    // Its grant ended: another is asked for.
                    Reply::Challenge(_) | Reply::Refused(_) => {
                        let lifetime_s = SHORTEST_S + random.below(LIFETIMES);
                        story.ask(&asked.account.to_string(), lifetime_s).await;
                    }
                    other => panic!("seed {SEED}: {other:?}"),
                }
            }
            if random.below(2) == 0 {
                spent.second(&story).await;
            }
            if random.below(10) == 0 {
                let overdue = story.overdue();
                assert_eq!(overdue, Vec::<String>::new(), "seed {SEED}, kill {kill}");
            }
        }
        assert!(opened >= sessions, "seed {SEED}, kill {kill}: {opened}");
        // Killed while some are being made, and while others are being ended.
        let asked = some(&mut random, &proof);
        let steps = usize::try_from(random.below(60)).unwrap();
        for_steps(steps, join_all(open(&story, &id, &asked))).await;
        let passed = Duration::from_secs(random.below(30));
        story.node.clock.advance(passed);
        let steps = usize::try_from(random.below(60)).unwrap();
        for_steps(steps, story.second()).await;
        let away = Duration::from_secs(random.below(90));
        story = story.restart(serving, gateway, away).await;
        let began = Instant::now();
        for _ in 0..LATE.as_secs() {
            spent.second(&story).await;
        }
        spent.longest_catching_up = spent.longest_catching_up.max(began.elapsed());
        let overdue = story.overdue();
        assert_eq!(overdue, Vec::<String>::new(), "seed {SEED}, kill {kill}");
    }
    println!("{spent:?}, {:?} each to make", spent.making / spent.made);
    for _ in 0..SHORTEST_S + LIFETIMES + LATE.as_secs() {
        story.second().await;
    }
    assert_eq!(story.users(), Vec::<String>::new(), "seed {SEED}");
    let open: Vec<_> = story
        .leases("")
        .await
        .into_iter()
        .filter(|lease| lease["engine"] == "postgres" && lease["state"] != "revoked")
        .collect();
    assert!(open.is_empty(), "seed {SEED}: {open:#?}");
}

/// Sessions as readers by chance.
fn some(random: &mut Random, proof: &AuthenticationId) -> Vec<OpenSession> {
    let mut asked = Vec::new();
    for _ in 0..AT_ONCE {
        let reader = format!("r{}", random.below(READERS));
        asked.push(asking(proof, &reader, "orders", "postgres"));
    }
    asked
}

fn open<'a>(
    story: &'a Story,
    gateway_id: &'a GatewayId,
    asked: &'a [OpenSession],
) -> impl Iterator<Item = impl Future<Output = Reply> + 'a> {
    asked
        .iter()
        .map(|asked| broker::open::open_session(&story.node.control, gateway_id, asked))
}
