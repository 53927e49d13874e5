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
    pub(super) fn take(path: &Path) -> Result<Locked, FileError> {
        let document = path;
        let path = beside(document, ".lock");
        let file = open_lock(&path, document)?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Locked { file }),
            Err(TryLockError::WouldBlock) => Err(FileError::Locked { path }),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }
}

impl Drop for Locked {
    /// Closing the file would not do: where another thread is about to spawn a process, that has the
    /// file open too until it runs its program.
    fn drop(&mut self) {
        // If this fails, closing has to do.
        let _ = FileExt::unlock(&self.file);
    }
}

/// Opens the lock file, without following a link, and without ever emptying or removing it: a
/// process that locked a file which is gone would be alone with it.
fn open_lock(path: &Path, document: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    loop {
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => {
                let file = created.map_err(failed("create", path))?;
                keep_owner(&file, document)?;
                return Ok(file);
            }
        }
        refuse_link(path)?;
        match options.open(path) {
            // Gone between the two: somebody cleans up.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => {
                let file = opened.map_err(failed("open", path))?;
                refuse_other(&file, path)?;
                return Ok(file);
            }
        }
    }
}

/// Refuses a file that is not the one at `path`: a link was put there meanwhile.
#[cfg(unix)]
fn refuse_other(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::MetadataExt;

    let opened = file.metadata().map_err(failed("look at", path))?;
    let there = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if (opened.dev(), opened.ino()) == (there.dev(), there.ino()) {
        Ok(())
    } else {
        Err(FileError::Symlink {
            path: path.to_owned(),
        })
    }
}

#[cfg(not(unix))]
fn refuse_other(_: &File, path: &Path) -> Result<(), FileError> {
    refuse_link(path)
}
