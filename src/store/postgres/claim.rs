//! Taking what is due.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::{Row, query};

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::row::{self, Kept};
use super::sql::{clock, columns};
use super::{PostgresStore, count};
use crate::store::listing::Listed;
use crate::store::step::Start;

/// Takes what is due and has no lease, and answers with the rows as they are then. Of what is due
/// and has a lease that ran out, or is from the future, it answers the keys, in rows that lack
/// everything else, and leaves it: what becomes of that is not for a statement to decide.
///
/// Rows that somebody else is about to change are passed over, not waited for.
///
/// `$1` namespace, `$2` how many, `$3` holder, `$4` time to live in microseconds, `$5` the end of
/// time, `$6` whether to note it.
const CLAIM: &str = concat!(
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
    ), future AS (
        SELECT key, due FROM relent
        WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL AND version <= 1
            AND due > (SELECT now FROM clock)
            AND (since > (SELECT now FROM clock) OR lease_since > (SELECT now FROM clock))
            AND (SELECT is_set_back FROM clock)
        ORDER BY due, key LIMIT (SELECT $2::BIGINT)
    ), taken AS (
        UPDATE relent SET revision = revision + 1, token = nextval('relent_tokens'), holder = $3,
            lease_since = now, lease_until = ends, due = ends
        FROM clock
        WHERE namespace = (SELECT $1::TEXT)
            AND key = ANY (ARRAY(SELECT key FROM due WHERE token IS NULL))
            AND (SELECT setval('relent_latest', micros) FROM relent_latest, clock
                 WHERE last_value < micros) IS DISTINCT FROM 0
        RETURNING ",
    columns!(),
    "
    ), noted AS (
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT $1, key, now, 'started' FROM taken, clock WHERE $6
        RETURNING key
    )
    SELECT ",
    columns!(),
    " FROM taken
    UNION ALL
    SELECT key, NULL, NULL, NULL, NULL, NULL, NULL, due, NULL, NULL, NULL, NULL, NULL, NULL
    FROM (SELECT key, due FROM due WHERE token IS NOT NULL UNION ALL SELECT * FROM future) AS other"
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
        let take = || {
            query(CLAIM)
                .bind(&self.namespace)
                .bind(count(limit))
                .bind(&start.holder)
                .bind(i64::try_from(micros).unwrap_or(i64::MAX))
                .bind(Moment::NEVER)
                .bind(self.history)
                .fetch_all(&self.pool)
        };
        let rows = match again(take).await {
            // Others were quicker.
            Err(PostgresError::Contended) => Vec::new(),
            rows => rows?,
        };
        let (mut taken, mut others) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let Some(key) = row::key(row)? else {
                continue;
            };
            if row.try_get::<Option<i16>, _>(1)?.is_none() {
                let due: Moment = row.try_get(7)?;
                others.push((due.time().unwrap_or(UNIX_EPOCH), key));
                continue;
            }
            let Kept { record, .. } = self.read(row, key)?;
            // Without a lease that is when it was due.
            taken.push((record.until, key, record));
        }
        others.truncate(limit.saturating_sub(taken.len()));
        if !others.is_empty() {
            let keys: Vec<_> = others.iter().map(|&(_, key)| key).collect();
            let started = self.change_all(&keys, |n, record, now| start.nth(n).apply(record, now));
            let started = started.await?.into_iter().zip(others);
            taken.extend(
                started.filter_map(|(started, (due, key))| Some((due, key, started.ok()?))),
            );
        }
        taken.sort_by(|(due, key, _), (other_due, other_key, _)| {
            (due, key).cmp(&(other_due, other_key))
        });
        let listed = taken.into_iter().map(|(_, key, record)| Listed {
            key: key.to_owned(),
            record,
        });
        Ok(listed.collect())
    }
}
