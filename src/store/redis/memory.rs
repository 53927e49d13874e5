//! What a handle saw last: guesses, which the server checks.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::value;
use crate::clock::{Clock, MonotonicClock};

/// The server's time and the values of keys, as far as they were seen.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The server's time, and this machine's at which it was told.
    told: Option<(SystemTime, Duration)>,
    /// Values, and how many bytes they take. When these are too many, the young values become the
    /// old ones, and the old ones are forgotten.
    young: HashMap<String, Vec<u8>>,
    old: HashMap<String, Vec<u8>>,
    size: usize,
}

/// A key's value, and a time of the server's.
#[derive(Debug)]
pub(super) struct Belief {
    /// Empty if there is none.
    pub(super) text: Vec<u8>,
    /// Not later than the server's.
    pub(super) now: SystemTime,
    /// How often, for this change, the server has said what the key says, which was so at `now`.
    /// Zero if this is a guess.
    pub(super) told: u32,
}

impl Memory {
    /// Half of the most bytes that are remembered.
    const BYTES: usize = 1 << 20;

    /// A time that the server's clock has passed, if one is known.
    pub(super) fn now(&self) -> Option<SystemTime> {
        self.0.lock().now()
    }

    /// What to believe of a key as of `now`: one that is not remembered is taken not to be there.
    pub(super) fn recall(&self, key: &str, now: SystemTime) -> Belief {
        let text = self.0.lock().recall(key);
        Belief { text, now, told: 0 }
    }

    /// Notes the time that the server has just told.
    pub(super) fn set(&self, now: SystemTime) {
        self.0.lock().told = Some((now, MonotonicClock.now()));
    }

    /// Notes what a key's value is; empty if there is none.
    pub(super) fn learn(&self, key: &str, text: Vec<u8>) {
        let mut seen = self.0.lock();
        seen.forget(key);
        if !text.is_empty() {
            seen.remember(key, text);
        }
    }
}

impl Seen {
    /// A time that the server's clock has passed, if the two clocks differ in speed by less than a
    /// thousandth. In whole microseconds, like the server's.
    fn now(&self) -> Option<SystemTime> {
        let (server, own) = self.told?;
        let passed = MonotonicClock.now().saturating_sub(own);
        let now = server.checked_add(passed.saturating_sub(passed / 1000))?;
        Some(value::time(value::micros(now.max(UNIX_EPOCH))))
    }

    fn recall(&mut self, key: &str) -> Vec<u8> {
        match self.old.remove(key) {
            Some(text) => {
                self.remember(key, text.clone());
                text
            }
            None => self.young.get(key).cloned().unwrap_or_default(),
        }
    }

    fn remember(&mut self, key: &str, text: Vec<u8>) {
        self.size += key.len() + text.len();
        self.young.insert(key.to_owned(), text);
        if self.size > Memory::BYTES {
            self.old = mem::take(&mut self.young);
            self.size = 0;
        }
    }

    fn forget(&mut self, key: &str) {
        self.old.remove(key);
        if let Some(text) = self.young.remove(key) {
            self.size -= key.len() + text.len();
        }
    }
}
