//! The dice, and the policies and people of the simulation.

use sallyport_core::{
    authz::{Evaluation, PolicyEngine, PolicyError, Question},
    id::{AccountId, PersonId, TargetId},
    policy::{BundleHash, Constraint, Demand, Requirement},
    principal::{AdminRole, AuthenticationStrength, Person},
    time::Timestamp,
};

pub(super) const PEOPLE: usize = 5;
pub(super) const ACCOUNTS: usize = 3;
pub(super) const MAX_DURATION_S: u64 = 4 * 3_600;

/// A small generator with a full period; good enough to choose steps, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// Policies by account: the first needs nothing, the second one vote, the third a vote of each of two
/// groups and a fresh second factor. Now and then they cannot be evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policies {
    pub(super) is_failing: bool,
}

pub(super) fn quorums(account: usize) -> Vec<(u64, Option<&'static str>)> {
    match account {
        0 => vec![],
        1 => vec![(1, None)],
        _ => vec![(1, Some("sre")), (1, Some("dba"))],
    }
}

impl PolicyEngine for Policies {
    fn evaluate(&self, question: &Question) -> Result<Evaluation, PolicyError> {
        let bundle = BundleHash("b".repeat(64));
        if self.is_failing {
            return Err(PolicyError {
                bundle,
                policies: vec!["faulty".into()],
                message: "overflow".into(),
            });
        }
        let account = (0..ACCOUNTS)
            .find(|n| account_id(*n) == question.account.id)
            .expect("an account of the simulation");
        let mut requirements: Vec<Requirement> = quorums(account)
            .into_iter()
            .map(|(count, from)| Requirement::Approval {
                count,
                from: from.map(str::to_owned),
            })
            .collect();
        if account == 2 {
            requirements.push(Requirement::Mfa {
                strength: AuthenticationStrength::MultiFactor,
                max_age_s: Some(900),
            });
        }
        Ok(Evaluation {
            bundle,
            is_authorised: true,
            determining: vec!["permit".into()],
            is_forbidden: false,
            demands: vec![Demand {
                policy: "demand".into(),
                requirements,
                constraints: vec![Constraint::MaxDuration {
                    seconds: MAX_DURATION_S,
                }],
            }],
        })
    }
}

pub(super) fn account_id(account: usize) -> AccountId {
    AccountId::new(Timestamp::EPOCH, [u8::try_from(account).unwrap() + 1; 10])
}

pub(super) fn target_id(account: usize) -> TargetId {
    // The first two accounts are on one target, the third on another.
    TargetId::new(
        Timestamp::EPOCH,
        [u8::try_from(account / 2).unwrap() + 1; 10],
    )
}

pub(super) fn people() -> Vec<Person> {
    let groups: [&[&str]; 5] = [&["sre"], &["dba"], &["sre", "dba"], &[], &["dba"]];
    let people = groups.iter().enumerate().map(|(n, groups)| Person {
        id: PersonId::new(Timestamp::EPOCH, [u8::try_from(n).unwrap() + 1; 10]),
        name: format!("person-{n}").parse().unwrap(),
        display_name: String::new(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        // The last one asks but never votes; the first two also close reviews.
        admin_roles: match n {
            0 | 1 => vec![AdminRole::Approver, AdminRole::Security],
            4 => vec![],
            _ => vec![AdminRole::Approver],
        },
        is_enabled: true,
    });
    people.collect()
}
