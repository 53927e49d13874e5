//! Which keys there are, a page at a time.

use std::time::SystemTime;

use super::lease::Refusal;
use super::record::{END, Record};

/// Which keys to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// Those that can be taken: the time of [`Record::due`] has come. Where one of them has a
    /// lease, its worker died. Also those [from the future](Record::is_from_the_future).
    Due,
    /// Those for which the time of [`Record::due`] is yet to come: they wait, or somebody works on
    /// them.
    Waiting,
    /// Those that gave up, and are not tried until somebody [forgets](super::step::forget) them.
    /// They are listed in the order of their keys alone.
    GaveUp,
}

/// A page of keys to list, in the order of [`Record::due`], then of the keys. Keys are ordered by
/// their bytes, or as the store says if it has an order of its own; the order is the same for all
/// pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Which keys.
    pub which: Which,
    /// How many at most.
    pub limit: usize,
    /// Only those after this place, which is the last of the page before.
    pub after: Option<Cursor>,
}

/// A place in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Cursor {
    /// When the key is due; for one that gave up, the end of time.
    #[cfg_attr(feature = "serde", serde(with = "super::record::json::time"))]
    pub due: SystemTime,
    /// The key.
    pub key: String,
}

/// A key and its record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// Its record.
    pub record: Record,
}

impl Page {
    /// The first `limit` keys.
    #[must_use]
    pub fn first(which: Which, limit: usize) -> Page {
        Page {
            which,
            limit,
            after: None,
        }
    }

    /// The page after this one, which ended with `last`.
    #[must_use]
    pub fn after(mut self, last: &Listed) -> Page {
        self.after = Some(last.cursor());
        self
    }

    /// Whether a record belongs to the listing, whatever the page.
    #[must_use]
    pub fn lists(&self, record: &Record, now: SystemTime) -> bool {
        let is_due = |due| due <= now || record.is_from_the_future(now);
        match (self.which, record.due()) {
            (Which::GaveUp, due) => due.is_none(),
            (_, None) => false,
            (Which::Due, Some(due)) => is_due(due),
            (Which::Waiting, Some(due)) => !is_due(due),
        }
    }

    /// The page, out of all there is: for stores that hold everything in memory.
    pub(super) fn of<'a>(
        &self,
        records: impl Iterator<Item = (&'a str, &'a Record)>,
        now: SystemTime,
    ) -> Vec<Listed> {
        let mut places: Vec<_> = records
            .filter(|(_, record)| self.lists(record, now))
            .map(|(key, record)| (place(record), key, record))
            .filter(|&(due, key, _)| {
                self.after
                    .as_ref()
                    .is_none_or(|after| (due, key) > (after.due, after.key.as_str()))
            })
            .collect();
        let order = |&(due, key, _): &(SystemTime, &'a str, &Record)| (due, key);
        if self.limit < places.len() {
            places.select_nth_unstable_by_key(self.limit, order);
            places.truncate(self.limit);
        }
        places.sort_unstable_by_key(order);
        places
            .into_iter()
            .map(|(_, key, record)| Listed {
                key: key.to_owned(),
                record: record.clone(),
            })
            .collect()
    }
}

impl Listed {
    /// Those that were started, each with its new record.
    pub(super) fn started(due: Vec<Listed>, started: Vec<Result<Record, Refusal>>) -> Vec<Listed> {
        let both = due.into_iter().zip(started);
        both.filter_map(|(Listed { key, .. }, started)| {
            let record = started.ok()?;
            Some(Listed { key, record })
        })
        .collect()
    }

    /// Its place in the listing.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            due: place(&self.record),
            key: self.key.clone(),
        }
    }
}

/// When a key is due, for the order of a listing: at the end of time, if it gave up.
fn place(record: &Record) -> SystemTime {
    record.due().unwrap_or(SystemTime::UNIX_EPOCH + END)
}
