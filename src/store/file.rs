//! A store in one file.

mod disk;

pub use disk::FileError;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::blocking::Store;
use super::change::Change;
use super::listing::{Listed, Page};
use super::memory::Kept;
use super::record::Record;
use crate::clock::{Clock, MonotonicClock};
use disk::{Disk, Locked};

/// Keeps records in one JSON document that people can read, for one process at a time.
///
/// For programs that must remember a few hundred keys over a restart, without a database. What was
/// answered is on the disk: each change writes the whole document anew beside the old one, has it
/// synced, and renames it into place. After a crash at any instant the file is the old document or
/// the new one. So a change costs about a microsecond for each key that is kept, beside the two
/// syncs: 12 ms at ten thousand, where it was measured. With more than a thousand keys, or more than
/// one process, use `SqliteStore`.
///
/// A lock of the operating system, on a file beside it whose name ends in `.lock`, keeps a second
/// process out. It is free again when this is dropped or the process dies, however it dies; the lock
/// file stays, and means nothing by itself.
///
/// To edit the document by hand, stop the program and delete the line with the checksum.
///
/// ```
/// use relent::Backoff;
/// use relent::store::{FileStore, blocking::DurableTracker};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("backoff.json");
/// let tracker = DurableTracker::new(FileStore::open(&path)?, Backoff::DEFAULT);
/// tracker.record_failure("disk-7", "no such device")?;
/// drop(tracker);
///
/// let tracker = DurableTracker::new(FileStore::open(&path)?, Backoff::DEFAULT);
/// assert_eq!(tracker.get("disk-7")?.map(|record| record.state.failures), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStore<C = MonotonicClock> {
    disk: Disk,
    clock: C,
    /// What the file says. `None` after a write that failed, or a change that panicked: then only
    /// the file knows.
    known: Mutex<Option<Kept>>,
    _lock: Locked,
}

impl FileStore {
    /// Opens the document at `path`, or begins one. It goes by the machine's clock.
    ///
    /// # Errors
    ///
    /// [`FileError::Locked`] if another process has it, or this one has it open already;
    /// [`FileError::Unreadable`] if it is damaged or something else, or of a newer version;
    /// [`FileError::Symlink`]; [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<FileStore, FileError> {
        FileStore::with_clock(path, MonotonicClock)
    }
}

impl<C: Clock> FileStore<C> {
    /// As [`open`](FileStore::open), with another clock, whose time of day it goes by.
    ///
    /// # Errors
    ///
    /// As for [`open`](FileStore::open).
    pub fn with_clock(path: impl AsRef<Path>, clock: C) -> Result<FileStore<C>, FileError> {
        let path: PathBuf = path.as_ref().to_owned();
        let lock = Locked::take(&path)?;
        let disk = Disk::new(path);
        let known = disk.read()?;
        Ok(FileStore {
            disk,
            clock,
            known: Mutex::new(Some(known)),
            _lock: lock,
        })
    }

    /// Runs `change`, and writes the document if it says that there is something to write.
    fn write<R>(
        &self,
        change: impl FnOnce(&mut Kept, SystemTime) -> (bool, R),
    ) -> Result<R, FileError> {
        let mut slot = self.known.lock();
        // Out of the slot, so that nothing is known unless all went well.
        let mut known = match slot.take() {
            Some(known) => known,
            None => self.disk.read()?,
        };
        let (written, answer) = change(&mut known, self.clock.wall());
        if written {
            self.disk.write(&known)?;
        }
        *slot = Some(known);
        Ok(answer)
    }

    fn read<R>(&self, look: impl FnOnce(&Kept, SystemTime) -> R) -> Result<R, FileError> {
        self.write(|known, now| (false, look(known, now)))
    }
}

impl<C: Clock> Store for FileStore<C> {
    type Error = FileError;

    fn update<R>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, FileError> {
        self.write(|known, now| known.update(key, now, change))
    }

    fn update_all<R>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<Vec<R>, FileError> {
        self.write(|known, now| known.update_all(keys, now, change))
    }

    fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), FileError> {
        self.read(|known, now| (known.get(key).cloned(), now))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, FileError> {
        self.read(|known, now| known.page(page, now))
    }
}
