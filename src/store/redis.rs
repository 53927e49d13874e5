//! A store in Redis.

mod ask;
mod calls;
mod draft;
mod error;
mod exchange;
mod list;
mod memory;
mod scripts;
mod value;

pub use error::RedisError;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::aio::ConnectionLike;

use ask::{Ask, Told};
use calls::Lines;
use memory::Memory;

use super::change::Change;
use super::error::Fault;
use super::future::AsyncStore;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::{Record, after};
use super::rounds::{Contended, Rounds};
use super::step::Start;
use super::unreadable::Unreadable;

/// Keeps records in Redis (from version 5 on) or Valkey, for any number of hosts. The tests run on
/// Redis 7.
///
/// It works over any connection of the `redis` crate that can be cloned: a managed one; one to a
/// cluster, where all keys of a namespace are on one node; or a multiplexed one, which does not
/// come back once it is cut.
///
/// The store goes by the server's clock.
///
/// # Round trips
///
/// A change takes one round trip if the key is as this handle last saw it, or if the handle never
/// saw it and it is not there: a first failure, the next ones, the start of work, its end, a
/// heartbeat. So does a batch of up to [`BATCH`](Self::BATCH) keys, each of which is changed or not
/// by itself. The change is worked out in this process, from what the handle remembers, and sent to
/// the server as the arguments of a script. If the key says what it was believed to say, the server
/// makes the change, and fills in its own time. If not, it answers with what the key says and with
/// the time, and the change is worked out again from these: a second round trip.
///
/// It takes a third only where others were quicker again, or where more than a second went by,
/// because the process was stopped meanwhile, say: the server makes no change that was decided
/// longer ago than that. (Each time that a change was too late, it may take twice as long the next
/// time, so that a slow connection gets there.)
///
/// A change also takes a second round trip where its outcome depends on the exact moment, within
/// the second in which a wait or a lease ends, say; and where the handle has not heard the server's
/// time of late, as at its first change. The outcome must depend on the time only by whether this
/// or that moment has passed, as it does for all in [`step`](super::step).
///
/// Clones share what they remember, at most some 2 MiB. A claim of what is due
/// ([`claim_due`](super::DurableTracker::claim_due)) takes two round trips: one to list, and one to
/// take. A list takes one more for each [`BATCH`](Self::BATCH) keys that it looks at: those that it
/// returns and, after the clock was set back, some others.
///
/// # Calls that are sent again
///
/// If the connection is cut before the answer is there, the call is sent once more, in vain unless
/// the connection is one that comes back; and the client of a cluster sends a call again by itself.
/// The server knows a call by its number, for five minutes, and answers as it did before: the call
/// counts once. If no answer comes in the end, nobody knows what was done, and to try again is to
/// make another call.
///
/// The client waits for half a second by default. A server that syncs what it writes answers only
/// once the disk has, and some disks stall for longer: give such a connection more time by
/// `set_response_timeout` of its configuration.
///
/// # What cannot be read
///
/// A value that is damaged, not relent's, or of a newer version is an error that names it, wherever
/// its key is asked for: alone, or in a batch, whose other keys are all changed. Lists and claims
/// pass it over where there is anything else to answer; [`unreadable`](Self::unreadable) finds it.
///
/// # What a crash loses
///
/// What was answered is in the server's memory, and as durable as that is: by default Redis writes
/// snapshots only, and loses minutes. With `appendonly yes` it loses up to a second, and with
/// `appendfsync always` nothing, at the price of waiting for the disk. A replica that takes over
/// lacks what had not reached it. Tokens may then be given out a second time, and two workers may
/// hold a key: where that must not be, keep leases in a database.
///
/// Do not use a server that evicts keys when its memory is full: set `maxmemory-policy` to
/// `noeviction`. When there is no room, changes then fail, except those that only delete.
///
/// # Rights
///
/// Under an access control list a user needs all of these rights: if a command that a change needs
/// is denied, part of the change may be made.
///
/// ```text
/// ACL SETUSER worker on >secret ~{relent:* +@read +@write +@scripting +time
/// ```
///
/// # The layout
///
/// | key | |
/// |---|---|
/// | `{relent:NAMESPACE}:key:KEY` | the record, as JSON: `{"relent": 1, "first_failure": …, "since": …, "until": …, "lease": {"since": …, "until": …, "token": …, "holder": …}, "failures": …, "interval_ns": …, "gave_up": …, "cause": …}` |
/// | `{relent:NAMESPACE}:due` | sorted set: when each key can be taken, in microseconds since 1970; without those that gave up |
/// | `{relent:NAMESPACE}:written` | sorted set: when each was written |
/// | `{relent:NAMESPACE}:gave-up` | sorted set: those that gave up |
/// | `{relent:NAMESPACE}:token` | the last token |
/// | `{relent:NAMESPACE}:call:LINE` | the number of the last call over a line, and what it did; for five minutes. A handle has as many lines as it makes calls at once |
///
/// In the namespace, `%` and `}` are written `%25` and `%7D`. Times are microseconds since 1970,
/// rounded down. A record without a lease has no `lease`.
///
/// ```no_run
/// use relent::{Backoff, store::{DurableTracker, RedisStore}};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = redis::Client::open("redis://localhost")?;
/// // With the feature `connection-manager` of `redis`: it connects again if need be.
/// let connection = client.get_connection_manager().await?;
/// let store = RedisStore::new(connection).expire_idle(Duration::from_secs(7 * 24 * 3600));
/// let tracker = DurableTracker::new(store, Backoff::DEFAULT);
/// tracker.record_failure("m1", "no answer").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore<C> {
    connection: C,
    prefix: String,
    namespace: String,
    idle: Option<Duration>,
    memory: Arc<Memory>,
    lines: Arc<Lines>,
}

impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("namespace", &self.namespace)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

impl<C> RedisStore<C> {
    /// How many keys one script changes at most: the server does nothing else meanwhile.
    pub const BATCH: usize = 1000;

    /// A store over a connection.
    #[must_use]
    pub fn new(connection: C) -> RedisStore<C> {
        RedisStore {
            connection,
            prefix: prefix(""),
            namespace: String::new(),
            idle: None,
            memory: Arc::default(),
            lines: Arc::default(),
        }
    }

    /// Another set of keys over the same connection. The first is named `""`.
    ///
    /// Keep one for each name, and clone it. Each call of this returns a handle that remembers
    /// nothing yet, and whose last answer the server, too, keeps for five minutes.
    ///
    /// # Errors
    ///
    /// More than [`MAX_NAMESPACE`](super::MAX_NAMESPACE) bytes, or a NUL.
    pub fn namespace(&self, name: impl Into<String>) -> Result<RedisStore<C>, InvalidKey>
    where
        C: Clone,
    {
        let namespace = name.into();
        InvalidKey::check_namespace(&namespace)?;
        Ok(RedisStore {
            prefix: prefix(&namespace),
            namespace,
            // Other keys; and in a cluster another server, with another clock.
            memory: Arc::default(),
            lines: Arc::default(),
            ..self.clone()
        })
    }

    /// Forgets the streak of a key that nobody has tried for this long since its wait was over; but
    /// never that of a key that gave up, or that has a lease, even one that ran out. Without this,
    /// no streak is ever forgotten.
    ///
    /// The server then drops the record; the key leaves the lists later, as others are written or
    /// listed.
    ///
    /// This applies to what is written from now on.
    #[must_use]
    pub fn expire_idle(mut self, idle: Duration) -> RedisStore<C> {
        self.idle = Some(idle);
        self
    }

    fn name(&self, key: &str) -> String {
        format!("{}key:{key}", self.prefix)
    }

    /// When a record expires.
    fn expires(&self, record: &Record) -> Option<SystemTime> {
        let idle = self.idle.filter(|_| record.lease.is_none())?;
        Some(after(record.due()?, idle))
    }

    fn decode(&self, key: &str, text: &[u8]) -> Result<Record, Unreadable> {
        value::decode(text).map_err(|problem| Unreadable {
            place: format!("the Redis key {:?}", self.name(key)),
            problem,
        })
    }
}

/// What the names of a namespace begin with: the part in braces is what a cluster hashes.
fn prefix(namespace: &str) -> String {
    let namespace = namespace.replace('%', "%25").replace('}', "%7D");
    format!("{{relent:{namespace}}}:")
}

impl<C: ConnectionLike + Clone + Send + Sync> AsyncStore for RedisStore<C> {
    type Error = RedisError;

    fn fault(&self, error: &RedisError) -> Fault {
        error::fault(error)
    }

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, RedisError> {
        let keys = [key];
        let answers = self.update_all(&keys, move |_, record, now| change(record, now));
        Ok(answers.await?.pop().ok_or(Contended)?)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, RedisError> {
        let mut rounds = Rounds::of(keys);
        self.change_each(&mut rounds, change).await?;
        let made = rounds.answers()?.into_iter();
        Ok(made.collect::<Result<_, _>>()?)
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), RedisError> {
        let (now, told) = self.ask(&[((0, key), Ask::nothing())]).await?;
        let record = match told.first() {
            Some(Told::Says(text)) => self.record(key, text)?,
            _ => None,
        };
        Ok((record, now))
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, RedisError> {
        match self.page(page).await? {
            (listed, Some(unreadable)) if listed.is_empty() && page.after.is_none() => {
                Err(unreadable.into())
            }
            (listed, _) => Ok(listed),
        }
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, RedisError> {
        let due = self.list(&Page::first(Which::Due, limit)).await?;
        let keys: Vec<_> = due.iter().map(|listed| listed.key.as_str()).collect();
        let mut rounds = Rounds::of(&keys);
        let start = |n: usize, record: Option<&Record>, now| start.nth(n).apply(record, now);
        let changed = self.change_each(&mut rounds, start).await;
        let started = rounds.so_far();
        // What has become unreadable since it was listed is not taken: the next list reports it.
        let both = due.into_iter().zip(started);
        let (due, started) = both
            .filter_map(|(listed, started)| Some((listed, started?.ok()?)))
            .unzip();
        let taken = Listed::started(due, started);
        match changed {
            // What was taken before the error belongs to the caller.
            Err(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }
}
