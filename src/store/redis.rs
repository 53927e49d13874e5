//! A store in Redis.

mod error;
mod scripts;
mod value;

pub use error::RedisError;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, SystemTime};

use redis::aio::ConnectionLike;
use redis::{ErrorKind, ScriptInvocation};

use super::change::{Change, Write};
use super::future::AsyncStore;
use super::key::InvalidKey;
use super::listing::{Listed, Page, Which};
use super::record::Record;
use super::rounds::{Contended, Place, Rounds};
use super::unreadable::Unreadable;

/// Keeps records in Redis or Valkey, for any number of hosts.
///
/// Over any connection of the `redis` crate that can be cloned: multiplexed, managed, or to a
/// cluster, where all keys of a namespace are on one node.
///
/// A change takes two round trips, each of one script: one reads the record and the server's time,
/// one writes it if it is still as it was read. So does a batch of up to
/// [`BATCH`](Self::BATCH) keys. Where others were quicker, those keys are done again.
///
/// The server's clock is the store's.
///
/// # What a crash loses
///
/// What was answered is in the server's memory, and as durable as that is: by default Redis writes
/// snapshots only, and loses minutes. With `appendonly yes` it loses up to a second, and with
/// `appendfsync always` nothing, at the price of waiting for the disk. A replica that takes over
/// lacks what had not reached it. Tokens may then be given out a second time, and two workers hold a
/// key: where that must not be, keep leases in a database.
///
/// A server that evicts keys when its memory is full (`maxmemory-policy`) may not be used.
///
/// # The layout
///
/// | key | |
/// |---|---|
/// | `{relent:NAMESPACE}:key:KEY` | the record, as JSON: `{"relent": 1, "record": {…}}` |
/// | `{relent:NAMESPACE}:due` | sorted set: when each key can be taken, in microseconds since 1970; not those that gave up |
/// | `{relent:NAMESPACE}:written` | sorted set: when each was written |
/// | `{relent:NAMESPACE}:gave-up` | sorted set: those that gave up |
/// | `{relent:NAMESPACE}:token` | the last token |
///
/// In the namespace, `%` and `}` are written `%25` and `%7D`. Times are whole microseconds, rounded
/// down.
///
/// ```no_run
/// use relent::{Backoff, store::{DurableTracker, RedisStore}};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = redis::Client::open("redis://localhost")?;
/// let connection = client.get_multiplexed_async_connection().await?;
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
        }
    }

    /// Another set of keys over the same connection. The first is named `""`.
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
            ..self.clone()
        })
    }

    /// Forgets the streak of a key that nobody has tried for so long since its wait was over. Never
    /// one that gave up, nor one with a lease, even one that ran out. Without this, never any.
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

    /// When a record expires, in milliseconds since 1970.
    fn expires(&self, record: &Record) -> Option<u128> {
        let idle = self.idle.filter(|_| record.lease.is_none())?;
        let due = value::micros(record.due()?).div_ceil(1000);
        // More is no time that Redis knows.
        Some(
            due.saturating_add(idle.as_millis())
                .min(i64::MAX as u128 / 2),
        )
    }

    fn decode(&self, key: &str, text: &[u8]) -> Result<Record, RedisError> {
        value::decode(text).map_err(|problem| {
            let place = format!("the Redis key {:?}", self.name(key));
            RedisError::Unreadable(Unreadable { place, problem })
        })
    }
}

/// What the names of a namespace begin with: the part in braces is what a cluster hashes.
fn prefix(namespace: &str) -> String {
    let namespace = namespace.replace('%', "%25").replace('}', "%7D");
    format!("{{relent:{namespace}}}:")
}

/// A record as it was read, and the text that said so.
type Kept = Option<(Record, Vec<u8>)>;

