//! Statements that both databases understand, and the rows that they return.

use std::error::Error;
use std::fmt::Display;

/// What was read from a row, or what is wrong with it.
pub(crate) type Decoded<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Called with each row of a statement.
pub(crate) type EachRow<'a> = &'a mut (dyn FnMut(&dyn Columns) -> Decoded<()> + Send);

/// A statement that both databases understand, with its parameters `$1`, `$2`, ….
///
/// It names tables as PostgreSQL's migrations do: SQLite's have no prefix, and PostgreSQL's get their schema.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(super) parameters: Vec<Parameter>,
    /// It may read all events. Other statements have the time that a delivery has.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a server limits the time"))]
    pub(crate) may_take_minutes: bool,
}

#[derive(Clone)]
pub(super) enum Parameter {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Statement {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: Vec::new(), may_take_minutes: false }
    }

    /// A statement that may take minutes.
    pub(super) fn long(sql: impl Into<String>) -> Self {
        Self { may_take_minutes: true, ..Self::new(sql) }
    }

    /// Adds the value of the next parameter.
    pub(super) fn bind(mut self, value: Parameter) -> Self {
        self.parameters.push(value);
        self
    }

    pub(super) fn push(&mut self, sql: impl Display) -> &mut Self {
        self.sql += &sql.to_string();
        self
    }

    /// Appends a parameter with its value.
    pub(super) fn push_bind(&mut self, value: Parameter) -> &mut Self {
        self.parameters.push(value);
        self.sql += &format!("${}", self.parameters.len());
        self
    }
}

/// A row of either database. Its integers have 64 bits.
pub(crate) trait Columns {
    fn number(&self, column: &str) -> Decoded<i64>;
    fn optional_number(&self, column: &str) -> Decoded<Option<i64>>;
    fn text(&self, column: &str) -> Decoded<String>;
    fn optional_text(&self, column: &str) -> Decoded<Option<String>>;
    fn bytes(&self, column: &str) -> Decoded<Vec<u8>>;
    fn optional_bytes(&self, column: &str) -> Decoded<Option<Vec<u8>>>;
}

/// What the databases write differently in a [`Statement`].
pub(crate) struct Dialect {
    /// The time of day, of the type that columns for it have.
    pub(super) now: &'static str,
    /// The difference of two such times that are a microsecond apart.
    pub(super) microsecond: &'static str,
    /// Such a time as microseconds since 1970.
    pub(super) since_epoch: fn(&str) -> String,
    /// The function that returns the greatest of its arguments.
    pub(super) greatest: &'static str,
    /// The number of stored events, at the cost of a few rows.
    pub(super) estimated_events: &'static str,
}

impl Dialect {
    #[cfg(any(feature = "sqlite", test))]
    pub(crate) const SQLITE: Self = Self {
        now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        microsecond: "1",
        since_epoch: str::to_owned,
        greatest: "max",
        estimated_events: "coalesce((SELECT max(seq) FROM smartshape_inbox_events) \
             - (SELECT min(seq) FROM smartshape_inbox_events) + 1, 0)",
    };
    #[cfg(feature = "postgres")]
    pub(crate) const POSTGRES: Self = Self {
        now: "now()",
        microsecond: "interval '1 us'",
        since_epoch: |time| format!("(extract(epoch FROM {time}) * 1000000)::bigint"),
        greatest: "greatest",
        // The server's estimate, or for a table that was never vacuumed the range of the numbers, which has gaps.
        estimated_events: "coalesce((SELECT nullif(greatest(c.reltuples, 0), 0)::bigint FROM pg_class c \
             WHERE c.oid = 'smartshape_inbox_events'::regclass), \
             (SELECT max(seq) - min(seq) + 1 FROM smartshape_inbox_events), 0)",
    };
}
