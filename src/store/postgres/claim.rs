//! Taking what is due.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use sqlx::query;

use super::again::again;
use super::error::PostgresError;
use super::moment::Moment;
use super::row;
use super::sql::{CLOCK, IS_READABLE, STREAK, is_wanted};
use super::update::Reading;
use super::{PostgresStore, count};
use crate::store::listing::{Listed, Page, Which};
use crate::store::record::Record;
use crate::store::step::Start;
use crate::store::unreadable::Unreadable;

/// Takes the keys that are due and have no lease, and answers with their streaks. It does not take
/// those that are due but have a lease that ran out, or cannot be read, since a statement cannot
/// decide what becomes of them: of these it answers no more than the key and when it was due. One more
/// row has no key, and [tells](row::Grant) what is the same for all, in columns that mean something
/// else in the others: columns of its own would make a claim 3 % slower.
///
/// Rows that somebody else is about to change are passed over, not waited for. All keys get the
/// same token. Drawing it depends on whether any row was locked, and so comes after the locking: a
/// database may well evaluate first what depends on nothing.
///
/// `$1` namespace, `$2` how many, `$3` holder, `$4` time to live in microseconds, `$5` the end of
/// time, `$6` whether also rows that cannot be read.
fn claim(noted: &str) -> String {
    let is_wanted = is_wanted(6);
    format!(
        "
    WITH clock AS (
        SELECT now, LEAST($5, now + $4 * INTERVAL '1 microsecond') AS ends, micros,
            micros < latest AS is_set_back
        FROM ({CLOCK}) AS clock
    ), due AS (
        SELECT key, due, token IS NULL AND {IS_READABLE} AS is_free
        FROM relent
        WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL
            AND due <= (SELECT now FROM clock)
            AND {is_wanted}
        ORDER BY due, key LIMIT (SELECT $2::BIGINT) FOR UPDATE SKIP LOCKED
    ), grant_all AS (
        SELECT nextval('relent_tokens') AS next FROM due WHERE is_free HAVING count(*) > 0
    ), taken AS (
        UPDATE relent SET revision = revision + 1, token = (SELECT next FROM grant_all),
            holder = $3, lease_since = now, lease_until = ends, due = ends
        FROM clock
        WHERE namespace = (SELECT $1::TEXT)
            AND key = ANY (ARRAY(SELECT key FROM due WHERE is_free))
            AND (SELECT setval('relent_latest', micros) FROM relent_latest, clock
                 WHERE last_value < micros) IS DISTINCT FROM 0
        RETURNING {STREAK}
    ){noted}
    SELECT {STREAK} FROM taken
    UNION ALL
    SELECT key, NULL, NULL, NULL, NULL, NULL, due, NULL FROM due WHERE is_free IS NOT TRUE
    UNION ALL
    SELECT NULL, NULL, NULL, (SELECT next FROM grant_all), CASE WHEN is_set_back THEN now END, now,
        ends, NULL
    FROM clock"
    )
}

static CLAIM: LazyLock<String> = LazyLock::new(|| claim(""));

/// The same, noted in the history.
static CLAIM_NOTING: LazyLock<String> = LazyLock::new(|| {
    claim(
        ", noted AS (
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT $1, key, now, 'started' FROM taken, clock
        RETURNING key
    )",
    )
});

/// No lease lives longer: the database cannot add more to a time.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// What the statement answers.
#[derive(Default)]
struct Claimed {
    /// With the time at which each was due.
    taken: Vec<(SystemTime, String, Record)>,
    /// Those with a lease that ran out.
    died_on: Vec<(SystemTime, String)>,
    /// The first of those that cannot be read.
    unreadable: Option<Unreadable>,
    set_back_to: Option<SystemTime>,
    /// Whether there may be more.
    is_full: bool,
}

impl PostgresStore {
    pub(super) async fn take_due(
        &self,
        start: &Start,
        limit: usize,
    ) -> Result<Vec<Listed>, PostgresError> {
        let mut claimed = self.take(start, limit, true).await?;
        if claimed.is_full && claimed.unreadable.is_some() {
            let behind = self.take(start, limit - claimed.taken.len(), false).await;
            let behind = claimed.or_nothing(behind)?;
            claimed.taken.extend(behind.taken);
            claimed.died_on = behind.died_on;
        }
        let missing = limit.saturating_sub(claimed.taken.len());
        let counted = self.count_out(start, &claimed, missing).await;
        let counted = claimed.or_nothing(counted)?;
        let mut taken = claimed.taken;
        taken.extend(counted);
        let is_nothing_else = taken.is_empty() && claimed.died_on.is_empty();
        if let Some(unreadable) = claimed.unreadable.filter(|_| is_nothing_else) {
            return Err(unreadable.into());
        }
        taken.sort_by(|(due, key, _), (other_due, other_key, _)| {
            (due, key).cmp(&(other_due, other_key))
        });
        let listed = taken.into_iter();
        let listed = listed.map(|(_, key, record)| Listed { key, record });
        Ok(listed.collect())
    }

