//! Several changes to the document, written at once.

use std::time::SystemTime;

use serde::Serialize;

use super::Content;
use super::error::FileError;
use crate::store::memory::Kept;

/// A [`FileStore::transaction`](super::FileStore::transaction) that is open: pass it to the methods
/// of a tracker whose names end in `_in`.
#[derive(Debug)]
pub struct FileTransaction {
    content: Content,
    now: SystemTime,
    written: bool,
}

impl FileTransaction {
    pub(super) fn new(content: Content, now: SystemTime) -> FileTransaction {
        FileTransaction {
            content,
            now,
            written: false,
        }
    }

    /// The store's time, the same throughout.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Replaces the program's own data, by anything that `serde` can write as JSON and read back
    /// the same. A float that is not a number becomes `null`, as JSON has no other way to say it.
    ///
    /// # Errors
    ///
    /// [`FileError::Data`] for what JSON cannot express, such as a map whose keys are not strings.
    pub fn put_data<D: Serialize>(&mut self, data: &D) -> Result<(), FileError> {
        let data = serde_json::to_value(data).map_err(|error| FileError::Data {
            why: error.to_string(),
        })?;
        self.content.data = Some(data);
        self.written = true;
        Ok(())
    }

    /// Makes a change that says whether there is anything to write.
    pub(super) fn change<R>(
        &mut self,
        change: impl FnOnce(&mut Kept, SystemTime) -> (bool, R),
    ) -> R {
        let (written, answer) = change(&mut self.content.kept, self.now);
        self.written |= written;
        answer
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&Content, SystemTime) -> R) -> R {
        look(&self.content, self.now)
    }

    pub(super) fn end(self) -> (Content, bool) {
        (self.content, self.written)
    }
}
