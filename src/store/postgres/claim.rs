//! Taking what is due.

use std::time::Duration;

use sqlx::{Row, query};

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::row::{self, Kept};
use super::sql::{clock, columns};
use super::{PostgresStore, count};
use crate::store::listing::{Listed, Page, Which};
use crate::store::step::Start;

/// Takes what is due and has no lease, and answers with the rows as they are then. Of what is due
/// and has a lease that ran out it answers the keys, in rows that lack everything else, and leaves it:
/// what becomes of that is not for a statement to decide. A row without a key tells the time if the
/// clock was set back.
///
/// Rows that somebody else is about to change are passed over, not waited for. All get one token: it
/// is drawn once they are locked.
///
/// `$1` namespace, `$2` how many, `$3` holder, `$4` time to live in microseconds, `$5` the end of
/// time.
macro_rules! claim {
    ($noted:expr) => {
        concat!(
            "
    WITH clock AS (
        SELECT now, LEAST($5, now + $4 * INTERVAL '1 microsecond') AS ends, micros,
            micros < latest AS is_set_back
        FROM (",
            clock!(),
            ") AS clock
    ), due AS (
        SELECT key, due, token FROM relent
        WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL AND version <= 1
            AND due <= (SELECT now FROM clock)
        ORDER BY due, key LIMIT (SELECT $2::BIGINT) FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE relent SET revision = revision + 1, token = (SELECT nextval('relent_tokens')),
            holder = $3, lease_since = now, lease_until = ends, due = ends
        FROM clock
        WHERE namespace = (SELECT $1::TEXT)
            AND key = ANY (ARRAY(SELECT key FROM due WHERE token IS NULL))
            AND (SELECT setval('relent_latest', micros) FROM relent_latest, clock
                 WHERE last_value < micros) IS DISTINCT FROM 0
        RETURNING ",
            columns!(),
            "
    )",
            $noted,
            "
    SELECT ",
            columns!(),
            " FROM taken
    UNION ALL
    SELECT key, NULL, NULL, NULL, NULL, NULL, NULL, due, NULL, NULL, NULL, NULL, NULL, NULL
    FROM due WHERE token IS NOT NULL
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, now, NULL, NULL, NULL, NULL, NULL, NULL
    FROM clock WHERE is_set_back"
        )
    };
}

const CLAIM: &str = claim!("");

/// The same, noted in the history.
const CLAIM_NOTING: &str = claim!(
    ", noted AS (
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT $1, key, now, 'started' FROM taken, clock
        RETURNING key
    )"
);

/// No lease lives longer: the database cannot add more to a time.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

impl PostgresStore {
    pub(super) async fn take_due(
        &self,
        start: &Start,
        limit: usize,
    ) -> Result<Vec<Listed>, PostgresError> {
        let micros = start.time_to_live.min(LONGEST).as_micros();
        let statement = if self.history { CLAIM_NOTING } else { CLAIM };
        let take = || {
            query(statement)
                .bind(&self.namespace)
                .bind(count(limit))
                .bind(&start.holder)
                .bind(i64::try_from(micros).unwrap_or(i64::MAX))
                .bind(Moment::NEVER)
                .fetch_all(&self.pool)
        };
        let rows = match again(take).await {
            // Others were quicker.
            Err(PostgresError::Contended) => Vec::new(),
            rows => rows?,
        };
        Self::check(&rows)?;
        let (mut taken, mut others) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut set_back_to = None;
        for row in &rows {
            let key = row::key(row)?;
            let is_taken = row.try_get::<Option<i16>, _>(1)?.is_some();
            match key {
                Some(key) if is_taken => {
                    let Kept { record, .. } = self.read(row, key)?;
                    // Without a lease that is when it was due.
                    taken.push((record.until, key.to_owned(), record));
                }
                Some(key) => others.push((row::until(row)?, key.to_owned())),
                None => set_back_to = Some(row::until(row)?),
            }
        }
        if let Some(now) = set_back_to.filter(|_| taken.len() < limit) {
            let due = self.page(&Page::first(Which::Due, limit)).await?;
            let future = due
                .into_iter()
                .filter(|it| it.record.is_from_the_future(now));
            others.extend(future.map(|it| (it.record.due().unwrap_or(now), it.key)));
        }
        others.truncate(limit.saturating_sub(taken.len()));
        if !others.is_empty() {
            let keys: Vec<_> = others.iter().map(|(_, key)| key.as_str()).collect();
            let started = self.change_all(&keys, |n, record, now| start.nth(n).apply(record, now));
            let started = started.await?.into_iter().zip(others);
            taken.extend(
                started.filter_map(|(started, (due, key))| Some((due, key, started.ok()?))),
            );
        }
        taken.sort_by(|(due, key, _), (other_due, other_key, _)| {
            (due, key).cmp(&(other_due, other_key))
        });
        let listed = taken.into_iter();
        let listed = listed.map(|(_, key, record)| Listed { key, record });
        Ok(listed.collect())
    }
}
