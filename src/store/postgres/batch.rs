//! What is to be written of several keys, as the arrays that a statement takes.

use std::collections::HashMap;
use std::time::SystemTime;

use sqlx::postgres::{PgArguments, PgConnection, PgHasArrayType};
use sqlx::query::Query;
use sqlx::{Encode, Postgres, Row, Type, query, query_scalar};

use super::moment::Moment;
use super::row::Kept;
use super::sql;
use crate::random;
use crate::store::change::{Change, Event, Write};
use crate::store::columns;
use crate::store::lease::Lease;
use crate::store::record::Record;

/// The changes to several keys, none of them twice.
#[derive(Default)]
pub(super) struct Batch<'a> {
    puts: Puts<'a>,
    deletes: Deletes<'a>,
}

#[derive(Default)]
struct Puts<'a> {
    keys: Vec<&'a str>,
    is_new: Vec<bool>,
    revisions: Vec<i64>,
    is_granted: Vec<bool>,
    records: Vec<&'a Record>,
    notes: Notes<'a>,
}

#[derive(Default)]
struct Deletes<'a> {
    keys: Vec<&'a str>,
    revisions: Vec<i64>,
    notes: Notes<'a>,
}

#[derive(Default)]
struct Notes<'a> {
    keys: Vec<&'a str>,
    events: Vec<&'static str>,
    causes: Vec<Option<&'a str>>,
}

/// The keys for which the change was made; and the tokens of those that have a lease.
pub(super) type Written = HashMap<String, Option<i64>>;

impl<'a> Batch<'a> {
    /// Adds what a change says, if that is to write anything. Returns whether it is.
    pub(super) fn add<R>(
        &mut self,
        key: &'a str,
        kept: Option<&Kept>,
        change: &'a Change<R>,
        history: bool,
    ) -> bool {
        let events = change.events().into_iter().flatten().filter(|_| history);
        match (change.write(), kept) {
            (Write::Keep, _) | (Write::Delete, None) => return false,
            (Write::Put(record), _) => {
                self.puts.keys.push(key);
                self.puts.is_new.push(kept.is_none());
                let revision = kept.map_or_else(random_start, |kept| kept.revision.wrapping_add(1));
                self.puts.revisions.push(revision);
                self.puts.is_granted.push(change.is_grant());
                self.puts.records.push(record);
                self.puts.notes.add(key, events, Some(&record.cause));
            }
            (Write::Delete, Some(kept)) => {
                self.deletes.keys.push(key);
                self.deletes.revisions.push(kept.revision);
                self.deletes.notes.add(key, events, None);
            }
        }
        true
    }

    /// Writes what is still as it was read at `now`.
    pub(super) async fn write(
        self,
        connection: &mut PgConnection,
        namespace: &str,
        now: SystemTime,
    ) -> Result<Written, sqlx::Error> {
        let mut written = Written::new();
        if !self.puts.keys.is_empty() {
            self.puts
                .write(connection, namespace, now, &mut written)
                .await?;
        }
        if !self.deletes.keys.is_empty() {
            self.deletes
                .write(connection, namespace, now, &mut written)
                .await?;
        }
        Ok(written)
    }
}

/// Where the revisions of a new row begin, so that they are never those of an earlier row.
fn random_start() -> i64 {
    // Two bits fewer than there are: room to count up, and no sign.
    i64::try_from(random::seed() >> 2).unwrap_or_default()
}

