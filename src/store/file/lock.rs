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
    /// The operating system frees it with the last handle: also when the process is killed.
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
                // Left there, it would lock out whose document it is.
                keep_owner(&locked.file, document).inspect_err(|_| drop(fs::remove_file(&path)))?;
            }
            if is_at(&locked.file, &path)? {
                return Ok(locked);
            }
        }
    }
}

impl Drop for Locked {
    /// Closing the file would not do: where another thread is about to spawn a process, that has
    /// the file open too until it runs its program.
    fn drop(&mut self) {
        // If this fails, closing has to do.
        let _ = FileExt::unlock(&self.file);
    }
}

/// Opens the lock file, or makes it; without following a link, and without ever emptying it. It
/// stays where it is: a process that locked a file which is gone would be alone with it.
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
            // Gone between the two: somebody cleans up.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return Ok((opened.map_err(failed("open", path))?, false)),
        }
    }
}

/// Whether a file is the one at `path`: not if it was removed, or a link put there, meanwhile.
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

/// Elsewhere what is open is not removed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> Result<bool, FileError> {
    refuse_link(path).map(|()| true)
}
