//! A store that is away when told so.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::SystemTime;

use relent::clock::ManualClock;
use relent::store::blocking::Store;
use relent::store::{Change, Fault, Listed, MemoryStore, Page, Record};

/// A store that is away when told so.
#[derive(Clone)]
pub(crate) struct Flaky {
    pub(crate) store: Arc<MemoryStore<ManualClock>>,
    pub(crate) away: Arc<AtomicBool>,
    /// Whether it does what it is asked to, and its answers are lost.
    pub(crate) mute: Arc<AtomicBool>,
    /// Whether it says that its errors are about one key.
    pub(crate) blames_keys: Arc<AtomicBool>,
    pub(crate) calls: Arc<AtomicU32>,
}

#[derive(Debug)]
pub(crate) struct Away;

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("away")
    }
}

impl std::error::Error for Away {}

impl Flaky {
    pub(crate) fn new(clock: &ManualClock) -> Flaky {
        Flaky {
            store: Arc::new(MemoryStore::with_clock(clock.clone())),
            away: Arc::default(),
            mute: Arc::default(),
            blames_keys: Arc::default(),
            calls: Arc::default(),
        }
    }

    fn there(&self) -> Result<&MemoryStore<ManualClock>, Away> {
        self.calls.fetch_add(1, SeqCst);
        if self.away.load(SeqCst) {
            Err(Away)
        } else {
            Ok(&self.store)
        }
    }
}

impl Store for Flaky {
    type Error = Away;

    fn fault(&self, _: &Away) -> Fault {
        if self.blames_keys.load(SeqCst) {
            Fault::Key
        } else {
            Fault::Unknown
        }
    }

    fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, Away> {
        let Ok(answer) = Store::update(self.there()?, key, change);
        if self.mute.load(SeqCst) {
            return Err(Away);
        }
        Ok(answer)
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), Away> {
        let Ok(loaded) = Store::load(self.there()?, key);
        Ok(loaded)
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, Away> {
        let Ok(listed) = Store::list(self.there()?, page);
        Ok(listed)
    }
}
