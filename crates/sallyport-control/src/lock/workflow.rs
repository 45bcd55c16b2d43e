//! Set and remove locks.

use std::time::Duration;

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::LockId,
    lock::{Lock, LockScope},
};

use super::store;
use crate::{
    broker,
    kernel::{control::Control, database::StoreError, ids},
};

/// Why a lock was not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none of this id.
    #[error("there is no such lock")]
    NotFound,
    /// A field is not acceptable.
    #[error("`{field}`: {problem}")]
    BadField {
        /// Which.
        field: &'static str,
        /// What is wrong and what is accepted.
        problem: &'static str,
    },
    /// So many are in force that a decision could not see all.
    #[error("there are 1,000 locks already; remove some, or lock everything")]
    TooMany,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Sets a lock and ends every live session it stops.
///
/// # Errors
/// [`LockError`].
pub async fn add(
    control: &Control,
    actor: Actor,
    scope: LockScope,
    reason: &str,
    ttl: Option<Duration>,
) -> Result<Lock, LockError> {
    if !(1..=500).contains(&reason.trim().chars().count()) {
        return Err(LockError::BadField {
            field: "reason",
            problem: "must be 1 to 500 characters",
        });
    }
    let now = control.now();
    let lock = Lock {
        id: LockId::new(now, ids::entropy()),
        scope,
        reason: reason.trim().to_owned(),
        until: ttl.map(|ttl| now.plus(ttl)),
    };
    let mut tx = control.db().begin(actor).await?;
    if store::in_force(&mut tx, now).await?.len()
        >= usize::try_from(store::LOCKS_MAX).unwrap_or(usize::MAX)
    {
        return Err(LockError::TooMany);
    }
    store::put(&mut tx, &lock).await?;
    let event = Event::new(EventName::LockAdded, &lock.id)
        .with("scope", &lock.scope)
        .with("reason", &lock.reason)
        .with("until", lock.until);
    tx.commit(Events::one(event)).await?;
    broker::end_for_lock(control, &lock.scope, &lock.reason).await?;
    Ok(lock)
}

/// Removes a lock.
///
/// # Errors
/// [`LockError`].
pub async fn remove(control: &Control, actor: Actor, id: &LockId) -> Result<(), LockError> {
    let mut tx = control.db().begin(actor).await?;
    if !store::remove(&mut tx, id).await? {
        return Err(LockError::NotFound);
    }
    tx.commit(Events::one(Event::new(EventName::LockRemoved, id)))
        .await?;
    Ok(())
}
