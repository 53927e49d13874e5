//! What each crate does with input that a person may well write. Every cell is run.

mod delays;
mod loops;
mod policies;

use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::page;

/// Whose behaviour is shown, in the order of the columns.
pub const CRATES: [&str; 9] = [
    "relent",
    "backon",
    "backoff",
    "tokio-retry",
    "retry",
    "exponential-backoff",
    "retry-policies",
    "tower",
    "google-cloud-gax",
];

/// One question to all crates.
struct Row {
    input: &'static str,
    /// What would be right, as a noun.
    right: &'static str,
    /// Those that have a way to say it.
    trials: Vec<(&'static str, Trial)>,
}

type Trial = Box<dyn FnOnce(&Runtime) -> Finding + Send>;

/// What came of a trial.
enum Finding {
    Right,
    Wrong(String),
    /// A typed error while building.
    Refused(String),
    /// Its message.
    Panic(String),
    Endless,
    /// There is no way to write it.
    Unwritable,
}

/// No trial has more than milliseconds to do.
const LIMIT: Duration = Duration::from_secs(5);

pub fn section() -> String {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let rows: Vec<Row> = delays::rows().into_iter().chain(loops::rows()).collect();
    let mut table = vec![head()];
    let mut notes = String::new();
    for row in rows {
        let mut cells = vec!["–".to_string(); CRATES.len()];
        let mut seen = Vec::new();
        for (name, trial) in row.trials {
            let (verdict, what) = match run(trial) {
                Finding::Right => ("right", None),
                Finding::Wrong(what) => ("**wrong**", Some(what)),
                Finding::Refused(why) => ("refused", Some(format!("“{why}”"))),
                Finding::Panic(message) => ("**panic**", Some(format!("“{message}”"))),
                Finding::Endless => ("**endless**", Some(format!("no end within {LIMIT:?}"))),
                Finding::Unwritable => continue,
            };
            let column = CRATES.iter().position(|other| *other == name);
            cells[column.expect("a crate of the table")] = verdict.to_string();
            seen.extend(what.map(|what| format!("{name}: {what}")));
        }
        if !seen.is_empty() {
            let _ = writeln!(
                notes,
                "- {} ({}). {}.",
                row.input,
                row.right,
                seen.join("; ")
            );
        }
        cells.insert(0, row.input.to_string());
        table.push(cells);
    }
    panic::set_hook(hook);
    format!(
        "{}\nWhat was seen (and what would be right):\n\n{notes}",
        page::table(&table)
    )
}

fn head() -> Vec<String> {
    let names = CRATES.iter().map(ToString::to_string);
    [String::from("input")].into_iter().chain(names).collect()
}

/// Runs a trial in a thread of its own, and leaves it there if it does not end.
fn run(trial: Trial) -> Finding {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("a runtime");
        let _in = runtime.enter();
        let _ = sender.send(trial(&runtime));
    });
    match receiver.recv_timeout(LIMIT) {
        Ok(finding) => finding,
        Err(RecvTimeoutError::Timeout) => Finding::Endless,
        Err(RecvTimeoutError::Disconnected) => {
            panic!("a trial panics outside of the crate on trial")
        }
    }
}

/// What a crate answers, or its panic.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Finding> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        Finding::Panic(message.unwrap_or("no message").to_string())
    })
}

/// Right if there are no complaints.
fn judged(complaint: Option<String>) -> Finding {
    complaint.map_or(Finding::Right, Finding::Wrong)
}

/// A duration in its own precision, for a person to read.
fn shown(duration: Duration) -> String {
    if duration.as_secs() > 100 * 365 * 24 * 3600 {
        return "over a century".to_string();
    }
    let text = format!("{duration:?}");
    let unit = text.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    format!("{number} {unit}")
}
