//! A store in memory: the reference that the others are held to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::blocking::Store;
use super::change::{Change, Write};
use super::future::AsyncStore;
use super::listing::{Listed, Page};
use super::record::Record;
use super::step::Start;
use crate::clock::{Clock, MonotonicClock};

/// Keeps records in memory, for tests and for leases within one process. Nothing outlives it.
///
/// The simplest store that keeps every promise: what others do with files and databases is compared
/// with it. Its clock is any [`Clock`]'s time of day, so a test can move it.
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

#[derive(Debug, Default)]
struct Kept {
    records: HashMap<String, Record>,
    last_token: u64,
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
    fn update<R>(
        &mut self,
        key: &str,
        now: SystemTime,
        change: impl FnOnce(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, Infallible> {
        let change = change(self.records.get(key), now);
        let settled = change.settle(|| {
            self.last_token += 1;
            Ok::<_, Infallible>(self.last_token)
        })?;
        match settled.write {
            Write::Keep => {}
            Write::Put(record) => drop(self.records.insert(key.to_owned(), record)),
            Write::Delete => drop(self.records.remove(key)),
        }
        Ok(settled.answer)
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
        kept.update(key, self.clock.wall(), change)
    }

    fn update_all<R>(
        &self,
        keys: &[&str],
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<Vec<R>, Infallible> {
        let mut kept = self.kept.lock();
        let now = self.clock.wall();
        let each = keys.iter().enumerate();
        each.map(|(n, key)| kept.update(key, now, |record, now| change(n, record, now)))
            .collect()
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Infallible> {
        let kept = self.kept.lock();
        Ok((kept.records.get(key).cloned(), self.clock.wall()))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Infallible> {
        let kept = self.kept.lock();
        let records = kept.records.iter();
        let records = records.map(|(key, record)| (key.as_str(), record));
        Ok(page.of(records, self.clock.wall()))
    }
}

/// Never waits: what the blocking face does takes no time.
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
