//! What is to be written for several keys.

use std::time::SystemTime;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, Postgres, Row, query, query_scalar};

use super::columns::Columns;
use super::error::is_conflict;
use super::keys::Keys;
use super::moment::Moment;
use super::row::{self, Found};
use super::sql::{self, Statement, Writing};
use crate::store::change::{Change, Event, Write};
use crate::store::columns;
use crate::store::record::Record;

/// The changes to several keys, in their order, none of them twice.
pub(super) struct Batch<'a> {
    is_noting: bool,
    is_each_apart: bool,
    made: Made,
    puts: Puts<'a>,
    deletes: Deletes<'a>,
}

/// For each change, `None` if it was not made; otherwise the token of its key's lease, or 0.
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
            is_each_apart: false,
            made: Made::new(),
            puts: Puts::default(),
            deletes: Deletes::default(),
        }
    }

    /// A batch of extensions, each of which is made as if it were alone, except those whose rows
    /// somebody else has locked. In any other batch, all changes are made or none.
    pub(super) fn of_extensions() -> Batch<'a> {
        Batch {
            is_each_apart: true,
            ..Batch::new(false)
        }
    }

    /// Adds what a change says.
    pub(super) fn add<R>(&mut self, key: &'a str, found: &Found, change: &'a Change<R>) {
        let place = self.made.len();
        let events = change.events().into_iter().flatten();
        let events = events.filter(|_| self.is_noting);
        let made = match (change.write(), found) {
            (Write::Put(record), _) => {
                let revision = found.revision();
                self.puts.keys.add(place, key);
                self.puts.is_new.push(revision.is_none());
                let revision = revision.map_or_else(row::first_revision, |it| it.wrapping_add(1));
                self.puts.revisions.push(revision);
                self.puts.is_granted.push(change.is_grant());
                self.puts.records.push(record);
                self.puts.notes.add(key, events, Some(&record.cause));
                None
            }
            (Write::Delete, Found::Kept(kept)) => {
                self.deletes.add(place, key, kept.revision);
                self.deletes.notes.add(key, events, None);
                None
            }
            (Write::Keep | Write::Delete, Found::Place(revision)) => {
                self.deletes.add(place, key, *revision);
                None
            }
            (Write::Keep, Found::Kept(_)) | (Write::Keep | Write::Delete, Found::Nothing) => {
                Some(0)
            }
        };
        self.made.push(made);
    }

    /// Whether this takes more than one statement, and so is one commit only within a transaction:
    /// because some rows are to be written and others deleted, or because one of several new rows
    /// may need another token.
    pub(super) fn is_two_statements(&self) -> bool {
        let puts = &self.puts;
        let is_new_lease = puts.are_granted_anew().any(|it| it);
        !puts.records.is_empty() && !self.deletes.revisions.is_empty()
            || puts.records.len() > 1 && is_new_lease
    }

    /// Writes to the rows that are still as they were read at `now`.
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
            let statement = self.is_each_apart.then_some(&*sql::EXTEND);
            puts.write(statement, connection, namespace, now, &mut made)
                .await?;
        }
        if !self.deletes.revisions.is_empty() {
            let deletes = self.deletes;
            deletes.write(connection, namespace, now, &mut made).await?;
        }
        Ok(made)
    }
}

/// Gives a lease another token, if it still has this one, and returns the new one.
///
/// If the row is already committed, this is tried until the database does not refuse it, since
/// nobody else knows of the lease.
async fn regrant(
    connection: &mut PgConnection,
    namespace: &str,
    key: Option<&&str>,
    token: Option<i64>,
) -> Result<Option<i64>, sqlx::Error> {
    loop {
        let regranted = query_scalar(sql::REGRANT)
            .bind(namespace)
            .bind(key)
            .bind(token)
            .fetch_optional(&mut *connection)
            .await;
        match regranted {
            Err(error) if is_conflict(&error) && !connection.is_in_transaction() => {}
            regranted => return regranted,
        }
    }
}

