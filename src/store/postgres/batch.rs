//! What is to be written of several keys.

use std::time::SystemTime;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row, query, query_scalar};

use super::columns::Columns;
use super::keys::Keys;
use super::moment::Moment;
use super::row::Kept;
use super::sql::{self, Writing};
use crate::random;
use crate::store::change::{Change, Event, Write};
use crate::store::columns;
use crate::store::record::Record;

/// The changes to several keys, in their order, none of them twice.
pub(super) struct Batch<'a> {
    is_noting: bool,
    made: Made,
    puts: Puts<'a>,
    deletes: Deletes<'a>,
}

/// For each change whether it was made; and the token of its key's lease, or 0.
pub(super) type Made = Vec<Option<u64>>;

#[derive(Default)]
struct Puts<'a> {
    keys: Keys<'a>,
    is_new: Vec<bool>,
    revisions: Vec<i64>,
    is_granted: Vec<bool>,
    records: Vec<&'a Record>,
    notes: Notes<'a>,
}

#[derive(Default)]
struct Deletes<'a> {
    keys: Keys<'a>,
    revisions: Vec<i64>,
    notes: Notes<'a>,
}

#[derive(Default)]
struct Notes<'a> {
    keys: Vec<&'a str>,
    events: Vec<&'static str>,
    causes: Vec<Option<&'a str>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(is_noting: bool) -> Batch<'a> {
        Batch {
            is_noting,
            made: Made::new(),
            puts: Puts::default(),
            deletes: Deletes::default(),
        }
    }

    /// Adds what a change says.
    pub(super) fn add<R>(&mut self, key: &'a str, kept: Option<&Kept>, change: &'a Change<R>) {
        let place = self.made.len();
        let events = change.events().into_iter().flatten();
        let events = events.filter(|_| self.is_noting);
        match (change.write(), kept) {
            (Write::Keep, _) | (Write::Delete, None) => {
                self.made.push(Some(0));
                return;
            }
            (Write::Put(record), _) => {
                self.puts.keys.add(place, key);
                self.puts.is_new.push(kept.is_none());
                let revision = kept.map_or_else(random_start, |kept| kept.revision.wrapping_add(1));
                self.puts.revisions.push(revision);
                self.puts.is_granted.push(change.is_grant());
                self.puts.records.push(record);
                self.puts.notes.add(key, events, Some(&record.cause));
            }
            (Write::Delete, Some(kept)) => {
                self.deletes.keys.add(place, key);
                self.deletes.revisions.push(kept.revision);
                self.deletes.notes.add(key, events, None);
            }
        }
        self.made.push(None);
    }

    /// Whether some rows are to be written and others deleted: one commit only within a transaction.
    pub(super) fn is_two_statements(&self) -> bool {
        !self.puts.records.is_empty() && !self.deletes.revisions.is_empty()
    }

    /// Writes what is still as it was read at `now`.
    pub(super) async fn write(
        self,
        connection: &mut PgConnection,
        namespace: &str,
        now: SystemTime,
    ) -> Result<Made, sqlx::Error> {
        let mut made = self.made;
        let now = Moment::of(now);
        if !self.puts.records.is_empty() {
            let puts = self.puts;
            puts.write(connection, namespace, now, &mut made).await?;
        }
        if !self.deletes.revisions.is_empty() {
            let deletes = self.deletes;
            deletes.write(connection, namespace, now, &mut made).await?;
        }
        Ok(made)
    }
}

/// Where the revisions of a new row begin, so that they are never those of an earlier row.
fn random_start() -> i64 {
    // Two bits fewer than there are: room to count up, and no sign.
    i64::try_from(random::seed() >> 2).unwrap_or_default()
}

