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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::Memory;

    fn recalled(memory: &Memory, key: &str) -> usize {
        memory.recall(key, UNIX_EPOCH).text.len()
    }

    #[test]
    fn it_remembers_the_latest_up_to_a_bound() {
        let memory = Memory::default();
        for n in 1000..9000 {
            memory.learn(&n.to_string(), vec![b'x'; 996]);
            let seen = memory.0.lock();
            let size = |(key, text): (&String, &Vec<u8>)| key.len() + text.len();
            let all: usize = seen.young.iter().chain(&seen.old).map(size).sum();
            assert!(all <= 2 * Memory::BYTES + 1000, "{n}: {all}");
        }
        assert_eq!(recalled(&memory, "1000"), 0);
        assert_eq!(recalled(&memory, "8999"), 996);
        assert_eq!(recalled(&memory, "8000"), 996, "one of the last MiB");
    }

    #[test]
    fn what_changes_often_drives_nothing_else_out() {
        let memory = Memory::default();
        memory.learn("kept", vec![b'x'; 10]);
        for n in 0..9000 {
            memory.learn("changes", vec![b'x'; 1000 + n % 7]);
        }
        assert_eq!(recalled(&memory, "kept"), 10);
        memory.learn("kept", vec![]);
        assert_eq!(recalled(&memory, "kept"), 0);
    }
}
