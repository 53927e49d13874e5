//! The backup runner's own code: its logic on a clock that the tests move, and real runners over
//! real services, killed at every point of the journal.

#![cfg(unix)]

#[expect(dead_code, reason = "its story is told by running it")]
#[path = "../examples/backup_runner.rs"]
mod backup_runner;
#[path = "backup_runner/case.rs"]
mod case;
#[path = "backup_runner/crashes.rs"]
mod crashes;
#[path = "backup_runner/failures.rs"]
mod failures;
