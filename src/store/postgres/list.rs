//! Listing what is due, waits or gave up.

use std::sync::LazyLock;

use sqlx::postgres::PgRow;
use sqlx::query;

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::row::{self, Kept};
use super::sql::{CLOCK, IS_READABLE, REST, STREAK, is_wanted};
use super::{PostgresStore, count};
use crate::store::listing::{Listed, Page, Which};
use crate::store::unreadable::Unreadable;

/// Lists what is due, and what is from the future. No index finds the latter among what waits; but
/// as long as the clock was not set back, the latest time at which anything was written tells at
/// once that there is none.
///
/// `$1` namespace, `$2` and `$3` the place after which to begin, `$4` how many, `$5` whether also
/// those that cannot be read.
static DUE: LazyLock<String> = LazyLock::new(|| {
    let is_wanted = is_wanted(5);
    format!(
        "
    WITH clock AS (
        SELECT now, micros < latest AS is_set_back FROM ({CLOCK}) AS clock
    )
    SELECT {STREAK}, {REST} FROM (
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT)
            AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NULL
            AND due <= (SELECT now FROM clock)
            AND {is_wanted}
         ORDER BY due, key LIMIT (SELECT $4::BIGINT))
        UNION ALL
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT)
            AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NULL
            AND due > (SELECT now FROM clock)
            AND (since > (SELECT now FROM clock) OR lease_since > (SELECT now FROM clock))
            AND (SELECT is_set_back FROM clock)
            AND {is_wanted}
         ORDER BY due, key LIMIT (SELECT $4::BIGINT))
    ) AS listed ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
    )
});

/// Lists what waits. Parameters as for [`DUE`]; `$2` is NULL to begin with the present, so that
/// what is due is not gone through first.
static WAITING: LazyLock<String> = LazyLock::new(|| {
    let is_wanted = is_wanted(5);
    format!(
        "
    WITH clock AS (SELECT clock_timestamp() AS now)
    SELECT {STREAK}, {REST} FROM relent
    WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL
        AND (due, key)
            > (COALESCE((SELECT $2::TIMESTAMPTZ), (SELECT now FROM clock)), (SELECT $3::TEXT))
        AND due > (SELECT now FROM clock)
        AND since <= (SELECT now FROM clock)
        AND (lease_since IS NULL OR lease_since <= (SELECT now FROM clock))
        AND {is_wanted}
    ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
    )
});

/// Lists what gave up: all of that is due at the end of time. Parameters as for [`DUE`].
static GAVE_UP: LazyLock<String> = LazyLock::new(|| {
    let is_wanted = is_wanted(5);
    format!(
        "
    SELECT {STREAK}, {REST} FROM relent
    WHERE namespace = (SELECT $1::TEXT)
        AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NOT NULL
        AND due >= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
        AND {is_wanted}
    ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
    )
});

/// `$1` namespace, `$2` how many.
static UNREADABLE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "
    SELECT {STREAK}, {REST} FROM relent WHERE namespace = (SELECT $1::TEXT) AND ({IS_READABLE}) IS NOT TRUE
    ORDER BY key LIMIT (SELECT $2::BIGINT)"
    )
});

impl PostgresStore {
    /// The keys of the namespace whose rows cannot be read, up to `limit` of them.
    ///
    /// Such a row is an error wherever its key is asked for, and is not written to. Lists, claims
    /// and heartbeats pass it over, so that it stands in the way of no other key; it is the error
    /// of a list or a claim only where there is nothing else to answer. So call this now and then,
    /// and repair or delete such rows. It reads the whole table.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PostgresError> {
        let read = || {
            query(UNREADABLE.as_str())
                .bind(&self.namespace)
                .bind(count(limit))
                .fetch_all(&self.pool)
        };
        let rows = again(read).await?;
        Ok(self.each(&rows)?.filter_map(Result::err).collect())
    }

    pub(super) async fn page(&self, page: &Page) -> Result<Vec<Listed>, PostgresError> {
        let rows = self.rows(page, true).await?;
        let (mut listed, unreadable) = self.listed(&rows)?;
        let Some(unreadable) = unreadable else {
            return Ok(listed);
        };
        if rows.len() >= page.limit {
            // There may be more behind those that cannot be read.
            (listed, _) = self.listed(&self.rows(page, false).await?)?;
        }
        if listed.is_empty() && page.after.is_none() {
            return Err(PostgresError::Unreadable(unreadable));
        }
        Ok(listed)
    }

    /// The rows of a page, with or without those that cannot be read.
    async fn rows(&self, page: &Page, any: bool) -> Result<Vec<PgRow>, PostgresError> {
        let statement: &'static str = match page.which {
            Which::Due => &DUE,
            Which::Waiting => &WAITING,
            Which::GaveUp => &GAVE_UP,
        };
        let (due, key) = match &page.after {
            None if page.which == Which::Waiting => (None, ""),
            None => (Some(Moment::BEGINNING), ""),
            Some(after) => (Some(Moment::of(after.due)), after.key.as_str()),
        };
        let read = || {
            query(statement)
                .bind(&self.namespace)
                .bind(due)
                .bind(key)
                .bind(count(page.limit))
                .bind(any)
                .fetch_all(&self.pool)
        };
        again(read).await
    }

    /// What can be read of some rows, and the first that cannot.
    fn listed(&self, rows: &[PgRow]) -> Result<(Vec<Listed>, Option<Unreadable>), PostgresError> {
        let mut listed = Vec::with_capacity(rows.len());
        let mut unreadable = None;
        for row in self.each(rows)? {
            match row {
                Ok(row) => listed.push(row),
                Err(row) => drop(unreadable.get_or_insert(row)),
            }
        }
        Ok((listed, unreadable))
    }

    fn each(
        &self,
        rows: &[PgRow],
    ) -> Result<impl Iterator<Item = Result<Listed, Unreadable>>, PostgresError> {
        Self::check(rows, &row::ALL)?;
        let keys = rows
            .iter()
            .map(|row| Ok(row::key(row)?.unwrap_or_default()));
        let keys = keys.collect::<Result<Vec<_>, sqlx::Error>>()?;
        let rows = rows.iter().zip(keys);
        Ok(rows.map(|(row, key)| {
            let Kept { record, .. } = self.read(row, key)?;
            let key = key.to_owned();
            Ok(Listed { key, record })
        }))
    }
}
