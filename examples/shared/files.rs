//! Files, as programs that may be killed should treat them.

use std::fs;
use std::io;
use std::path::Path;

/// Replaces a file, so that nobody ever reads half of it; leaves it alone if it has that text
/// already.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let mut half = path.as_os_str().to_owned();
    half.push(".half");
    fs::write(&half, text)?;
    fs::rename(&half, path)
}

/// What `folder` contains that ends with `ending`, in order, without that ending.
pub(crate) fn names(folder: &Path, ending: &str) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let names = entries.iter().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(ending)?.to_owned())
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}
