//! The file: replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Content;
use super::error::{FileError, failed};
use crate::store::document;
use crate::store::memory::Kept;
use crate::store::unreadable::{Problem, Unreadable};

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

    /// What the file says; nothing, if there is none.
    pub(super) fn read(&self) -> Result<Content, FileError> {
        refuse_link(&self.path)?;
        // To read a pipe is to wait until somebody writes to it.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            let why = "it is not a regular file".to_owned();
            return Err(self.unreadable(Problem::Foreign(why)));
        }
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(failed("read", &self.path)(error)),
        };
        let decoded = document::decode::<Kept>(bytes).and_then(|(kept, data)| {
            let wrong = kept.wrong_tokens().map(Problem::Damaged);
            wrong.map_or(Ok(Content { kept, data }), Err)
        });
        decoded.map_err(|problem| self.unreadable(problem))
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
        // On a full disk, what is left behind would take up the room that there is.
        self.replace(&bytes)
            .inspect_err(|_| drop(fs::remove_file(&self.temporary)))?;
        sync_directory(&self.path).map_err(failed("sync the directory of", &self.path))
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), FileError> {
        self.write_temporary(bytes)?;
        refuse_link(&self.path)?;
        fs::rename(&self.temporary, &self.path).map_err(failed("replace", &self.path))
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<(), FileError> {
        let io = || failed("write", &self.temporary);
        // A crash may have left a file here, or somebody may have put a link: never write through
        // it.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io()(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).open(&self.temporary);
        let mut file = created.map_err(io())?;
        keep_owner(&file, &self.path)?;
        if let Ok(metadata) = fs::metadata(&self.path) {
            file.set_permissions(metadata.permissions()).map_err(io())?;
        }
        file.write_all(bytes).map_err(io())?;
        file.sync_all().map_err(io())
    }
}

/// Gives a new file to the owner and the group of the one at `path`, if there is one: a program
/// that is once run as another user must not lock out the owner of the file.
#[cfg(unix)]
pub(super) fn keep_owner(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let Ok(old) = fs::metadata(path) else {
        return Ok(());
    };
    let new = file.metadata().map_err(failed("look at", path))?;
    let owner = (new.uid() != old.uid()).then_some(old.uid());
    let group = (new.gid() != old.gid()).then_some(old.gid());
    if owner.or(group).is_none() {
        return Ok(());
    }
    fchown(file, owner, group).map_err(|_| FileError::Owner {
        path: path.to_owned(),
    })
}

/// Elsewhere the directory decides whom a file belongs to.
#[cfg(not(unix))]
pub(super) fn keep_owner(_: &File, _: &Path) -> Result<(), FileError> {
    Ok(())
}

pub(super) fn refuse_link(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(FileError::Symlink {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Makes the rename as durable as the file.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Elsewhere a directory cannot be opened, and a rename is as durable as it gets.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
