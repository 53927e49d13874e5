//! A store in memory: the reference that the others are held to.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::blocking::Store;
use super::change::{Change, Settled, Write};
use super::future::AsyncStore;
use super::listing::{Listed, Page};
use super::record::Record;
use super::step::Start;
use crate::clock::{Clock, MonotonicClock};

/// Keeps records in memory, for tests and for leases within one process. Nothing outlives the
/// store.
///
/// The simplest store that keeps every promise: the stores over files and databases are compared
/// with it. It goes by the time of day of any [`Clock`], so a test can move it.
///
/// ```
/// use relent::Backoff;
/// use relent::clock::ManualClock;
/// use relent::store::{MemoryStore, blocking::DurableTracker};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let tracker = DurableTracker::new(MemoryStore::with_clock(clock.clone()), Backoff::DEFAULT);
/// tracker.record_failure("disk-7", "no such device")?;
/// assert_eq!(tracker.due(10)?.len(), 0);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(tracker.due(10)?[0].record.cause, "no such device");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore<C = MonotonicClock> {
    clock: C,
    kept: Mutex<Kept>,
}

/// All that a store in memory knows.
#[derive(Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub(super) struct Kept {
    last_token: u64,
    records: BTreeMap<String, Record>,
}

impl MemoryStore {
    /// An empty store that goes by the machine's clock.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl<C: Clock> MemoryStore<C> {
    /// An empty store that goes by `clock`'s time of day.
    #[must_use]
    pub fn with_clock(clock: C) -> MemoryStore<C> {
        MemoryStore {
            clock,
            kept: Mutex::default(),
        }
    }

    /// How many keys have a record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.lock().records.len()
    }

    /// Whether no key has a record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    /// Makes a change to a key. Returns whether there was anything to write, and the answer.
    pub(super) fn update<R>(
        &mut self,
        key: &str,
        now: SystemTime,
        change: impl FnOnce(Option<&Record>, SystemTime) -> Change<R>,
    ) -> (bool, R) {
        let change = change(self.records.get(key), now);
        let Settled { write, answer, .. } = self.settle(change);
        (self.write(key, write), answer)
    }

    /// Makes several changes: all of them, or none if one panics.
    pub(super) fn update_all<R>(
        &mut self,
        keys: &[&str],
        now: SystemTime,
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> (bool, Vec<R>) {
        let mut writes: HashMap<&str, Write> = HashMap::with_capacity(keys.len());
        let mut answers = Vec::with_capacity(keys.len());
        for (n, &key) in keys.iter().enumerate() {
            let record = match writes.get(key) {
                Some(Write::Put(record)) => Some(record),
                Some(Write::Delete) => None,
                Some(Write::Keep) | None => self.records.get(key),
            };
            let change = change(n, record, now);
            let Settled { write, answer, .. } = self.settle(change);
            if write != Write::Keep {
                writes.insert(key, write);
            }
            answers.push(answer);
        }
        let any = !writes.is_empty();
        for (key, write) in writes {
            self.write(key, write);
        }
        (any, answers)
    }

    fn settle<R>(&mut self, change: Change<R>) -> Settled<R> {
        let settled = change.settle(|| {
            self.last_token += 1;
            Ok::<_, Infallible>(self.last_token)
        });
        let Ok(settled) = settled;
        settled
    }

    /// Carries out a write. Returns whether there was any.
    fn write(&mut self, key: &str, write: Write) -> bool {
        match write {
            Write::Keep => return false,
            Write::Put(record) => drop(self.records.insert(key.to_owned(), record)),
            Write::Delete => drop(self.records.remove(key)),
        }
        true
    }

    /// What is wrong with the tokens, if somebody edited them: the next has to be greater than that
    /// of any lease, and to fit in the bits that other stores have for it.
    #[cfg(feature = "file")]
    pub(super) fn wrong_tokens(&self) -> Option<String> {
        let last = self.last_token;
        let leases = self.records.values().filter_map(|kept| kept.lease.as_ref());
        let greatest = leases.map(|lease| lease.token).max();
        if greatest > Some(last) {
            return Some("a lease's token is greater than `last_token`".to_owned());
        }
        let most = i64::MAX as u64;
        (last >= most).then(|| format!("`last_token` is {last}, and has to be less than {most}"))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn page(&self, page: &Page, now: SystemTime) -> Vec<Listed> {
        let records = self.records.iter();
        page.of(records.map(|(key, record)| (key.as_str(), record)), now)
    }
}

impl<C: Clock> Store for MemoryStore<C> {
    type Error = Infallible;

    fn update<R>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, Infallible> {
        let mut kept = self.kept.lock();
        Ok(kept.update(key, self.clock.wall(), change).1)
    }

    fn update_all<R>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<Vec<R>, Infallible> {
        let mut kept = self.kept.lock();
        Ok(kept.update_all(keys, self.clock.wall(), change).1)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Infallible> {
        let kept = self.kept.lock();
        Ok((kept.get(key).cloned(), self.clock.wall()))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Infallible> {
        let kept = self.kept.lock();
        Ok(kept.page(page, self.clock.wall()))
    }
}

/// Never waits: the calls of the blocking face, which it makes, take no time.
impl<C: Clock + Send + Sync> AsyncStore for MemoryStore<C> {
    type Error = Infallible;

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Infallible> {
        Store::update(self, key, change)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, Infallible> {
        Store::update_all(self, keys, change)
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Infallible> {
        Store::load(self, key)
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, Infallible> {
        Store::list(self, page)
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, Infallible> {
        Store::claim(self, start, limit)
    }
}
