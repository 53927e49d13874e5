//! A store in one file.

mod disk;
mod error;
mod lock;
mod transaction;

pub use error::FileError;
pub use transaction::FileTransaction;

use std::path::{self, Path};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::blocking::{Store, Transactional};
use super::change::Change;
use super::listing::{Listed, Page};
use super::memory::Kept;
use super::record::Record;
use super::unreadable::Problem;
use crate::clock::{Clock, MonotonicClock};
use disk::Disk;
use error::failed;
use lock::Locked;

/// Keeps records in one JSON document that people can read, for one process at a time.
///
/// For programs that must remember a few hundred keys across restarts, without a database. What was
/// answered is on the disk: each change writes the whole document anew beside the old one, syncs
/// it, and renames it into place. After a crash at any instant, the file is the old document or the
/// new one. A change therefore costs about a microsecond for each key in the document, besides the
/// two syncs: 13 ms at ten thousand keys, where it was measured. With more than a thousand keys, or
/// more than one process, use `SqliteStore`.
///
/// A lock of the operating system, on a second file whose name ends in `.lock`, keeps other
/// processes out. It is released when the store is dropped or the process dies, however it dies;
/// the lock file stays, and means nothing by itself.
///
/// The file keeps its owner, group and permissions, even if the program is once run as root; where
/// this process has no right to keep them, nothing is written. A relative path is taken from the
/// working directory at the time the store is opened.
///
/// Beside the records, the document can hold [data](Self::data) of the program's own: a journal,
/// say, of which each step has to be written together with the outcome of the step. See
/// [`transaction`](Self::transaction).
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
    known: Mutex<Option<Content>>,
    _lock: Locked,
}

/// What is in the document.
#[derive(Debug, Default)]
struct Content {
    kept: Kept,
    data: Option<Value>,
}

impl FileStore {
    /// Opens the document at `path`, or begins one. The store goes by the machine's clock.
    ///
    /// # Errors
    ///
    /// [`FileError::Locked`] if another process has the file open, or this one has already;
    /// [`FileError::Unreadable`] if the file is damaged, not relent's, or of a newer version;
    /// [`FileError::Symlink`]; [`FileError::Owner`]; [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<FileStore, FileError> {
        FileStore::with_clock(path, MonotonicClock)
    }
}

impl<C: Clock> FileStore<C> {
    /// As [`open`](FileStore::open), for a store that goes by another clock's time of day.
    ///
    /// # Errors
    ///
    /// As for [`open`](FileStore::open).
    pub fn with_clock(path: impl AsRef<Path>, clock: C) -> Result<FileStore<C>, FileError> {
        let path = path.as_ref();
        // The working directory may be another one by the time of the next write.
        let path = path::absolute(path).map_err(failed("find", path))?;
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

    /// The store's time.
    pub fn now(&self) -> SystemTime {
        self.clock.wall()
    }

    /// The program's own data in the document; `None` if it never put any there.
    ///
    /// # Errors
    ///
    /// [`FileError::Unreadable`] if it is data of another type; [`FileError::Io`].
    pub fn data<D: DeserializeOwned>(&self) -> Result<Option<D>, FileError> {
        let data = self.read(|content, _| content.data.clone())?;
        data.map(serde_json::from_value)
            .transpose()
            .map_err(|error| {
                let problem = Problem::Damaged(format!("its data: {error}"));
                self.disk.unreadable(problem)
            })
    }

    /// Runs `work`, and writes all that it changed, in records and in the program's own data, at
    /// once; or nothing at all, if it fails.
    ///
    /// It runs under the store's lock, so it may use the store, or a tracker over it, only through
    /// the transaction: any other call would wait for itself.
    ///
    /// ```
    /// use relent::Backoff;
    /// use relent::store::{FileStore, blocking::DurableTracker};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("copies.json");
    /// let tracker = DurableTracker::new(FileStore::open(&path)?, Backoff::DEFAULT);
    /// let mut copied: Vec<String> = tracker.store().data()?.unwrap_or_default();
    /// copied.push("disk-7".to_owned());
    /// tracker.store().transaction(|transaction| {
    ///     transaction.put_data(&copied)?;
    ///     tracker.record_success_in(transaction, "disk-7")
    /// })?;
    /// assert_eq!(tracker.store().data::<Vec<String>>()?, Some(copied));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// That of `work`: a [`FileError`]; the [`Error`](super::Error),
    /// [`StartError`](super::StartError) or [`WorkError`](super::WorkError) that a tracker's method
    /// returns; or any other type that `?` turns a [`FileError`] into. After [`FileError::Io`],
    /// either all of it was written or nothing.
    pub fn transaction<T, E: From<FileError>>(
        &self,
        work: impl FnOnce(&mut FileTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut slot = self.known.lock();
        // Taken out of the slot, so that nothing is known unless all goes well.
        let content = match slot.take() {
            Some(content) => content,
            None => self.disk.read()?,
        };
        let mut transaction = FileTransaction::new(content, self.now());
        let done = work(&mut transaction)?;
        let (content, written) = transaction.end();
        if written {
            self.disk.write(&content)?;
        }
        *slot = Some(content);
        Ok(done)
    }

    /// Runs `change`, and writes the document if it says that there is something to write.
    fn write<R>(
        &self,
        change: impl FnOnce(&mut Kept, SystemTime) -> (bool, R),
    ) -> Result<R, FileError> {
        self.transaction(|transaction| Ok(transaction.change(change)))
    }

    fn read<R>(&self, look: impl FnOnce(&Content, SystemTime) -> R) -> Result<R, FileError> {
        self.transaction(|transaction| Ok(transaction.look(look)))
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
        self.read(|content, now| (content.kept.get(key).cloned(), now))
    }

    fn list(&self, page: &Page) -> Result<Vec<Listed>, FileError> {
        self.read(|content, now| content.kept.page(page, now))
    }
}

/// Within [`FileStore::transaction`].
impl<C: Clock> Transactional for FileStore<C> {
    type Connection<'a> = &'a mut FileTransaction;

    fn update_in<R>(
        &self,
        transaction: &mut FileTransaction,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
    ) -> Result<R, FileError> {
        Ok(transaction.change(|kept, now| kept.update(key, now, change)))
    }
}