impl Puts<'_> {
    /// Whether these are nothing but failures of keys that go on waiting: no key has a lease or
    /// gave up, and all was recorded `now`. Most of what is ever written is of this kind.
    fn are_failures(&self, now: Moment) -> bool {
        self.records.iter().all(|record| {
            record.lease.is_none() && record.gave_up.is_none() && Moment::of(record.since) == now
        })
    }

    /// For each, whether it is a new lease in a new row.
    fn are_granted_anew(&self) -> impl Iterator<Item = bool> {
        let granted = self.is_granted.iter().zip(&self.is_new);
        granted.map(|(&is_granted, &is_new)| is_granted && is_new)
    }

    async fn write(
        mut self,
        statement: Option<&'static Statement>,
        connection: &mut PgConnection,
        namespace: &str,
        now: Moment,
        made: &mut Made,
    ) -> Result<(), sqlx::Error> {
        let are_new = (self.is_new.contains(&true), self.is_new.contains(&false));
        let writing: &'static Writing = match are_new {
            (true, false) => &sql::PUT_NEW,
            (false, _) => &sql::PUT_OVER,
            (true, true) => &sql::PUT,
        };
        let is_new_lease: Vec<_> = self.are_granted_anew().collect();
        let is_noting = self.notes.are_any();
        let brief = writing.failures();
        let brief = brief.filter(|_| !is_noting && statement.is_none() && self.are_failures(now));
        let statement = statement.or(brief);
        let statement = statement.unwrap_or_else(|| writing.noting(is_noting));
        let put = query(statement.about(self.records.len()));
        let columns = Columns {
            query: put.bind(namespace).bind(now).bind(now.micros()),
            records: &self.records,
            is_one: self.records.len() == 1,
        };
        let columns = columns
            .given(self.keys.names.clone())
            .given(self.revisions)
            .of(|record| i64::from(record.state.failures))
            .of(|record| columns::duration(record.state.interval))
            .of(|record| Moment::of(record.first_failure))
            .of(|record| Moment::of(record.until))
            .of(|record| record.cause.as_str());
        if brief.is_some() {
            return write_failures(columns, &self.keys, connection, made).await;
        }
        let columns = columns
            .of(|record| Moment::of(record.since))
            .of(|record| record.due().map_or(Moment::NEVER, Moment::of))
            .if_any(|record| record.gave_up.map(columns::reason))
            .flags(&self.is_granted)
            .of_lease(|lease| columns::token(lease.token))
            .of_lease(|lease| lease.holder.as_str())
            .of_lease(|lease| Moment::of(lease.since))
            .of_lease(|lease| Moment::of(lease.until))
            .flags(&self.is_new);
        let put = self.notes.given(columns.query);
        let rows = put.fetch_all(&mut *connection).await?;
        for row in &rows {
            let Some(at) = self.keys.at(row)? else {
                continue;
            };
            let mut token: Option<i64> = row.try_get(1)?;
            if is_new_lease.get(at) == Some(&true) && token != row.try_get(2)? {
                // Another lease of the key may have come and gone between the token and the row.
                token = regrant(connection, namespace, self.keys.names.get(at), token).await?;
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

/// Carries out a statement of [failures](Puts::are_failures), and notes which of them were made.
async fn write_failures(
    columns: Columns<'_>,
    keys: &Keys<'_>,
    connection: &mut PgConnection,
    made: &mut Made,
) -> Result<(), sqlx::Error> {
    let query = columns.query;
    let are_written = if columns.is_one {
        query.execute(connection).await?.rows_affected() > 0
    } else {
        query.fetch_one(connection).await?.try_get::<i64, _>(0)? > 0
    };
    if are_written {
        keys.make_all(made);
    }
    Ok(())
}

impl<'a> Deletes<'a> {
    fn add(&mut self, place: usize, key: &'a str, revision: i64) {
        self.keys.add(place, key);
        self.revisions.push(revision);
    }

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
            self.events.push(event.name());
            self.causes.push(columns::cause(event, cause));
        }
    }

    fn are_any(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Binds the notes to a statement that takes them, if there are any.
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
