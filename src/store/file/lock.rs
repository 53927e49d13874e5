//! The lock beside the file.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use fs4::{FileExt, TryLockError};

use super::disk::{beside, keep_owner, refuse_link};
use super::error::{FileError, failed};

/// The right to the file, for as long as this lives.
#[derive(Debug)]
pub(super) struct Locked {
    /// The operating system releases the lock with the last handle, even when the process is
    /// killed.
    file: File,
}

impl Locked {
    pub(super) fn take(document: &Path) -> Result<Locked, FileError> {
        let path = beside(document, ".lock");
        loop {
            let (file, is_new) = open(&path)?;
            match FileExt::try_lock(&file) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(FileError::Locked { path }),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
            let locked = Locked { file };
            if is_new {
                // Left there with another owner, it would lock out the owner of the document.
                keep_owner(&locked.file, document).inspect_err(|_| drop(fs::remove_file(&path)))?;
            }
            if is_at(&locked.file, &path)? {
                return Ok(locked);
            }
        }
    }
}

impl Drop for Locked {
    /// Closing the file is not enough: a process that another thread is just spawning has the file
    /// open too, until it runs its program.
    fn drop(&mut self) {
        // If this fails, closing has to do.
        let _ = FileExt::unlock(&self.file);
    }
}

/// Opens the lock file, or makes it; without following a link, and without ever emptying it. The
/// file is never cleaned up: a process that holds the lock of a removed file keeps nobody out.
fn open(path: &Path) -> Result<(File, bool), FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    loop {
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return Ok((created.map_err(failed("create", path))?, true)),
        }
        refuse_link(path)?;
        match options.open(path) {
            // Removed between the two calls: somebody is cleaning up.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return Ok((opened.map_err(failed("open", path))?, false)),
        }
    }
}

/// Whether `file` is still the one at `path`: not if it was removed meanwhile, or replaced by a
/// link.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> Result<bool, FileError> {
    use std::os::unix::fs::MetadataExt;

    let opened = file.metadata().map_err(failed("look at", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Elsewhere an open file is not removed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> Result<bool, FileError> {
    refuse_link(path).map(|()| true)
}
