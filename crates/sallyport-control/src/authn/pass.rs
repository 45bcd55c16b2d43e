//! Passes: what proves a person to a gateway where a stock client can send nothing but a password.
//!
//! A pass is for one account of one target, lives minutes, and carries the strength and age of the sign-in
//! it was made at. In memory only: a restart of control, or a restored store, knows none.
//!
//! INVARIANT: a pass proves no more than its sign-in did, and nothing once that has ended; it is kept as
//! its hash.
//!
//! Not here: what the person may do with it, which every session asks anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_api::{
    rest::sign_in::{CreatePass, CreatedPass, PassEntrance},
    sensitive::Sensitive,
};
use sallyport_core::{
    authz::{Decision, decide},
    event::{Event, EventName, Events},
    id::PersonId,
    inventory::{AccountName, Selector, TargetName},
    principal::Authentication,
    time::Timestamp,
};

use super::bearer::TokenKind;
use crate::{
    access::facts::{self, Asker},
    kernel::{
        caller::{Bearer, Caller},
        control::Control,
        database::StoreError,
        problem::{Fault, Faulty},
    },
};

/// Protocols whose clients show passes.
const PASS_PROTOCOLS: [&str; 2] = ["mysql", "postgres"];

const TTL_S: std::ops::RangeInclusive<u64> = 30..=3_600;
const TTL_DEFAULT_S: u64 = 600;
/// Passes of one person that live at a time: a script that makes one for each connection is stopped here.
const OF_PERSON_MAX: usize = 256;
const COUNT_MAX: usize = 65_536;

/// Why no pass was made.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// What it should be for cannot be read.
    #[error("read what a pass is for")]
    Selector(#[source] sallyport_core::inventory::ParseSelectorError),
    /// Too short or too long.
    #[error("make a pass that lives {ttl_s} s: {least} to {most} s are allowed", least = TTL_S.start(), most = TTL_S.end())]
    Ttl {
        /// The life asked for.
        ttl_s: u64,
    },
    /// The person, or everybody together, has as many as allowed.
    #[error("make a pass: too many live already")]
    TooMany,
    /// An API token makes none.
    #[error("make a pass with an API token")]
    NeedsSignIn,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for PassError {
    fn fault(&self) -> Fault {
        match self {
            Self::Selector(error) => Fault::field("on", error),
            Self::Ttl { .. } => Fault::field("ttl_s", "is 30 to 3600 (an hour)"),
            Self::TooMany => Fault::Conflict {
                title: "too many passes live already".to_owned(),
                remedy: "use one for several connections, or wait until some have ended",
            },
            Self::NeedsSignIn => Fault::NeedsSignIn,
            Self::Store(error) => error.fault(),
        }
    }
}

/// A pass, without the pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) person_id: PersonId,
    pub(super) authentication: Authentication,
    /// Hash of the token of the sign-in it was made at.
    pub(super) sign_in: Vec<u8>,
    account: AccountName,
    target: TargetName,
    expires_at: Timestamp,
}

/// The passes that live, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<HashMap<Vec<u8>, Pass>>);

impl Passes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Pass>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a pass; false when there is no room.
    fn keep(&self, hash: Vec<u8>, pass: Pass, now: Timestamp) -> bool {
        let mut all = self.lock();
        all.retain(|_, kept| kept.expires_at > now);
        let of_person = all
            .values()
            .filter(|kept| kept.person_id == pass.person_id)
            .count();
        if all.len() >= COUNT_MAX || of_person >= OF_PERSON_MAX {
            return false;
        }
        all.insert(hash, pass);
        true
    }

    /// The pass that was shown for this account, if it lives. What is looked up is a hash, so the time it
    /// takes tells nothing about a pass.
    pub(super) fn find(
        &self,
        shown: &str,
        account: &AccountName,
        target: &TargetName,
        now: Timestamp,
    ) -> Option<Pass> {
        let (TokenKind::Pass, hash) = TokenKind::read(shown)? else {
            return None;
        };
        let found = self.lock().get(&hash).cloned()?;
        let is_for_this =
            found.expires_at > now && found.account == *account && found.target == *target;
        is_for_this.then_some(found)
    }

    /// Forgets the passes of a sign-in, as when its person signs out.
    pub(super) fn forget_sign_in(&self, sign_in: &[u8]) {
        self.lock().retain(|_, kept| kept.sign_in != sign_in);
    }

    /// Forgets the passes of a person, as when what proves them was changed.
    pub(super) fn forget_person(&self, person_id: &PersonId) {
        self.lock().retain(|_, kept| kept.person_id != *person_id);
    }

    /// Forgets what has ended.
    pub(super) fn prune(&self, now: Timestamp) {
        self.lock().retain(|_, kept| kept.expires_at > now);
    }
}

