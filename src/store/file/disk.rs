//! The file: replaced as a whole, or not at all; and the lock beside it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

use super::Content;
use crate::store::document;
use crate::store::unreadable::{Problem, Unreadable};

/// What can go wrong with a [`FileStore`](super::FileStore).
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// Another process has the file, or this one has it open already.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A link is where the file should be: replacing it would not change what it points to.
    Symlink {
        /// Where.
        path: PathBuf,
    },
    /// The file cannot be read for what it is.
    Unreadable(Unreadable),
    /// What the program keeps of its own cannot be written as JSON.
    Data {
        /// Why not.
        why: String,
    },
    /// The disk failed. A write may have been made or not; the next call reads which.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    temporary: PathBuf,
    place: String,
}

impl Disk {
    pub(super) fn new(path: PathBuf) -> Disk {
        Disk {
            temporary: beside(&path, ".tmp"),
            place: format!("the file {}", path.display()),
            path,
        }
    }

    /// What the file says; nothing is known if there is none.
    pub(super) fn read(&self) -> Result<Content, FileError> {
        refuse_link(&self.path)?;
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(failed("read", &self.path)(error)),
        };
        let (kept, data) = document::decode(bytes).map_err(|problem| self.unreadable(problem))?;
        Ok(Content { kept, data })
    }

    pub(super) fn unreadable(&self, problem: Problem) -> FileError {
        FileError::Unreadable(Unreadable {
            place: self.place.clone(),
            problem,
        })
    }

    /// Replaces the file. When this returns, the new one is on the disk, whatever happens next.
    pub(super) fn write(&self, content: &Content) -> Result<(), FileError> {
        let encoded = document::encode(&content.kept, content.data.as_ref());
        let encoded = encoded.map_err(io::Error::from);
        let bytes = encoded.map_err(failed("encode", &self.path))?;
        self.write_temporary(&bytes)
            .map_err(failed("write", &self.temporary))?;
        refuse_link(&self.path)?;
        fs::rename(&self.temporary, &self.path).map_err(failed("replace", &self.path))?;
        sync_directory(&self.path).map_err(failed("sync the directory of", &self.path))
    }

    fn write_temporary(&self, bytes: &[u8]) -> io::Result<()> {
        // What a crash may have left, or somebody's link: never written through.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(&self.temporary)?;
        if let Ok(metadata) = fs::metadata(&self.path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    }
}

/// The right to the file, for as long as this lives.
#[derive(Debug)]
pub(super) struct Locked {
    /// The operating system frees it with the last handle: also when the process is killed.
    file: File,
}

impl Locked {
    pub(super) fn take(path: &Path) -> Result<Locked, FileError> {
        let path = beside(path, ".lock");
        let file = open_lock(&path)?;
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
fn open_lock(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    loop {
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return created.map_err(failed("create", path)),
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

fn refuse_link(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(FileError::Symlink {
            path: path.to_owned(),
        }),
        _ => Ok(()),
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

/// Makes the rename as durable as the file.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Elsewhere a directory cannot be opened, and a rename is as durable as it gets.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Locked { path } => write!(
                f,
                "{} is locked; another process works with the file, or this one has it open",
                path.display()
            ),
            FileError::Symlink { path } => write!(
                f,
                "{} is a link; name the file that it points to",
                path.display()
            ),
            FileError::Unreadable(unreadable) => unreadable.fmt(f),
            FileError::Data { why } => {
                write!(f, "the program's own data cannot be kept as JSON: {why}")
            }
            FileError::Io {
                doing,
                path,
                source,
            } => write!(f, "could not {doing} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FileError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