    /// Takes what one statement can.
    async fn take(&self, start: &Start, limit: usize, any: bool) -> Result<Claimed, PostgresError> {
        let micros = start.time_to_live.min(LONGEST).as_micros();
        let statement: &'static str = if self.history { &CLAIM_NOTING } else { &CLAIM };
        let take = || {
            query(statement)
                .bind(&self.namespace)
                .bind(count(limit))
                .bind(&start.holder)
                .bind(i64::try_from(micros).unwrap_or(i64::MAX))
                .bind(Moment::NEVER)
                .bind(any)
                .fetch_all(&self.pool)
        };
        let rows = match again(take).await {
            // Others were quicker.
            Err(PostgresError::Contended) => Vec::new(),
            rows => rows?,
        };
        Self::check(&rows, &row::STREAK)?;
        let mut claimed = Claimed {
            taken: Vec::with_capacity(rows.len()),
            ..Claimed::default()
        };
        let (mut others, mut lease) = (Vec::new(), None);
        for row in &rows {
            match row::claimed(row).map_err(Self::damaged)? {
                row::Claimed::Taken(key, Ok(streak)) => {
                    claimed.taken.push((streak.until, key.to_owned(), streak));
                }
                row::Claimed::Taken(key, Err(problem)) => {
                    let unreadable = self.refused("relent", key, problem);
                    claimed.unreadable.get_or_insert(unreadable);
                }
                row::Claimed::Left(key, due) => others.push((due, key.to_owned())),
                row::Claimed::All(grant) => {
                    claimed.set_back_to = grant.set_back_to;
                    lease = grant.lease(&start.holder);
                }
            }
        }
        for (_, _, record) in &mut claimed.taken {
            record.lease.clone_from(&lease);
        }
        claimed.is_full = claimed.taken.len() + others.len() >= limit;
        if !others.is_empty() {
            let why = self.sort_out(others, &mut claimed).await;
            claimed.or_nothing(why)?;
        }
        Ok(claimed)
    }

    /// Tells those with a lease that ran out from those that cannot be read.
    async fn sort_out(
        &self,
        mut others: Vec<(SystemTime, String)>,
        claimed: &mut Claimed,
    ) -> Result<(), PostgresError> {
        others.sort_unstable_by(|(_, key), (_, other)| key.cmp(other));
        let keys: Vec<_> = others.iter().map(|(_, key)| key.as_str()).collect();
        let mut connection = self.pool.acquire().await?;
        let (found, _) = self.find(&mut connection, Reading::Open, &keys).await?;
        for (found, other) in found.into_iter().zip(others) {
            match found {
                Ok(_) => claimed.died_on.push(other),
                Err(error) => drop(claimed.unreadable.get_or_insert(error)),
            }
        }
        claimed.died_on.sort_unstable();
        Ok(())
    }

    /// Starts up to `missing` of those that a statement could not decide about: keys whose worker
    /// died, and keys from the future.
    async fn count_out(
        &self,
        start: &Start,
        claimed: &Claimed,
        missing: usize,
    ) -> Result<Vec<(SystemTime, String, Record)>, PostgresError> {
        let mut others = claimed.died_on.clone();
        if let Some(now) = claimed.set_back_to.filter(|_| missing > 0) {
            let page = Page::first(Which::Due, missing);
            let due = self.page(&page).await?;
            let future = due
                .into_iter()
                .filter(|it| it.record.is_from_the_future(now));
            others.extend(future.map(|it| (it.record.due().unwrap_or(now), it.key)));
        }
        others.truncate(missing);
        let keys: Vec<_> = others.iter().map(|(_, key)| key.as_str()).collect();
        let start = start.clone();
        let change = move |n: usize, record: Option<&Record>, now| start.nth(n).apply(record, now);
        let started = self.change_all(&keys, change).await?;
        let started = started.into_iter().zip(others);
        let started = started.filter_map(|(started, (due, key))| Some((due, key, started.ok()?)));
        Ok(started.collect())
    }
}

impl Claimed {
    /// Reports an error only where nothing was taken: what was taken belongs to the caller.
    fn or_nothing<T: Default>(&self, more: Result<T, PostgresError>) -> Result<T, PostgresError> {
        match more {
            Err(_) if !self.taken.is_empty() => Ok(T::default()),
            more => more,
        }
    }
}