/// Makes a pass of the caller.
pub(super) async fn create(
    control: &Control,
    caller: &Caller,
    body: &CreatePass,
) -> Result<CreatedPass, PassError> {
    let Bearer::SignIn { token_hash } = &caller.bearer else {
        return Err(PassError::NeedsSignIn);
    };
    let selector: Selector = body.on.parse().map_err(PassError::Selector)?;
    let ttl_s = body.ttl_s.unwrap_or(TTL_DEFAULT_S);
    if !TTL_S.contains(&ttl_s) {
        return Err(PassError::Ttl { ttl_s });
    }
    let now = control.now();
    let expires_at = now.plus(Duration::from_secs(ttl_s)).min(caller.expires_at);
    let event = Event::new(EventName::PassIssued, &caller.person.id)
        .with("account", &selector.account)
        .with("target", &selector.target)
        .with("expires_at", expires_at);
    let (text, hash) = TokenKind::Pass.generate();
    let pass = Pass {
        person_id: caller.person.id.clone(),
        authentication: caller.authentication.clone(),
        sign_in: token_hash.clone(),
        account: selector.account,
        target: selector.target,
        expires_at,
    };
    // On record before it proves anything.
    let mut tx = control.db().begin(caller.actor()).await?;
    let asker = Asker {
        person_id: caller.person.id.clone(),
        authentication: caller.authentication.clone(),
        ip: caller.ip,
    };
    // Whoever may never open a session there is not told that there is such a target.
    let protocol = facts::load(&mut tx, &asker, &pass.account, &pass.target, now)
        .await?
        .filter(|facts| {
            let decision = decide(&*control.policies().current(), &facts.about_session());
            !matches!(decision, Decision::Deny { .. })
        })
        .map(|facts| facts.target.protocol);
    tx.commit(Events::one(event)).await?;
    if !control.doors().passes.keep(hash, pass, now) {
        return Err(PassError::TooMany);
    }
    let mut entrances = Vec::new();
    for protocol in PASS_PROTOCOLS {
        for entrance in control.live().entrances(protocol) {
            entrances.push(PassEntrance {
                protocol: protocol.to_owned(),
                port: entrance.port,
            });
        }
    }
    Ok(CreatedPass {
        pass: Sensitive::new(text.expose_secret().clone()),
        expires_at,
        protocol,
        entrances,
    })
}

#[cfg(test)]
mod tests {
    use sallyport_core::principal::AuthenticationStrength;

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn pass(person: u8, expires_s: i64) -> Pass {
        Pass {
            person_id: PersonId::new(Timestamp::EPOCH, [person; 10]),
            authentication: Authentication {
                strength: AuthenticationStrength::MultiFactor,
                at: at(0),
                methods: vec!["password".to_owned()],
            },
            sign_in: vec![person; 32],
            account: "app".parse().unwrap(),
            target: "orders".parse().unwrap(),
            expires_at: at(expires_s),
        }
    }

    fn find(passes: &Passes, text: &str, account: &str, target: &str, now: Timestamp) -> bool {
        passes
            .find(
                text,
                &account.parse().unwrap(),
                &target.parse().unwrap(),
                now,
            )
            .is_some()
    }

    /// ID-5, A10
    #[test]
    fn given_a_pass_then_it_proves_somebody_for_its_account_and_its_minutes_only() {
        let passes = Passes::default();
        let (text, hash) = TokenKind::Pass.generate();
        assert!(passes.keep(hash, pass(1, 600), at(0)));
        let text = text.expose_secret();
        assert!(find(&passes, text, "app", "orders", at(599)));
        assert!(!find(&passes, text, "app", "orders", at(600)));
        assert!(!find(&passes, text, "postgres", "orders", at(1)));
        assert!(!find(&passes, text, "app", "payroll", at(1)));
        let (other, _) = TokenKind::Pass.generate();
        let mut short = text.clone();
        short.pop();
        for wrong in ["", "spp_", other.expose_secret(), &short] {
            assert!(!find(&passes, wrong, "app", "orders", at(1)), "{wrong}");
        }
    }

    /// ID-5
    #[test]
    fn given_a_sign_in_that_ends_then_its_passes_end_and_no_others() {
        let passes = Passes::default();
        let (first, first_hash) = TokenKind::Pass.generate();
        let (second, second_hash) = TokenKind::Pass.generate();
        passes.keep(first_hash, pass(1, 600), at(0));
        passes.keep(second_hash, pass(2, 600), at(0));
        passes.forget_sign_in(&[1; 32]);
        assert!(!find(
            &passes,
            first.expose_secret(),
            "app",
            "orders",
            at(1)
        ));
        assert!(find(
            &passes,
            second.expose_secret(),
            "app",
            "orders",
            at(1)
        ));
        passes.forget_person(&PersonId::new(Timestamp::EPOCH, [2; 10]));
        assert!(!find(
            &passes,
            second.expose_secret(),
            "app",
            "orders",
            at(1)
        ));
    }

    #[test]
    fn given_somebody_who_makes_pass_after_pass_then_they_alone_are_stopped() {
        let passes = Passes::default();
        for _ in 0..OF_PERSON_MAX {
            assert!(passes.keep(TokenKind::Pass.generate().1, pass(1, 600), at(0)));
        }
        assert!(!passes.keep(TokenKind::Pass.generate().1, pass(1, 600), at(0)));
        assert!(passes.keep(TokenKind::Pass.generate().1, pass(2, 600), at(0)));
        assert!(passes.keep(TokenKind::Pass.generate().1, pass(1, 700), at(600)));
    }
}
