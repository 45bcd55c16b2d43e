//! Proofs made over a gateway: short-lived, in memory, good for the connection they were made on.
//!
//! INVARIANT: a proof answers only to the gateway and connection that made it, and is forgotten
//! [`UNUSED`] after its last use. A restart of control forgets all: gateways then prove anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_core::{
    id::{AuthenticationId, GatewayId, PersonId},
    principal::{Authentication, PersonName},
    time::Timestamp,
};

/// A proof that nobody asked about for so long is gone.
const UNUSED: Duration = Duration::from_secs(10 * 60);
/// No proof lives longer, however much it is used: an approval is not waited for longer than this.
const AGE_MAX: Duration = Duration::from_secs(8 * 3600);
/// Proofs of one connection: it has one person, and adds a factor or two.
const OF_CONNECTION_MAX: usize = 4;
/// Proofs in all; a gateway that makes more is told that they are unknown.
const COUNT_MAX: usize = 65_536;

/// One proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) gateway_id: GatewayId,
    pub(super) connection: u64,
    pub(super) person_id: PersonId,
    pub(super) person: PersonName,
    pub(super) authentication: Authentication,
}

#[derive(Debug)]
struct Kept {
    proof: Proof,
    made_at: Timestamp,
    used_at: Timestamp,
}

impl Kept {
    fn is_live(&self, now: Timestamp) -> bool {
        now < self.used_at.plus(UNUSED) && now < self.made_at.plus(AGE_MAX)
    }
}

/// The proofs that live.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<HashMap<AuthenticationId, Kept>>);

impl Proofs {
    fn lock(&self) -> MutexGuard<'_, HashMap<AuthenticationId, Kept>> {
        // Every change is one insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a proof; false when there is no room, and then the proof does not exist.
    pub(super) fn keep(&self, id: AuthenticationId, proof: Proof, now: Timestamp) -> bool {
        let mut kept = self.lock();
        if kept.len() >= COUNT_MAX {
            kept.retain(|_, kept| kept.is_live(now));
        }
        let of_connection = kept
            .values()
            .filter(|kept| {
                kept.proof.gateway_id == proof.gateway_id
                    && kept.proof.connection == proof.connection
                    && kept.is_live(now)
            })
            .count();
        if kept.len() >= COUNT_MAX || of_connection >= OF_CONNECTION_MAX {
            return false;
        }
        kept.insert(
            id,
            Kept {
                proof,
                made_at: now,
                used_at: now,
            },
        );
        true
    }

    /// The proof, if it lives and was made on this connection of this gateway. Using it keeps it alive.
    pub(super) fn find(
        &self,
        gateway_id: &GatewayId,
        connection: u64,
        id: &AuthenticationId,
        now: Timestamp,
    ) -> Option<Proof> {
        let mut all = self.lock();
        let kept = all.get_mut(id)?;
        if !kept.is_live(now) {
            all.remove(id);
            return None;
        }
        if kept.proof.gateway_id != *gateway_id || kept.proof.connection != connection {
            return None;
        }
        kept.used_at = now;
        Some(kept.proof.clone())
    }

    /// Forgets a proof, as when a stronger one replaces it.
    pub(super) fn forget(&self, id: &AuthenticationId) {
        self.lock().remove(id);
    }

    /// Forgets every proof of a person, as when a factor of theirs was removed: what was proven with it
    /// proves nothing any more, on connections that are open too.
    pub(super) fn forget_person(&self, person_id: &PersonId) {
        self.lock()
            .retain(|_, kept| kept.proof.person_id != *person_id);
    }

    /// Forgets what is no longer live.
    pub(super) fn prune(&self, now: Timestamp) {
        self.lock().retain(|_, kept| kept.is_live(now));
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::principal::AuthenticationStrength;

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn gateway(number: u8) -> GatewayId {
        GatewayId::new(Timestamp::EPOCH, [number; 10])
    }

    fn id(number: u8) -> AuthenticationId {
        AuthenticationId::new(Timestamp::EPOCH, [number; 10])
    }

    fn proof(connection: u64) -> Proof {
        Proof {
            gateway_id: gateway(1),
            connection,
            person_id: PersonId::new(Timestamp::EPOCH, [1; 10]),
            person: "alice".parse().unwrap(),
            authentication: Authentication {
                strength: AuthenticationStrength::SingleFactor,
                at: at(0),
                methods: vec!["ssh_key".to_owned()],
            },
        }
    }

    #[test]
    fn given_a_proof_when_asked_for_elsewhere_then_there_is_none() {
        let proofs = Proofs::default();
        assert!(proofs.keep(id(1), proof(7), at(0)));
        assert!(proofs.find(&gateway(1), 7, &id(1), at(1)).is_some());
        assert!(proofs.find(&gateway(1), 8, &id(1), at(1)).is_none());
        assert!(proofs.find(&gateway(2), 7, &id(1), at(1)).is_none());
        assert!(proofs.find(&gateway(1), 7, &id(2), at(1)).is_none());
    }

    #[test]
    fn given_a_proof_when_used_then_it_lives_on_and_unused_it_is_gone_after_ten_minutes() {
        let proofs = Proofs::default();
        proofs.keep(id(1), proof(7), at(0));
        assert!(proofs.find(&gateway(1), 7, &id(1), at(599)).is_some());
        assert!(proofs.find(&gateway(1), 7, &id(1), at(599 + 599)).is_some());
        assert!(
            proofs
                .find(&gateway(1), 7, &id(1), at(599 + 599 + 600))
                .is_none()
        );
    }

    #[test]
    fn given_a_proof_used_all_the_time_then_it_still_ends() {
        let proofs = Proofs::default();
        proofs.keep(id(1), proof(7), at(0));
        let end = i64::try_from(AGE_MAX.as_secs()).unwrap();
        for s in (0..end).step_by(500) {
            assert!(proofs.find(&gateway(1), 7, &id(1), at(s)).is_some(), "{s}");
        }
        assert!(proofs.find(&gateway(1), 7, &id(1), at(end)).is_none());
    }

    #[test]
    fn given_a_connection_that_makes_proof_after_proof_then_it_is_stopped() {
        let proofs = Proofs::default();
        for number in 0..4 {
            assert!(proofs.keep(id(number), proof(7), at(0)));
        }
        assert!(!proofs.keep(id(9), proof(7), at(0)));
        assert!(proofs.keep(id(9), proof(8), at(0)));
    }
}
