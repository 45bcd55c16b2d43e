//! A change and its record, together: `begin`, statements, `commit(events)`.
//!
//! INVARIANT: a change commits with at least one audit event, because [`Events`] holds at least one by
//! construction; `commit` returns only when both are durable. Dropping a transaction undoes it.
//!
//! Rows that are nobody's decision (tree tiles, checkpoints, delivery attempts) are written by
//! [`Transaction::commit_operational`], limited to [`OperationalTable`].

use async_trait::async_trait;
use sallyport_core::{
    event::{Actor, Events},
    time::Timestamp,
};

use super::{
    database::StoreError,
    statement::{ConnectionMut, Sql, Value},
    writer::Held,
};

/// A change in the making.
#[derive(Debug)]
pub struct Transaction {
    held: Held,
    actor: Actor,
    is_operational_only: bool,
    is_changed: bool,
}

/// Tables whose rows are nobody's decision and may change without an audit event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationalTable {
    /// Hash tiles of the log.
    AuditTile,
    /// Signed checkpoints of the log.
    AuditCheckpoint,
    /// Notices waiting for delivery: attempts and delivery marks.
    Notice,
    /// Failed sign-ins counted per name.
    SignInFailure,
}

impl OperationalTable {
    const fn name(self) -> &'static str {
        match self {
            Self::AuditTile => "audit_tile",
            Self::AuditCheckpoint => "audit_checkpoint",
            Self::Notice => "notice",
            Self::SignInFailure => "sign_in_failure",
        }
    }
}

/// Proof that a change is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Sequence number of its first audit entry.
    pub first_seq: u64,
    /// Time recorded in its entries.
    pub at: Timestamp,
}

impl Transaction {
    pub(super) const fn new(held: Held, actor: Actor) -> Self {
        Self {
            held,
            actor,
            is_operational_only: true,
            is_changed: false,
        }
    }

    /// Runs a changing statement; returns the number of rows it touched.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] on a unique violation, else [`StoreError::Statement`].
    pub async fn run(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<u64, StoreError> {
        self.is_operational_only = false;
        self.execute(sql, arguments).await
    }

    /// Runs a changing statement on a table that needs no audit event.
    ///
    /// # Errors
    /// [`StoreError::Statement`], also when the statement does not name that table.
    pub async fn run_operational(
        &mut self,
        table: OperationalTable,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let is_about_table = sql
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .take(3)
            .any(|word| word == table.name());
        if !is_about_table {
            let source =
                sqlx::Error::Protocol("an operational statement on another table".to_owned());
            return Err(StoreError::Statement { sql, source });
        }
        self.execute(sql, arguments).await
    }

    async fn execute(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<u64, StoreError> {
        self.is_changed = true;
        let result = self.connection().await?.run(sql, arguments).await;
        match result {
            Err(error) if error.is_unique_violation() => Err(StoreError::Conflict),
            other => other,
        }
    }

    /// Who changes.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Commits the change with its record; returns when both are durable.
    ///
    /// # Errors
    /// [`StoreError::NotDurable`] or [`StoreError::Entry`]; nothing of the change happened then.
    pub async fn commit(self, events: Events) -> Result<Committed, StoreError> {
        self.held.commit(&self.actor, events).await
    }

    /// Commits rows that are nobody's decision, without a record.
    ///
    /// # Errors
    /// [`StoreError::NotDurable`], also when the transaction ran a statement that needs a record.
    pub async fn commit_operational(self) -> Result<(), StoreError> {
        if !self.is_operational_only {
            return Err(StoreError::NotDurable {
                cause: "a change of state needs an audit event".to_owned(),
            });
        }
        if self.is_changed {
            self.held.commit_without_record().await
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Sql for Transaction {
    async fn connection(&mut self) -> Result<ConnectionMut<'_>, StoreError> {
        self.held.connection().await
    }
}
