//! The transitions of leases.

use std::time::{Duration, SystemTime};

use super::{Failed, current, escalate, left, moved_back, noting_first, ready, recovery};
use crate::policy::Backoff;
use crate::random;
use crate::state::{Decision, Recovery};
use crate::store::change::{Change, Event};
use crate::store::lease::{Lease, LeaseLost, Refusal};
use crate::store::record::{Record, after};
use crate::store::text::{MAX_HOLDER, storable};

/// The cause that is recorded where a worker died.
pub const LEASE_EXPIRED: &str = "lease expired";

/// A request to work on a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Who asks, for people to read.
    pub holder: String,
    /// How long the lease lives, if it is not extended.
    pub time_to_live: Duration,
    /// The policy by which a lease that ran out counts as a failure.
    pub backoff: Option<Backoff>,
    /// 64 uniform random bits, for that failure.
    pub entropy: u64,
}

/// Takes the key for one worker, or says why not.
///
/// A lease that ran out counts as one failure first, with the cause [`LEASE_EXPIRED`]: whoever
/// comes after a dead worker waits as after any other failure.
pub fn start(
    start: Start,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Record, Refusal>> + Send + 'static {
    move |record, now| start.apply(record, now)
}

/// Takes the key even if it waits or gave up, unless somebody has it: because an operator asked for
/// it, or because something has changed.
///
/// Work on a key that waits or gave up is out of turn: if it fails, end it by [`fail_out_of_turn`].
pub fn start_now(
    start: Start,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Record, Refusal>> + Send + 'static {
    move |record, now| start.take(record, now, |record, _| held_by(record))
}

impl Start {
    /// The same request for the `n`-th of several keys, with randomness that no other of them has.
    #[must_use]
    pub fn nth(&self, n: usize) -> Start {
        Start {
            entropy: random::draw(self.entropy, n as u64),
            ..self.clone()
        }
    }

    /// The transition that [`start()`] makes.
    pub fn apply(
        &self,
        stored: Option<&Record>,
        now: SystemTime,
    ) -> Change<Result<Record, Refusal>> {
        self.take(stored, now, |record, now| {
            held_by(record).or_else(|| ready(Some(record), now).err())
        })
    }

    fn take(
        &self,
        stored: Option<&Record>,
        now: SystemTime,
        refusal: impl Fn(&Record, SystemTime) -> Option<Refusal>,
    ) -> Change<Result<Record, Refusal>> {
        let mut record = current(stored, now);
        let expired = count_expired(&mut record, now, self.backoff, self.entropy);
        let change = match refusal(&record, now) {
            Some(refusal) if stored == Some(&record) => Change::keep(Err(refusal)),
            Some(refusal) => Change::put(record, Err(refusal)),
            None => {
                record.lease = Some(Lease {
                    token: 0,
                    holder: storable(&self.holder, MAX_HOLDER).into_owned(),
                    since: now,
                    until: after(now, self.time_to_live),
                });
                Change::grant(record, Ok).noting(Event::Started)
            }
        };
        noting_first(change, expired.is_some())
    }
}

/// Counts a lease that ran out as one failure, without taking the key. Answers `None` if no lease
/// ran out.
pub fn expiry(
    backoff: Option<Backoff>,
    entropy: u64,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Option<Decision>> + Send + 'static {
    move |record, now| {
        let mut record = current(record, now);
        match count_expired(&mut record, now, backoff, entropy) {
            None => Change::keep(None),
            expired => Change::put(record, expired).noting(Event::Expired),
        }
    }
}

/// Ends the work, and the streak with it: the record is deleted.
pub fn finish(
    token: u64,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Option<Recovery>, LeaseLost>>
+ Send
+ 'static {
    move |record, now| match held(record, now, token) {
        Err(lost) => Change::keep(Err(lost)),
        Ok(record) => Change::delete(Ok(recovery(&record, now))).noting(Event::Finished),
    }
}