impl Puts<'_> {
    /// The one that does no more than it must; and whether it is without the columns of a lease.
    fn statement(&self) -> (&'static str, bool) {
        let writing: Writing = match (self.is_new.contains(&true), self.is_new.contains(&false)) {
            (true, false) => sql::PUT_NEW,
            (false, _) => sql::PUT_OVER,
            (true, true) => sql::PUT,
        };
        let is_noting = self.notes.are_any();
        let is_free = !is_noting && self.records.iter().all(|record| record.lease.is_none());
        let free = writing.free().filter(|_| is_free);
        let statement = free.unwrap_or(writing.noting(is_noting));
        (statement.about(self.records.len()), free.is_some())
    }

    async fn write(
        mut self,
        connection: &mut PgConnection,
        namespace: &str,
        now: Moment,
        made: &mut Made,
    ) -> Result<(), sqlx::Error> {
        let (statement, is_free) = self.statement();
        let put = query(statement).bind(namespace).bind(now);
        let columns = Columns {
            query: put.bind(now.micros()),
            records: &self.records,
            is_one: self.records.len() == 1,
        };
        let mut columns = columns
            .given(self.keys.names.clone())
            .given(self.revisions)
            .of(|record| i64::from(record.state.failures))
            .of(|record| columns::duration(record.state.interval))
            .of(|record| Moment::of(record.first_failure))
            .of(|record| Moment::of(record.since))
            .of(|record| Moment::of(record.until))
            .of(|record| record.due().map_or(Moment::NEVER, Moment::of))
            .of(|record| record.cause.as_str())
            .if_any(|record| record.gave_up.map(columns::reason));
        if !is_free {
            columns = columns
                .flags(&self.is_granted)
                .of_lease(|lease| columns::token(lease.token))
                .of_lease(|lease| lease.holder.as_str())
                .of_lease(|lease| Moment::of(lease.since))
                .of_lease(|lease| Moment::of(lease.until))
                .flags(&self.is_new);
        }
        let put = self.notes.given(columns.query);
        let rows = put.fetch_all(&mut *connection).await?;
        let granted = self.is_granted.iter().zip(&self.is_new);
        let granted = granted.map(|(&is_granted, &is_new)| is_granted && is_new);
        let is_new_lease: Vec<_> = granted.collect();
        let mut last_token = None;
        if is_new_lease.contains(&true) {
            for row in &rows {
                last_token = last_token.max(row.try_get::<Option<i64>, _>(2)?);
            }
        }
        for row in &rows {
            let Some(at) = self.keys.at(row)? else {
                continue;
            };
            let mut token: Option<i64> = row.try_get(1)?;
            if is_new_lease.get(at) == Some(&true) && token != last_token {
                // Another lease of the key may have come and gone between the token and the row.
                token = query_scalar(sql::REGRANT)
                    .bind(namespace)
                    .bind(self.keys.names.get(at))
                    .bind(token)
                    .fetch_optional(&mut *connection)
                    .await?;
                if token.is_none() {
                    continue;
                }
            }
            let token = token.map_or(Some(0), |token| u64::try_from(token).ok());
            self.keys.make(at, token.unwrap_or_default(), made);
        }
        Ok(())
    }
}

impl Deletes<'_> {
    async fn write(
        mut self,
        connection: &mut PgConnection,
        namespace: &str,
        now: Moment,
        made: &mut Made,
    ) -> Result<(), sqlx::Error> {
        let statement = sql::DELETE.noting(self.notes.are_any());
        let delete = query(statement.about(self.revisions.len()));
        let columns = Columns {
            query: delete.bind(namespace).bind(now),
            records: &[],
            is_one: self.revisions.len() == 1,
        };
        let delete = columns
            .given(self.keys.names.clone())
            .given(self.revisions)
            .query;
        for row in &self.notes.given(delete).fetch_all(connection).await? {
            if let Some(at) = self.keys.at(row)? {
                self.keys.make(at, 0, made);
            }
        }
        Ok(())
    }
}

impl<'a> Notes<'a> {
    fn add(&mut self, key: &'a str, events: impl Iterator<Item = Event>, cause: Option<&'a str>) {
        for event in events {
            self.keys.push(key);
            self.events.push(columns::event(event));
            self.causes.push(columns::cause(event, cause));
        }
    }

    fn are_any(&self) -> bool {
        !self.keys.is_empty()
    }

    /// To a statement that takes them, if there are any.
    fn given<'q>(self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments>
    where
        'a: 'q,
    {
        if !self.are_any() {
            return query;
        }
        query.bind(self.keys).bind(self.events).bind(self.causes)
    }
}
