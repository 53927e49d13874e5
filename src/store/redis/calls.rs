//! How calls are named, so that the server recognizes one that it has answered already.

use parking_lot::Mutex;

use crate::random;

/// The lines over which a handle makes its calls: as many as it ever made calls at once.
///
/// A call may be sent again because its answer was lost. The server keeps the last answer of each
/// line, and gives it again.
#[derive(Debug)]
pub(super) struct Lines {
    handle: u64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lines: u64,
    free: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: u64,
    /// How many calls were made over it.
    calls: u64,
}

/// A call. When it is dropped, its line is free for the next call, whether there was an answer or
/// not: the server knows the calls of a line by their order.
#[derive(Debug)]
pub(super) struct Call<'a> {
    lines: &'a Lines,
    line: Line,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines {
            handle: random::seed(),
            known: Mutex::default(),
        }
    }
}

impl Lines {
    pub(super) fn call(&self) -> Call<'_> {
        let mut known = self.known.lock();
        let mut line = known.free.pop().unwrap_or_else(|| {
            known.lines += 1;
            let name = known.lines;
            Line { name, calls: 0 }
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

    /// The name of its line.
    pub(super) fn line(&self) -> String {
        let (handle, name) = (self.lines.handle, self.line.name);
        format!("{handle:016x}-{name}")
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.lines.known.lock().free.push(self.line);
    }
}