/// Ends the work, and counts a failure.
pub fn fail(
    token: u64,
    failed: Failed,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Decision, LeaseLost>> + Send + 'static
{
    fail_in_turn(token, failed, true)
}

/// Ends the work as if it had not begun: the streak stays as it is.
pub fn cancel(
    token: u64,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<(), LeaseLost>> + Send + 'static {
    move |record, now| match held(record, now, token) {
        Err(lost) => Change::keep(Err(lost)),
        Ok(record) => given_back(record, Ok(())),
    }
}

/// Gives back a lease that was not used, as [`cancel`] does; even one that has run out, unless that
/// has been counted. Answers whether the lease was still there.
pub fn give_back(
    token: u64,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<bool> + Send + 'static {
    move |record, now| {
        let own = record.filter(|record| {
            let lease = record.lease.as_ref();
            lease.is_some_and(|lease| lease.token == token)
        });
        match own {
            None => Change::keep(false),
            Some(record) => given_back(moved_back(record, now), true),
        }
    }
}

/// Ends work that was begun out of turn, as a failure. That the key still fails is no news, and
/// being asked often should not make the wait longer: so this cancels the work, and answers what is
/// left of the wait. But if the streak has ended meanwhile, and no other has begun, the failure is
/// the first of a new one.
pub fn fail_out_of_turn(
    token: u64,
    failed: Failed,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Decision, LeaseLost>> + Send + 'static
{
    fail_in_turn(token, failed, false)
}

pub(in crate::store) fn fail_in_turn(
    token: u64,
    failed: Failed,
    is_in_turn: bool,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Decision, LeaseLost>> + Send + 'static
{
    move |record, now| match held(record, now, token) {
        Err(lost) => Change::keep(Err(lost)),
        Ok(mut record) if is_in_turn || record.state.is_healthy() => {
            let decision = escalate(&mut record, now, &failed);
            record.lease = None;
            Change::put(record, Ok(decision)).noting(Event::Failed)
        }
        Ok(record) => {
            let left = left(Some(&record), now);
            given_back(record, Ok(left))
        }
    }
}

/// Whether work was begun in turn; `taken` is the record as it was when the lease was taken.
pub(in crate::store) fn is_in_turn(taken: &Record) -> bool {
    let since = taken.lease.as_ref().map(|lease| lease.since);
    since.is_none_or(|since| ready(Some(taken), since).is_ok())
}

/// Writes the record without its lease, or deletes it if nothing else is in it.
fn given_back<R>(mut record: Record, answer: R) -> Change<R> {
    record.lease = None;
    let change = if record.state.is_healthy() {
        Change::delete(answer)
    } else {
        Change::put(record, answer)
    };
    change.noting(Event::Cancelled)
}

/// Extends a lease: a heartbeat. Never shortens it. Answers when it now runs out.
pub fn extend(
    token: u64,
    time_to_live: Duration,
) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<SystemTime, LeaseLost>> + Send + 'static
{
    move |record, now| match held(record, now, token) {
        Err(lost) => Change::keep(Err(lost)),
        Ok(mut record) => {
            let mut extended = after(now, time_to_live);
            if let Some(lease) = &mut record.lease {
                extended = extended.max(lease.until);
                lease.since = now;
                lease.until = extended;
            }
            Change::put(record, Ok(extended))
        }
    }
}

fn count_expired(
    record: &mut Record,
    now: SystemTime,
    backoff: Option<Backoff>,
    entropy: u64,
) -> Option<Decision> {
    record.lease.take_if(|lease| !lease.is_live(now))?;
    let failed = Failed {
        backoff,
        retry_after: None,
        cause: LEASE_EXPIRED.to_owned(),
        entropy,
    };
    Some(escalate(record, now, &failed))
}

/// Why the key cannot be taken, if somebody has it.
fn held_by(record: &Record) -> Option<Refusal> {
    let lease = record.lease.as_ref()?;
    Some(Refusal::Held {
        by: lease.holder.clone(),
        until: lease.until,
    })
}

/// The record, if the lease with this token is still good.
fn held(record: Option<&Record>, now: SystemTime, token: u64) -> Result<Record, LeaseLost> {
    let lease = record.and_then(|record| Some((record, record.lease.as_ref()?)));
    match lease {
        None => Err(LeaseLost::Ended),
        Some((_, lease)) if lease.token < token => Err(LeaseLost::Ended),
        Some((_, lease)) if lease.token > token => Err(LeaseLost::Taken {
            by: lease.holder.clone(),
        }),
        Some((_, lease)) if !lease.is_live(now) => Err(LeaseLost::Expired { at: lease.until }),
        Some((record, _)) => Ok(moved_back(record, now)),
    }
}
