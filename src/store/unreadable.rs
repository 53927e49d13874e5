//! Something that a store finds and cannot read.

use std::fmt;

/// Something stored that this version cannot read. It was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which file or row.
    pub place: String,
    /// Why it cannot be read.
    pub problem: Problem,
}

/// Why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It was written by this crate, and is no longer as it was written.
    Damaged(String),
    /// It is something else, which this crate did not write.
    Foreign(String),
    /// It was written by a newer version of this crate.
    Newer {
        /// Its version.
        found: u64,
        /// The newest version that this one can read.
        known: u64,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match &self.problem {
            Problem::Damaged(why) => write!(
                f,
                "{place} is damaged ({why}); nothing was changed: restore it, or remove it to begin anew"
            ),
            Problem::Foreign(why) => write!(
                f,
                "{place} is not relent's ({why}); nothing was changed: give relent a place of its own"
            ),
            Problem::Newer { found, known } => write!(
                f,
                "{place} has version {found}, newer than {known}; nothing was changed: use a newer relent"
            ),
        }
    }
}

impl std::error::Error for Unreadable {}
