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
use super::rounds::Contended;
use super::step::Start;
use super::unreadable::Unreadable;

/// Keeps records in Redis or Valkey, for any number of hosts.
///
/// Over any connection of the `redis` crate that can be cloned: managed, to a cluster, where all
/// keys of a namespace are on one node, or multiplexed, which does not come back once it is cut.
///
/// The server's clock is the store's.
///
/// # Round trips
///
/// A change takes one round trip if the key is as this handle saw it last, or is not there if it
/// never did: a first failure, the next ones, the start of work, its end, a heartbeat. So does a
/// batch of up to [`BATCH`](Self::BATCH) keys, of which each goes its own way. What the change
/// comes to is worked out here, from what the handle remembers, and sent to the server as a
/// script's arguments: the server makes it if the key says what it was believed to say, filling in
/// its own time. If not, it answers with what the key says and with the time, and the change is
/// worked out from that, as of then: a second round trip, and a third only where others were
/// quicker again, or where it took longer than a second, as for a process that is stopped
/// meanwhile: the server makes no change that was decided longer ago. (Each time that it was too
/// late it may take twice as long, so that a slow connection gets there.)
///
/// It takes a second round trip too where the moment decides: within the second in which a wait or
/// a lease ends, say; and where the handle has not heard the server's time of late, as at its first
/// change. What a change comes to must depend on the time only by whether this or that moment has
/// passed, as all in [`step`](super::step) does.
///
/// Clones remember together, at most some 2 MiB. To take up to as many works as are due
/// ([`claim_due`](super::DurableTracker::claim_due)) takes two round trips: to list, and to take.
/// A list takes one more for each [`BATCH`](Self::BATCH) keys that it looks at: those that it
/// tells, and, after the clock was set back, some others.
///
/// # Calls that are sent again
///
/// If the connection is cut before the answer is there, a call is sent once more, in vain unless
/// the connection is one that comes back; and the client of a cluster sends one again by itself.
/// The server knows a call by its number, for five minutes, and answers as it did: it counts once.
/// Where no answer comes in the end, nobody knows what was done; who then tries again makes another
/// call.
///
/// # What cannot be read
///
/// A value that is damaged, something else, or of a newer version is an error that names it where
/// its key is asked for, alone or in a batch, of which all others are changed. Lists and claims
/// pass it over where there is anything else to answer; [`unreadable`](Self::unreadable) finds it.
///
/// # What a crash loses
///
/// What was answered is in the server's memory, and as durable as that is: by default Redis writes
/// snapshots only, and loses minutes. With `appendonly yes` it loses up to a second, and with
/// `appendfsync always` nothing, at the price of waiting for the disk. A replica that takes over
/// lacks what had not reached it. Tokens may then be given out a second time, and two workers hold
/// a key: where that must not be, keep leases in a database.
///
/// A server that evicts keys when its memory is full (`maxmemory-policy`) may not be used: set that
/// to `noeviction`. Then, without room, changes fail, but those that only delete.
///
/// # Rights
///
/// Under an access control list a user needs these, and all of them: of a change that needs a
/// command which is denied, a part may be made.
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
/// | `{relent:NAMESPACE}:due` | sorted set: when each key can be taken, in microseconds since 1970; not those that gave up |
/// | `{relent:NAMESPACE}:written` | sorted set: when each was written |
/// | `{relent:NAMESPACE}:gave-up` | sorted set: those that gave up |
/// | `{relent:NAMESPACE}:token` | the last token |
/// | `{relent:NAMESPACE}:call:LINE` | the number of the last call over a line, and what it did; for five minutes. A handle has as many lines as it makes calls at once |
///
/// In the namespace, `%` and `}` are written `%25` and `%7D`. Times are microseconds since 1970,
/// rounded down. Where nobody has a lease, there is none in the record.
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
    /// So many keys are changed by one script: the server does nothing else meanwhile.
    pub const BATCH: usize = 1000;

    /// Over a connection.
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
    /// Keep one for each name, and clone it. Every other that is asked for begins without knowing
    /// anything, and the server keeps its last answer, too, for five minutes.
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

    /// Forgets the streak of a key that nobody has tried for so long since its wait was over. Never
    /// one that gave up, nor one with a lease, even one that ran out. Without this, never any.
    ///
    /// The server drops the record then; the key leaves the lists by and by, as others are written
    /// or listed.
    ///
    /// It goes for what is written from now on.
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
        let made = self.change_all(keys, change).await?;
        Ok(made.into_iter().collect::<Result<_, _>>()?)
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
        let started = self.change_all(&keys, |n, record, now| start.nth(n).apply(record, now));
        let started = started.await?;
        // What cannot be read any more since it was listed is not taken: the next list tells.
        let both = due.into_iter().zip(started);
        let (due, started) = both
            .filter_map(|(listed, started)| Some((listed, started.ok()?)))
            .unzip();
        Ok(Listed::started(due, started))
    }
}
