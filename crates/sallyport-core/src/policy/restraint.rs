//! What policies demand of everything that passes in a session: only a session's protocol can enforce it.
//!
//! INVARIANT: a restraint that a protocol does not enforce refuses the session, or ends it; it is never left out.

use super::Constraints;

/// Something that is enforced on what passes, by whoever understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restraint {
    /// Nothing is written.
    ReadOnly,
    /// Results are limited, and so is the time that they take.
    Budgets,
    /// Columns of results are not shown as they are.
    Masks,
}

/// Some restraints: those that a protocol enforces, or those that policies demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restraints {
    /// [`Restraint::ReadOnly`].
    pub read_only: bool,
    /// [`Restraint::Budgets`].
    pub budgets: bool,
    /// [`Restraint::Masks`].
    pub masks: bool,
}

impl Restraints {
    /// None of them.
    pub const NONE: Self = Self {
        read_only: false,
        budgets: false,
        masks: false,
    };

    /// All of them.
    pub const ALL: Self = Self {
        read_only: true,
        budgets: true,
        masks: true,
    };

    /// What these limits demand.
    #[must_use]
    pub fn demanded_by(constraints: &Constraints) -> Self {
        Self {
            read_only: constraints.read_only || !constraints.masks.is_empty(),
            budgets: !constraints.budgets.is_none(),
            masks: !constraints.masks.is_empty(),
        }
    }

    /// The gravest of these that is none of `enforced`.
    #[must_use]
    pub const fn beyond(self, enforced: Self) -> Option<Restraint> {
        if self.masks && !enforced.masks {
            Some(Restraint::Masks)
        } else if self.budgets && !enforced.budgets {
            Some(Restraint::Budgets)
        } else if self.read_only && !enforced.read_only {
            Some(Restraint::ReadOnly)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Budget, Constraint, Mask, Masks};

    /// PO-2: whatever is demanded and not enforced is found, and nothing else.
    #[test]
    fn given_demands_then_those_that_are_not_enforced_are_found() {
        let mask = Constraint::Mask {
            columns: Masks::from([("*.*.customer.email".parse().unwrap(), Mask::Null)]),
        };
        let budget = Constraint::Budget {
            of: Budget::GrantRows,
            most: 5,
        };
        let cases = [
            (vec![], None),
            (vec![Constraint::ReadOnly], Some(Restraint::ReadOnly)),
            (vec![budget.clone()], Some(Restraint::Budgets)),
            (vec![mask.clone()], Some(Restraint::Masks)),
            (
                vec![Constraint::ReadOnly, budget, mask],
                Some(Restraint::Masks),
            ),
            (vec![Constraint::IdleTimeout { seconds: 60 }], None),
        ];
        for (demands, expected) in cases {
            let limits = demands
                .iter()
                .fold(Constraints::default(), Constraints::tightened);
            let demanded = Restraints::demanded_by(&limits);
            assert_eq!(demanded.beyond(Restraints::NONE), expected, "{demands:?}");
            assert_eq!(demanded.beyond(Restraints::ALL), None, "{demands:?}");
        }
    }
}
