//! Three folders: parents, which people edit, the children that they have, and the status of each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[path = "files.rs"]
mod files;

/// The files to render, by name.
pub(crate) type Children = BTreeMap<String, String>;

/// What a parent says, or why it cannot be read; `None` once it is gone.
pub(crate) type Text = Option<Result<String, String>>;

/// `parents/*.json`, `children/*/*` and `status/*.json`.
pub(crate) struct Folders(PathBuf);

impl Folders {
    pub(crate) fn open(home: &Path) -> io::Result<Folders> {
        for folder in ["parents", "children", "status"] {
            fs::create_dir_all(home.join(folder))?;
        }
        Ok(Folders(home.to_owned()))
    }

    /// All parents, including those of which only a folder of children is left: they were deleted
    /// while nobody was looking.
    pub(crate) fn parents(&self) -> io::Result<BTreeMap<String, Text>> {
        let left = files::names(&self.0.join("children"), "")?;
        let mut parents: BTreeMap<_, _> = left.into_iter().map(|name| (name, None)).collect();
        for name in files::names(&self.0.join("parents"), ".json")? {
            match fs::read_to_string(self.file("parents", &name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                text => drop(parents.insert(name, Some(text.map_err(|error| error.to_string())))),
            }
        }
        Ok(parents)
    }

    /// Makes a folder for a parent's children. As long as the folder is there, there is something
    /// to undo.
    pub(crate) fn claim(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.children(name))
    }

    /// Makes the children what they should be.
    pub(crate) fn render(&self, name: &str, children: &Children) -> io::Result<()> {
        self.claim(name)?;
        let folder = self.children(name);
        for file in files::names(&folder, "")? {
            if !children.contains_key(&file) {
                fs::remove_file(folder.join(file))?;
            }
        }
        children
            .iter()
            .try_for_each(|(file, text)| files::write(&folder.join(file), text))
    }

    /// Removes the folder that had the children.
    pub(crate) fn release(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.children(name))
    }

    pub(crate) fn tell(&self, name: &str, status: &str) -> io::Result<()> {
        files::write(&self.file("status", name), status)
    }

    fn file(&self, folder: &str, name: &str) -> PathBuf {
        self.0.join(folder).join(format!("{name}.json"))
    }

    fn children(&self, name: &str) -> PathBuf {
        self.0.join("children").join(name)
    }
}
