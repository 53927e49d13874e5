//! The program that runs, once more, in a process of its own.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A child process that reads lines. It should end when there are no more lines: then it also ends
/// if its parent dies.
pub(crate) struct Twin {
    process: Child,
    input: ChildStdin,
}

impl Twin {
    pub(crate) fn start(arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> io::Result<Twin> {
        let mut command = Command::new(env::current_exe()?);
        let mut process = command.args(arguments).stdin(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Twin { process, input })
    }

    pub(crate) fn say(&mut self, lines: &str) -> io::Result<()> {
        self.input.write_all(lines.as_bytes())
    }

    /// Kills it where it is.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Lets it come to its end.
    pub(crate) fn end(mut self) -> io::Result<()> {
        drop(self.input);
        self.process.wait().map(drop)
    }
}