impl Puts<'_> {
    /// The one that does no more than it must.
    fn statement(&self) -> &'static str {
        let keys = self.keys.len();
        match (self.is_new.contains(&true), self.is_new.contains(&false)) {
            (true, false) => sql::PUT_NEW.about(keys),
            (false, _) => sql::PUT_OVER.about(keys),
            (true, true) => sql::PUT,
        }
    }

    async fn write(
        self,
        connection: &mut PgConnection,
        namespace: &str,
        now: SystemTime,
        written: &mut Written,
    ) -> Result<(), sqlx::Error> {
        let put = query(self.statement())
            .bind(namespace)
            .bind(Moment::of(now));
        let put = Columns(put, &self.records);
        let rows = put
            .given(&self.keys)
            .given(&self.is_new)
            .given(&self.revisions)
            .given(&self.is_granted)
            .of(|record| i64::from(record.state.failures))
            .of(|record| columns::duration(record.state.interval))
            .of(|record| Moment::of(record.first_failure))
            .of(|record| Moment::of(record.since))
            .of(|record| Moment::of(record.until))
            .of(|record| record.due().map_or(Moment::NEVER, Moment::of))
            .of(|record| Moment::of(record.written()))
            .of(|record| record.gave_up.map(columns::reason))
            .of(|record| record.cause.as_str())
            .of_lease(|lease| columns::token(lease.token))
            .of_lease(|lease| lease.holder.as_str())
            .of_lease(|lease| Moment::of(lease.since))
            .of_lease(|lease| Moment::of(lease.until))
            .0
            .bind(&self.notes.keys)
            .bind(&self.notes.events)
            .bind(&self.notes.causes)
            .fetch_all(&mut *connection)
            .await?;
        let mut last_token = None;
        for row in rows {
            last_token = last_token.max(row.try_get::<Option<i64>, _>("last_token")?);
            written.insert(row.try_get("key")?, row.try_get("token")?);
        }
        let granted = self.is_granted.iter().zip(&self.is_new);
        for ((&key, &revision), (&is_granted, &is_new)) in
            self.keys.iter().zip(&self.revisions).zip(granted)
        {
            let Some(token) = written.get_mut(key).filter(|_| is_granted && is_new) else {
                continue;
            };
            if *token == last_token {
                continue;
            }
            // Another lease of the key may have come and gone between the token and the row.
            *token = query_scalar(sql::REGRANT)
                .bind(namespace)
                .bind(key)
                .bind(revision)
                .fetch_optional(&mut *connection)
                .await?;
            if token.is_none() {
                written.remove(key);
            }
        }
        Ok(())
    }
}

/// A statement, and the records whose columns it gets: as arrays, or as they are if there is one.
struct Columns<'q>(Query<'q, Postgres, PgArguments>, &'q [&'q Record]);

impl<'q> Columns<'q> {
    fn given<T>(self, values: &[T]) -> Columns<'q>
    where
        T: Copy + Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        let Columns(query, records) = self;
        let query = match values {
            [value] => query.bind(*value),
            _ => query.bind(values.to_vec()),
        };
        Columns(query, records)
    }

    fn of<T>(self, column: impl Fn(&'q Record) -> T) -> Columns<'q>
    where
        T: Copy + Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        let values: Vec<_> = self.1.iter().map(|&record| column(record)).collect();
        self.given(&values)
    }

    fn of_lease<T>(self, column: impl Fn(&'q Lease) -> T) -> Columns<'q>
    where
        T: Copy + Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        self.of(|record| record.lease.as_ref().map(&column))
    }
}

impl Deletes<'_> {
    async fn write(
        self,
        connection: &mut PgConnection,
        namespace: &str,
        now: SystemTime,
        written: &mut Written,
    ) -> Result<(), sqlx::Error> {
        let rows = query(sql::DELETE)
            .bind(namespace)
            .bind(Moment::of(now))
            .bind(&self.keys)
            .bind(&self.revisions)
            .bind(&self.notes.keys)
            .bind(&self.notes.events)
            .bind(&self.notes.causes)
            .fetch_all(connection)
            .await?;
        for row in rows {
            written.insert(row.try_get("key")?, None);
        }
        Ok(())
    }
}

impl<'a> Notes<'a> {
    fn add(&mut self, key: &'a str, events: impl Iterator<Item = Event>, cause: Option<&'a str>) {
        for event in events {
            self.keys.push(key);
            self.events.push(columns::event(event));
            self.causes
                .push(cause.filter(|_| columns::has_cause(event)));
        }
    }
}
