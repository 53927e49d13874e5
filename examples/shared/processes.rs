//! Processes that a story starts, signals and waits for.
#![allow(dead_code)] // each example needs other parts

use std::io;
use std::process::{self, Child, Command};
use std::time::Duration;

use relent::Backoff;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How to wait for what other processes do.
const PATIENCE: Backoff =
    Backoff::fixed(Duration::from_millis(2)).give_up_after(Duration::from_secs(60));

/// The processes; none is left running, however the story ends.
pub(crate) struct Processes(pub(crate) Vec<Child>);

impl Processes {
    pub(crate) fn signal(&self, n: usize, signal: &str) -> io::Result<()> {
        send(signal, self.0[n].id())
    }

    /// Waits for the end of each.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        for child in &mut self.0 {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended is not killed.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Sends a process a signal, such as `-STOP`.
pub(crate) fn send(signal: &str, process: u32) -> io::Result<()> {
    let process = process.to_string();
    let sent = Command::new("kill").args([signal, &process]).status()?;
    if sent.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("no process {process}")))
    }
}

/// Ends this process at once: nothing is cleaned up, and nothing comes after this.
pub(crate) fn die() -> ! {
    let _ = send("-KILL", process::id());
    process::abort()
}

/// Waits until there is an answer, but no longer than people would.
pub(crate) fn wait_until<T>(
    or: &str,
    ready: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    ask(PATIENCE, ready)?.ok_or_else(|| or.into())
}

/// Waits for an answer for a while. `Ok(None)` if there is none by then.
pub(crate) fn wait_a_while<T>(
    ready: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    ask(PATIENCE.give_up_after(Duration::from_secs(5)), ready)
}

fn ask<T>(
    patience: Backoff,
    mut ready: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let asked = patience.retry(|| ready().transpose().ok_or(())).call();
    asked.ok().transpose()
}
