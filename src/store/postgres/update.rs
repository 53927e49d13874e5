//! Changing rows: reading them, deciding what becomes of them, and writing that if they are still
//! as they were read.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, query};

use super::PostgresStore;
use super::batch::Batch;
use super::error::PostgresError;
use super::keys::Finder;
use super::lent::Lent;
use super::moment::Moment;
use super::row::{self, Found};
use super::sql::{self, Statement};
use crate::store::change::Change;
use crate::store::future::AsyncTransactional;
use crate::store::record::Record;
use crate::store::rounds::{Contended, Place, Rounds};
use crate::store::unreadable::Unreadable;

/// How rows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As they are: others may change them.
    Open,
    /// Locked: until the end of the transaction, nobody else changes them.
    Locked,
}

impl PostgresStore {
    /// Reads what is kept of a key, and the time.
    pub(super) async fn look(
        &self,
        key: &str,
    ) -> Result<(Option<Record>, SystemTime), PostgresError> {
        let mut connection = self.pool.acquire().await?;
        let (mut found, now) = self.find(&mut connection, Reading::Open, &[key]).await?;
        let record = match found.pop().transpose()? {
            Some(Found::Kept(kept)) => Some(kept.record),
            _ => None,
        };
        Ok((record, now))
    }

    /// Reads the rows of several keys, which are sorted, and the time.
    pub(super) async fn find(
        &self,
        connection: &mut PgConnection,
        reading: Reading,
        keys: &[&str],
    ) -> Result<(Vec<Result<Found, Unreadable>>, SystemTime), PostgresError> {
        let statement: &'static Statement = match reading {
            Reading::Open => &sql::READ,
            Reading::Locked => &sql::LOCK,
        };
        let read = query(statement.about(keys.len())).bind(&self.namespace);
        let mut places = Vec::new();
        let read = match (keys, reading) {
            ([key], _) => read.bind(*key),
            (_, Reading::Open) => read.bind(keys),
            (_, Reading::Locked) => {
                places.extend(keys.iter().map(|_| row::first_revision()));
                read.bind(keys).bind(places.clone())
            }
        };
        let rows = read.fetch_all(connection).await?;
        Self::check(&rows, &row::ALL)?;
        let mut all: Vec<_> = keys.iter().map(|_| Ok(Found::Nothing)).collect();
        let mut finder = Finder::default();
        let mut now = Moment::BEGINNING;
        for row in &rows {
            // The latest, as no row may be from the future.
            now = now.max(row::now(row)?);
            let Some(key) = row::key(row)? else {
                continue;
            };
            let Some(at) = finder.find(keys, key) else {
                continue;
            };
            if let Some(found) = all.get_mut(at) {
                *found = self.read(row, key).map(|kept| match places.get(at) {
                    Some(&place) if kept.revision == place => Found::Place(place),
                    _ => Found::Kept(kept),
                });
            }
        }
        Ok((all, now.time().unwrap_or(UNIX_EPOCH)))
    }

    /// Makes changes to several keys, sorted and none of them twice, if nobody interferes. Returns
    /// the answers of those that were made. Either all that is to be written is, or nothing.
    async fn attempt<R: Send>(
        &self,
        connection: &mut PgConnection,
        reading: Reading,
        keys: &[Place<'_>],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<R>>, PostgresError> {
        let names: Vec<_> = keys.iter().map(|&(_, key)| key).collect();
        let (found, now) = self.find(connection, reading, &names).await?;
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        let batch = Batch::new(self.history);
        self.make(connection, keys, &found, now, batch, change)
            .await
    }

    /// Makes changes to what was found of several keys, as far as it is still as found; `batch` is
    /// to be empty.
    pub(super) async fn make<R: Send>(
        &self,
        connection: &mut PgConnection,
        keys: &[Place<'_>],
        found: &[Found],
        now: SystemTime,
        mut batch: Batch<'_>,
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<R>>, PostgresError> {
        let each = keys.iter().zip(found);
        let changes = each.map(|(&(n, _), found)| change(n, found.record(), now));
        let changes: Vec<_> = changes.collect();
        for ((&(_, key), found), change) in keys.iter().zip(found).zip(&changes) {
            batch.add(key, found, change);
        }
        if batch.is_two_statements() && !connection.is_in_transaction() {
            // None of it is made: it would be two commits. The next round locks.
            return Ok(Vec::new());
        }
        let made = batch.write(connection, &self.namespace, now).await?;
        let answers = changes.into_iter().zip(made).map(|(change, made)| {
            let token = made?;
            let Ok(settled) = change.settle(|| Ok::<_, Infallible>(token));
            Some(settled.answer)
        });
        Ok(answers.collect())
    }

    /// Makes changes to several keys, in one transaction and with the rows locked.
    ///
    /// The isolation is set, whatever that of other transactions: at a stricter one, a transaction
    /// that has waited for a row is refused it because it has changed meanwhile, and nobody could
    /// make sure of a turn.
    async fn attempt_locked<R: Send>(
        &self,
        connection: &mut PgConnection,
        keys: &[&str],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<R>, PostgresError> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut transaction = Connection::begin_with(connection, begin).await?;
        let mut rounds = Rounds::of(keys);
        loop {
            let places = rounds.next(usize::MAX)?;
            if places.is_empty() {
                transaction.commit().await?;
                return Ok(rounds.answers()?);
            }
            let made = self
                .attempt(&mut transaction, Reading::Locked, &places, change)
                .await?;
            // Where a row appeared or a lease ran out meanwhile, the next round decides anew.
            rounds.made(places, made);
        }
    }

    /// Makes a change to each of several keys, or to none of them.
    pub(super) async fn change_all<R: Send>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, PostgresError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.pool.acquire().await?;
        let mut lent = Lent(None);
        let (connection, change) = lent.0.insert((connection, change));
        let made = self.change_on(connection, keys, change).await;
        lent.0 = None;
        made
    }

    async fn change_on<R: Send>(
        &self,
        connection: &mut PgConnection,
        keys: &[&str],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<R>, PostgresError> {
        let mut rounds = Rounds::of(keys);
        let places = rounds.next(usize::MAX)?;
        // At first without locks, as others hardly ever interfere; after that, make sure of our
        // turn. A key that is there twice takes two statements.
        if places.len() == keys.len() {
            let made = self.attempt(connection, Reading::Open, &places, change);
            match made.await {
                Err(error) if error.is_conflict() => {}
                made => {
                    let made = made?;
                    if are_all(&made, &places) {
                        rounds.made(places, made);
                        return Ok(rounds.answers()?);
                    }
                }
            }
        }
        for _ in 0..Rounds::<R>::MOST {
            let made = self.attempt_locked(connection, keys, change);
            match made.await {
                Err(error) if error.is_conflict() => {}
                made => return made,
            }
        }
        Err(Contended.into())
    }
}

fn are_all<R>(made: &[Option<R>], places: &[Place<'_>]) -> bool {
    made.len() == places.len() && made.iter().all(Option::is_some)
}

/// Within a transaction that sqlx has begun on the connection, at any level of isolation. The
/// transaction keeps the key's row locked until it ends: others wait.
///
/// After [`PostgresError::Contended`] or a serialization failure, do the whole transaction again.
impl AsyncTransactional for PostgresStore {
    type Connection<'a> = &'a mut PgConnection;

    async fn update_in<R: Send + 'static>(
        &self,
        connection: Self::Connection<'_>,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, PostgresError> {
        if !connection.is_in_transaction() {
            return Err(PostgresError::NoTransaction);
        }
        let mut change = move |_: usize, record: Option<&Record>, now| change(record, now);
        for _ in 0..Rounds::<R>::MOST {
            let keys = [(0, key)];
            let made = self.attempt(connection, Reading::Locked, &keys, &mut change);
            if let Some(answer) = made.await?.pop().flatten() {
                return Ok(answer);
            }
        }
        Err(Contended.into())
    }
}