/// An optional argument.
fn or_empty(value: Option<u128>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisStore<C> {
    /// Runs a script that answers with the time, and then with this and that.
    async fn read(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(SystemTime, impl Iterator<Item = Option<Vec<u8>>>), RedisError> {
        let answer: Vec<Option<Vec<u8>>> =
            script.invoke_async(&mut self.connection.clone()).await?;
        let mut answer = answer.into_iter();
        let mut part = || {
            let text = String::from_utf8(answer.next()??).ok()?;
            text.parse::<u64>().ok()
        };
        let time = part()
            .zip(part())
            .ok_or((ErrorKind::UnexpectedReturnType, "no time"));
        let (seconds, micros) = time.map_err(redis::RedisError::from)?;
        Ok((value::time(seconds, micros), answer))
    }

    async fn look(&self, keys: &[Place<'_>]) -> Result<(Vec<Kept>, SystemTime), RedisError> {
        let mut read = scripts::READ.prepare_invoke();
        for (_, key) in keys {
            read.key(self.name(key));
        }
        let (now, texts) = self.read(&read).await?;
        let kept = keys.iter().zip(texts).map(|((_, key), text)| {
            text.map(|text| Ok((self.decode(key, &text)?, text)))
                .transpose()
        });
        Ok((kept.collect::<Result<_, RedisError>>()?, now))
    }

    fn list_by_due(&self, which: &str, page: &Page) -> ScriptInvocation<'static> {
        let mut list = scripts::LIST.prepare_invoke();
        list.key(format!("{}due", self.prefix));
        list.key(format!("{}written", self.prefix));
        list.arg(self.name("")).arg(which).arg(page.limit);
        let after = page.after.as_ref();
        list.arg(or_empty(after.map(|after| value::micros(after.due))));
        list.arg(after.map_or("", |after| after.key.as_str()));
        list
    }

    fn list_by_key(&self, page: &Page) -> ScriptInvocation<'static> {
        let mut list = scripts::GAVE_UP.prepare_invoke();
        list.key(format!("{}gave-up", self.prefix));
        // More is no limit that Redis knows.
        list.arg(self.name(""))
            .arg(page.limit.min(i32::MAX as usize));
        let after = page.after.as_ref();
        list.arg(after.map_or_else(|| "-".to_owned(), |after| format!("({}", after.key)));
        list
    }

    /// The arguments that say what is to be as it was read.
    fn begin(
        &self,
        write: &mut ScriptInvocation<'_>,
        key: &str,
        kept: Option<&(Record, Vec<u8>)>,
        now: SystemTime,
    ) {
        let lease = kept.and_then(|(record, _)| record.live_lease(now));
        write.key(self.name(key)).arg(key);
        write.arg(kept.map_or(&[][..], |(_, text)| text));
        write.arg(or_empty(lease.map(|lease| value::micros(lease.until))));
    }

    /// Makes changes to several keys, none of them twice, as far as nobody comes in the way: the
    /// answers of those that were made.
    async fn attempt<R: Send>(
        &self,
        keys: &[Place<'_>],
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<R>>, RedisError> {
        let (kept, now) = self.look(keys).await?;
        let mut write = scripts::WRITE.prepare_invoke();
        write
            .key(format!("{}due", self.prefix))
            .key(format!("{}written", self.prefix))
            .key(format!("{}gave-up", self.prefix))
            .key(format!("{}token", self.prefix));
        let mut changes = Vec::with_capacity(keys.len());
        for (&(n, key), kept) in keys.iter().zip(&kept) {
            let record = kept.as_ref().map(|(record, _)| record);
            let change = change(n, record, now);
            let is_written = match (change.write(), kept) {
                (Write::Keep, _) | (Write::Delete, None) => false,
                (Write::Put(new), _) => {
                    let (text, rest) = value::encode(new, change.is_grant())?;
                    let is_granted = if change.is_grant() { "1" } else { "" };
                    self.begin(&mut write, key, kept.as_ref(), now);
                    write.arg(text).arg(rest).arg(is_granted);
                    write.arg(or_empty(new.due().map(value::micros)));
                    write.arg(value::micros(new.written()).to_string());
                    write.arg(or_empty(self.expires(new)));
                    true
                }
                (Write::Delete, Some(_)) => {
                    self.begin(&mut write, key, kept.as_ref(), now);
                    write.arg(&[""; 6]);
                    true
                }
            };
            changes.push((change, is_written));
        }
        let mut written = Vec::new().into_iter();
        if changes.iter().any(|&(_, is_written)| is_written) {
            let answer: Vec<i64> = write.invoke_async(&mut self.connection.clone()).await?;
            written = answer.into_iter();
        }
        let answers = changes.into_iter().map(|(change, is_written)| {
            let token = if is_written { written.next()? } else { 0 };
            let token = u64::try_from(token).ok()?;
            let Ok(settled) = change.settle(|| Ok::<_, Infallible>(token));
            Some(settled.answer)
        });
        Ok(answers.collect())
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> AsyncStore for RedisStore<C> {
    type Error = RedisError;

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
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, RedisError> {
        let mut rounds = Rounds::of(keys);
        loop {
            let keys = rounds.next(Self::BATCH)?;
            if keys.is_empty() {
                return Ok(rounds.answers()?);
            }
            let made = self.attempt(&keys, &mut change).await?;
            rounds.made(keys, made);
        }
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), RedisError> {
        let (mut kept, now) = self.look(&[(0, key)]).await?;
        Ok((kept.pop().flatten().map(|(record, _)| record), now))
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, RedisError> {
        let list = match page.which {
            Which::Due => self.list_by_due("due", page),
            Which::Waiting => self.list_by_due("waiting", page),
            Which::GaveUp => self.list_by_key(page),
        };
        let (now, mut answer) = self.read(&list).await?;
        let mut records = BTreeMap::new();
        while let Some((key, text)) = answer.next().flatten().zip(answer.next().flatten()) {
            let key = String::from_utf8_lossy(&key).into_owned();
            let record = self.decode(&key, &text)?;
            records.insert(key, record);
        }
        let records = records.iter();
        Ok(page.of(records.map(|(key, record)| (key.as_str(), record)), now))
    }
}
