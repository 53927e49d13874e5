//! The columns of several records, as the arrays that a statement takes.

use sqlx::postgres::{PgArguments, PgHasArrayType};
use sqlx::query::Query;
use sqlx::{Encode, Postgres, Type};

use crate::store::lease::Lease;
use crate::store::record::Record;

/// A statement, and the records whose columns it gets: as arrays, or as plain values if there is
/// one record.
pub(super) struct Columns<'q> {
    pub(super) query: Query<'q, Postgres, PgArguments>,
    pub(super) records: &'q [&'q Record],
    pub(super) is_one: bool,
}

impl<'q> Columns<'q> {
    pub(super) fn given<T>(mut self, mut values: Vec<T>) -> Columns<'q>
    where
        T: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        self.query = if self.is_one {
            self.query.bind(values.pop())
        } else {
            self.query.bind(values)
        };
        self
    }

    pub(super) fn of<T>(self, column: impl Fn(&'q Record) -> T) -> Columns<'q>
    where
        T: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        let values = self.records.iter().map(|&record| column(record)).collect();
        self.given(values)
    }

    /// A value that few records have. The array ends after the last of them, and the statement
    /// fills it up with NULL.
    pub(super) fn if_any<T>(mut self, column: impl Fn(&'q Record) -> Option<T>) -> Columns<'q>
    where
        T: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        let mut values: Vec<_> = self.records.iter().map(|&record| column(record)).collect();
        if self.is_one {
            self.query = self.query.bind(values.pop().flatten());
            return self;
        }
        let last = values.iter().rposition(Option::is_some);
        values.truncate(last.map_or(0, |last| last + 1));
        self.query = self.query.bind(values);
        self
    }

    pub(super) fn of_lease<T>(self, column: impl Fn(&'q Lease) -> T) -> Columns<'q>
    where
        T: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        self.if_any(|record| record.lease.as_ref().map(&column))
    }

    /// The same for a flag that few records have.
    pub(super) fn flags(self, flags: &[bool]) -> Columns<'q> {
        let some = flags
            .iter()
            .rposition(|&flag| flag)
            .map_or(0, |last| last + 1);
        let least = usize::from(self.is_one);
        self.given(flags.iter().copied().take(some.max(least)).collect())
    }
}
