//! What calls are named, so that the server knows one that it has answered already.

use std::fmt;

use parking_lot::Mutex;

use crate::random;

/// The lines over which a handle calls: as many as there ever were calls at once.
///
/// A client may send a call again whose answer was lost: that of a cluster does. The server keeps
/// the last answer of each line, and gives that.
#[derive(Debug)]
pub(super) struct Lines {
    handle: u64,
    lines: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    number: u64,
    free: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    number: u64,
    /// How many calls there were before.
    calls: u64,
}

/// A line that is taken. Let go when dropped.
#[derive(Debug)]
pub(super) struct Call<'a> {
    lines: &'a Lines,
    line: Line,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines {
            handle: random::seed(),
            lines: Mutex::default(),
        }
    }
}

impl Lines {
    pub(super) fn call(&self) -> Call<'_> {
        let mut seen = self.lines.lock();
        let mut line = seen.free.pop().unwrap_or_else(|| {
            seen.number += 1;
            let number = seen.number;
            Line { number, calls: 0 }
        });
        line.calls += 1;
        Call { lines: self, line }
    }
}

impl Call<'_> {
    /// Which of the calls over its line it is.
    pub(super) fn number(&self) -> u64 {
        self.line.calls
    }
}

/// The name of its line.
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.lines.handle, self.line.number)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.lines.lines.lock().free.push(self.line);
    }
}
