//! Statements and rows, the same for SQLite and PostgreSQL: SQL text with `$1` placeholders, three
//! column types (`TEXT`, `BIGINT`, `BYTEA`), and rows read by column name.
//!
//! INVARIANT: SQL text is `&'static str`; values only ever travel as bound arguments.

use std::{fmt::Display, str::FromStr};

use async_trait::async_trait;
use sallyport_core::time::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Arguments as _, Row as _,
    postgres::{PgArguments, PgConnection, PgRow},
    sqlite::{SqliteArguments, SqliteConnection, SqliteRow},
};

use super::database::StoreError;

/// A bound argument. Absent values keep their type, because PostgreSQL insists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `TEXT`.
    Text(Option<String>),
    /// `BIGINT`.
    Int(Option<i64>),
    /// `BYTEA`.
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// The value as JSON text, for columns that hold whole documents.
    ///
    /// # Errors
    /// [`StoreError::Encode`] when it cannot be encoded.
    pub fn json(value: &impl Serialize) -> Result<Self, StoreError> {
        serde_json::to_string(value)
            .map(|text| Self::Text(Some(text)))
            .map_err(StoreError::Encode)
    }

    /// Any id or name, by its printed form.
    pub fn shown(value: &impl Display) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<u64> for Value {
    /// Counts and sizes; anything beyond 2⁶³−1 is stored as that.
    fn from(value: u64) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.unix_ms()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Int(value.map(Timestamp::unix_ms))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

/// Bound arguments, in order: `params![person.id.as_str(), now, true]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::kernel::statement::Value::from($value)),*] };
}

/// One row of a result.
#[derive(Debug)]
pub enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
}

macro_rules! column {
    ($row:expr, $column:expr, $type:ty) => {
        match $row {
            Row::Sqlite(row) => row.try_get::<$type, _>($column),
            Row::Postgres(row) => row.try_get::<$type, _>($column),
        }
        .map_err(|source| StoreError::Column {
            column: $column.to_owned(),
            source,
        })
    };
}

impl Row {
    /// A text column.
    ///
    /// # Errors
    /// [`StoreError::Column`] when it is absent, null or of another type; so for all readers here.
    pub fn text(&self, column: &str) -> Result<String, StoreError> {
        column!(self, column, String)
    }

    /// A text column that may be null.
    pub fn text_or_null(&self, column: &str) -> Result<Option<String>, StoreError> {
        column!(self, column, Option<String>)
    }

    /// A whole number.
    pub fn int(&self, column: &str) -> Result<i64, StoreError> {
        column!(self, column, i64)
    }

    /// A whole number that may be null.
    pub fn int_or_null(&self, column: &str) -> Result<Option<i64>, StoreError> {
        column!(self, column, Option<i64>)
    }

    /// A count or size; a negative one is damage.
    pub fn count(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.int(column)?).map_err(|_| StoreError::Damaged {
            place: column.to_owned(),
            problem: "a negative count".to_owned(),
        })
    }

    /// A flag stored as 0 or 1.
    pub fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    /// Bytes.
    pub fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        column!(self, column, Vec<u8>)
    }

    /// Bytes that may be null.
    pub fn bytes_or_null(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        column!(self, column, Option<Vec<u8>>)
    }

    /// A point in time.
    pub fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.int(column).map(Timestamp::from_unix_ms)
    }

    /// A point in time that may be null.
    pub fn time_or_null(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.int_or_null(column)?.map(Timestamp::from_unix_ms))
    }

    /// An id or name by its printed form.
    pub fn parsed<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(column)?
            .parse()
            .map_err(|error: T::Err| StoreError::Damaged {
                place: column.to_owned(),
                problem: error.to_string(),
            })
    }

    /// An id or name by its printed form, which may be null.
    pub fn parsed_or_null<T>(&self, column: &str) -> Result<Option<T>, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text_or_null(column)? {
            Some(_) => self.parsed(column).map(Some),
            None => Ok(None),
        }
    }

    /// A document stored as JSON text, which may be null.
    pub fn json_or_null<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        match self.text_or_null(column)? {
            Some(_) => self.json(column).map(Some),
            None => Ok(None),
        }
    }

    /// A document stored as JSON text.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| StoreError::Damaged {
            place: column.to_owned(),
            problem: error.to_string(),
        })
    }
}

/// A connection of either kind.
#[derive(Debug)]
pub enum ConnectionMut<'a> {
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
}

impl ConnectionMut<'_> {
    /// All rows of a query.
    ///
    /// # Errors
    /// [`StoreError::Statement`]; so for all here.
    pub async fn all(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let failed = |source| StoreError::Statement { sql, source };
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(sql, sqlite_arguments(sql, arguments)?);
                let rows = query.fetch_all(&mut **connection).await.map_err(failed)?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let query = sqlx::query_with(sql, postgres_arguments(sql, arguments)?);
                let rows = query.fetch_all(&mut **connection).await.map_err(failed)?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement; returns the number of rows it touched.
    pub async fn run(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let failed = |source| StoreError::Statement { sql, source };
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(sql, sqlite_arguments(sql, arguments)?);
                Ok(query
                    .execute(&mut **connection)
                    .await
                    .map_err(failed)?
                    .rows_affected())
            }
            Self::Postgres(connection) => {
                let query = sqlx::query_with(sql, postgres_arguments(sql, arguments)?);
                Ok(query
                    .execute(&mut **connection)
                    .await
                    .map_err(failed)?
                    .rows_affected())
            }
        }
    }
}

fn sqlite_arguments(sql: &'static str, values: Vec<Value>) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Int(number) => arguments.add(number),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(|error| StoreError::Statement {
            sql,
            source: sqlx::Error::Encode(error),
        })?;
    }
    Ok(arguments)
}

fn postgres_arguments(sql: &'static str, values: Vec<Value>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Int(number) => arguments.add(number),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(|error| StoreError::Statement {
            sql,
            source: sqlx::Error::Encode(error),
        })?;
    }
    Ok(arguments)
}

/// Whatever statements can be run on: a [`Reader`](super::database::Reader) or a
/// [`Transaction`](super::transaction::Transaction). Slices take `&mut dyn Sql`, so that one function
/// serves both.
#[async_trait]
pub trait Sql: Send {
    /// The connection underneath.
    ///
    /// # Errors
    /// [`StoreError`] when it takes no more statements.
    async fn connection(&mut self) -> Result<ConnectionMut<'_>, StoreError>;

    /// All rows of a query. Bound it with `LIMIT`.
    async fn all(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.connection().await?.all(sql, arguments).await
    }

    /// The first row of a query, if any.
    async fn optional(
        &mut self,
        sql: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, arguments).await?.into_iter().next())
    }
}
