//! Listing what is due, waits or gave up.

use sqlx::query;

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::row::{self, Kept};
use super::sql::{clock, columns};
use super::{PostgresStore, count};
use crate::store::listing::{Listed, Page, Which};

/// Lists what is due, and what is from the future. That no index finds among what waits; but the
/// latest time at which anything was written tells at once that there is none, as long as the clock
/// was not set back.
///
/// `$1` namespace, `$2` and `$3` the place after which to begin, `$4` how many.
const DUE: &str = concat!(
    "
    WITH clock AS (
        SELECT now, micros < latest AS is_set_back FROM (",
    clock!(),
    ") AS clock
    )
    SELECT ",
    columns!(),
    " FROM (
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT)
            AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NULL
            AND due <= (SELECT now FROM clock)
         ORDER BY due, key LIMIT (SELECT $4::BIGINT))
        UNION ALL
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT)
            AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NULL
            AND due > (SELECT now FROM clock)
            AND (since > (SELECT now FROM clock) OR lease_since > (SELECT now FROM clock))
            AND (SELECT is_set_back FROM clock)
         ORDER BY due, key LIMIT (SELECT $4::BIGINT))
    ) AS listed ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
);

/// Lists what waits. Parameters as for [`DUE`]; `$2` is NULL to begin with now, so that what is due is
/// not gone through first.
const WAITING: &str = concat!(
    "
    WITH clock AS (SELECT clock_timestamp() AS now)
    SELECT ",
    columns!(),
    " FROM relent
    WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL
        AND (due, key)
            > (COALESCE((SELECT $2::TIMESTAMPTZ), (SELECT now FROM clock)), (SELECT $3::TEXT))
        AND due > (SELECT now FROM clock)
        AND since <= (SELECT now FROM clock)
        AND (lease_since IS NULL OR lease_since <= (SELECT now FROM clock))
    ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
);

/// Lists what gave up: all of that is due at the end of time. Parameters as for [`DUE`].
const GAVE_UP: &str = concat!(
    "
    SELECT ",
    columns!(),
    " FROM relent
    WHERE namespace = (SELECT $1::TEXT)
        AND (due, key) > ((SELECT $2::TIMESTAMPTZ), (SELECT $3::TEXT)) AND gave_up IS NOT NULL
        AND due >= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
    ORDER BY due, key LIMIT (SELECT $4::BIGINT)"
);

impl PostgresStore {
    pub(super) async fn page(&self, page: &Page) -> Result<Vec<Listed>, PostgresError> {
        let statement = match page.which {
            Which::Due => DUE,
            Which::Waiting => WAITING,
            Which::GaveUp => GAVE_UP,
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
                .fetch_all(&self.pool)
        };
        let rows = again(read).await?;
        Self::check(&rows)?;
        let mut listed = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(key) = row::key(row)? {
                let Kept { record, .. } = self.read(row, key)?;
                let key = key.to_owned();
                listed.push(Listed { key, record });
            }
        }
        Ok(listed)
    }
}
