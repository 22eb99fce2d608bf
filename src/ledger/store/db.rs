//! One of two databases behind one small door: a text, its values, rows back.
//!
//! Knows no table. The texts are written so that SQLite and Postgres both run them.
//!
//! Invariants: text is made of words of our own; whatever came from outside is a bound value.

use std::borrow::Cow;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Postgres, Row as _, Sqlite, Transaction, Type};

use super::StoreError;

/// A connection pool of either kind.
#[derive(Debug, Clone)]
pub(super) enum Db {
    /// One connection writes, because SQLite has one writer anyway and a queue is fairer than its lock.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// What a `$n` in a text stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Int(i64),
    MaybeInt(Option<i64>),
    MaybeReal(Option<f64>),
    Text(String),
    MaybeText(Option<String>),
    Bool(bool),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A statement and its values.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    pub(super) text: Cow<'static, str>,
    pub(super) values: Vec<Value>,
    /// Whether the connection keeps it prepared: not for texts that hardly come twice.
    pub(super) is_kept: bool,
}

impl Sql {
    pub(super) fn new(text: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        Self { text: text.into(), values, is_kept: true }
    }

    pub(super) fn once(text: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        Self { is_kept: false, ..Self::new(text, values) }
    }
}

/// A statement that writes many lines of one table.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Up to and with `VALUES`.
    pub(super) head: String,
    pub(super) n_columns: usize,
    pub(super) tail: String,
}

/// Lines in one statement, the most first: few texts, so that each stays prepared, and 64 lines of 40 columns
/// are well under either database's limit of parameters.
const LINES_PER_STATEMENT: [usize; 4] = [64, 16, 4, 1];

/// A row of either database.
#[derive(Debug)]
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn get<'r, T>(&'r self, column: &str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// A count, which is never negative.
    pub(super) fn count(&self, column: &str) -> Result<u64, StoreError> {
        Ok(self.get::<i64>(column)?.unsigned_abs())
    }
}

/// Everything or nothing.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

macro_rules! query {
    ($sql:ident) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.text.into_owned())).persistent($sql.is_kept);
        for value in $sql.values {
            query = match value {
                Value::Int(number) => query.bind(number),
                Value::MaybeInt(number) => query.bind(number),
                Value::MaybeReal(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Bool(is) => query.bind(is),
            };
        }
        query
    }};
}

impl Db {
    pub(super) async fn fetch(&self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                query!(sql).fetch_all(readers).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                query!(sql).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Returns how many rows it touched.
    pub(super) async fn execute(&self, sql: Sql) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => query!(sql).execute(writer).await?.rows_affected(),
            Self::Postgres(pool) => query!(sql).execute(pool).await?.rows_affected(),
        })
    }

    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Postings, once for each of their tags; the one thing the two databases say differently.
    pub(super) fn tagged_postings(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                "(SELECT postings.*, json_each.value AS tag FROM postings, json_each(postings.tags)) AS tagged"
            }
            Self::Postgres(_) => {
                "(SELECT postings.*, tag FROM postings, jsonb_array_elements_text(postings.tags::jsonb) AS tag) AS tagged"
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    /// Nobody inserts a posting until this transaction ends. SQLite's only writer is locked out anyway.
    pub(super) async fn lock_postings(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => {
                self.execute(Sql::new("LOCK TABLE postings IN SHARE ROW EXCLUSIVE MODE", Vec::new())).await?;
                Ok(())
            }
        }
    }

    pub(super) async fn fetch(&mut self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                query!(sql).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                query!(sql).fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub(super) async fn execute(&mut self, sql: Sql) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => query!(sql).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => query!(sql).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Writes `values`, line after line, and returns how many lines the database says it touched.
    pub(super) async fn write(&mut self, bulk: &Bulk, values: Vec<Value>) -> Result<u64, StoreError> {
        let mut n_touched = 0;
        for sql in self.statements(bulk, values) {
            n_touched += self.execute(sql).await?;
        }
        Ok(n_touched)
    }

    /// Writes `values` and returns the rows that the statements return.
    pub(super) async fn write_returning(
        &mut self,
        bulk: &Bulk,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for sql in self.statements(bulk, values) {
            rows.extend(self.fetch(sql).await?);
        }
        Ok(rows)
    }

    fn statements(&self, bulk: &Bulk, values: Vec<Value>) -> Vec<Sql> {
        // SQLite finds a numbered parameter by going through all of them, for each of them.
        let is_numbered = matches!(self, Self::Postgres(_));
        let mut n_left = values.len() / bulk.n_columns;
        let mut values = values.into_iter();
        let mut statements = Vec::new();
        while n_left > 0 {
            let n_lines = n_next(n_left);
            n_left -= n_lines;
            let lines = placeholders(is_numbered, n_lines, bulk.n_columns);
            let text = [bulk.head.as_str(), &lines, &bulk.tail].concat();
            statements.push(Sql::new(text, values.by_ref().take(n_lines * bulk.n_columns).collect()));
        }
        statements
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await?,
            Self::Postgres(tx) => tx.rollback().await?,
        }
        Ok(())
    }
}

/// How many of `n` lines the next statement writes.
fn n_next(n: usize) -> usize {
    LINES_PER_STATEMENT.into_iter().find(|size| *size <= n).unwrap_or(n)
}

/// `(?, ?), (?, ?)` or `($1, $2), ($3, $4)` for two lines of two.
fn placeholders(is_numbered: bool, n_lines: usize, n_columns: usize) -> String {
    let mut text = String::with_capacity(n_lines * n_columns * if is_numbered { 6 } else { 2 });
    for nth in 0..n_lines * n_columns {
        text.push_str(match (nth, nth % n_columns) {
            (0, _) => "(",
            (_, 0) => "),(",
            _ => ",",
        });
        text.push(if is_numbered { '$' } else { '?' });
        if is_numbered {
            text.push_str(&(nth + 1).to_string());
        }
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_through() {
        assert_eq!(placeholders(true, 2, 3), "($1,$2,$3),($4,$5,$6)");
        assert_eq!(placeholders(true, 1, 1), "($1)");
        assert_eq!(placeholders(false, 2, 3), "(?,?,?),(?,?,?)");
    }

    #[test]
    fn any_number_of_lines_is_cut_into_few_sizes() {
        for n in 1..200 {
            let mut left = n;
            while left > 0 {
                let size = n_next(left);
                assert!(LINES_PER_STATEMENT.contains(&size), "{size} of {n}");
                left -= size;
            }
        }
    }
}
