//! What can go wrong with a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::unreadable::Unreadable;

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
    /// The file belongs to another user or group, and this process has no right to give the
    /// replacement to them too. Nothing was written.
    Owner {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, not relent's, or of a newer version.
    Unreadable(Unreadable),
    /// The program's own data cannot be written as JSON.
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

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
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
                "{} is locked; another process has the file open, or this one has already",
                path.display()
            ),
            FileError::Symlink { path } => write!(
                f,
                "{} is a link; name the file that it points to",
                path.display()
            ),
            FileError::Owner { path } => write!(
                f,
                "{} belongs to another user or group; run as that user, or give it to this one",
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
