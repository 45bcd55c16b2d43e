//! What the statements of a session may take, and what those under its grant have taken.
//!
//! Counts of a grant are kept in this process until the grant has run out, over all its sessions here.
//!
//! INVARIANT: limits only become stricter; a count never becomes smaller.
//!
//! Not here: cutting a result off (protocols).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sallyport_core::{
    authz::{PermitTerms, Reason},
    id::GrantId,
    policy::{Budgets, Constraints, Masks},
    time::Timestamp,
};

/// What statements under one grant have taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// What was taken under every grant that is not over.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<HashMap<GrantId, (Timestamp, Arc<Taken>)>>);

impl Ledger {
    /// The counts of the grant that a permit is for.
    pub(crate) fn of(&self, terms: &PermitTerms, now: Timestamp) -> Arc<Taken> {
        let Some(grant) = &terms.question.grant else {
            return Arc::default();
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (until, _)| *until > now);
        let (_, taken) = all
            .entry(grant.id.clone())
            .or_insert_with(|| (grant.until, Arc::default()));
        Arc::clone(taken)
    }
}

/// What one session's statements may take.
#[derive(Debug)]
pub(crate) struct Allowance {
    budgets: Mutex<Budgets>,
    is_limited: AtomicBool,
    is_read_only: AtomicBool,
    masks: Mutex<Arc<Masks>>,
    is_masked: AtomicBool,
    taken: Arc<Taken>,
}

impl Allowance {
    pub(crate) fn new(taken: Arc<Taken>) -> Self {
        Self {
            budgets: Mutex::default(),
            is_limited: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
            masks: Mutex::default(),
            is_masked: AtomicBool::new(false),
            taken,
        }
    }

    pub(super) fn tighten(&self, constraints: &Constraints) {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        *budgets = budgets.strictest(&constraints.budgets);
        self.is_limited
            .fetch_or(!budgets.is_none(), Ordering::Release);
        self.is_read_only
            .fetch_or(constraints.read_only, Ordering::Release);
        if !constraints.masks.is_empty() {
            let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
            let both = Constraints {
                masks: Masks::clone(&masks),
                ..Constraints::default()
            };
            *masks = Arc::new(both.strictest(constraints).masks);
            self.is_masked.store(true, Ordering::Release);
        }
    }

    pub(super) fn is_masked(&self) -> bool {
        self.is_masked.load(Ordering::Acquire)
    }

    pub(super) fn masks(&self) -> Arc<Masks> {
        Arc::clone(&self.masks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Acquire) || self.is_masked()
    }

    pub(super) fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Acquire)
    }

    pub(super) fn budgets(&self) -> Budgets {
        *self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one more row for a statement that has these rows and bytes with it; the reason when it is too
    /// much.
    pub(super) fn take(&self, rows: u64, bytes: u64, row_bytes: u64) -> Option<Reason> {
        let budgets = self.budgets();
        let is_over = |limit: Option<u64>, count: u64| limit.is_some_and(|most| count > most);
        let grant_rows = self.taken.rows.fetch_add(1, Ordering::Relaxed);
        let grant_bytes = self.taken.bytes.fetch_add(row_bytes, Ordering::Relaxed);
        if is_over(budgets.statement_rows, rows)
            || is_over(budgets.grant_rows, grant_rows.saturating_add(1))
        {
            return Some(Reason::RowBudget);
        }
        let grant_bytes = grant_bytes.saturating_add(row_bytes);
        (is_over(budgets.statement_bytes, bytes) || is_over(budgets.grant_bytes, grant_bytes))
            .then_some(Reason::ByteBudget)
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::policy::{Budget, Constraint};

    use super::*;

    /// PO-2: what sessions of one grant take adds up; limits only become stricter.
    #[test]
    fn given_two_sessions_of_a_grant_then_what_they_take_adds_up() {
        let taken = Arc::new(Taken::default());
        let limited = |most| {
            Constraints::default().tightened(&Constraint::Budget {
                of: Budget::GrantRows,
                most,
            })
        };
        let one = Allowance::new(Arc::clone(&taken));
        let other = Allowance::new(taken);
        assert!(!one.is_limited());
        for allowance in [&one, &other] {
            allowance.tighten(&limited(3));
            allowance.tighten(&limited(100));
        }
        assert_eq!(one.take(1, 10, 10), None);
        assert_eq!(other.take(1, 10, 10), None);
        assert_eq!(one.take(2, 20, 10), None);
        assert_eq!(other.take(2, 20, 10), Some(Reason::RowBudget));
        assert_eq!(one.take(3, 30, 10), Some(Reason::RowBudget));
    }

    /// PO-2
    #[test]
    fn given_limits_of_a_statement_then_its_first_row_beyond_is_too_much() {
        let allowance = Allowance::new(Arc::default());
        for (of, most) in [(Budget::StatementRows, 2), (Budget::StatementBytes, 100)] {
            let budget = Constraint::Budget { of, most };
            allowance.tighten(&Constraints::default().tightened(&budget));
        }
        assert_eq!(allowance.take(2, 100, 50), None);
        assert_eq!(allowance.take(3, 100, 0), Some(Reason::RowBudget));
        assert_eq!(allowance.take(1, 101, 50), Some(Reason::ByteBudget));
    }
}
