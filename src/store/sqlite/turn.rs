//! Waiting for one's turn to write.

use std::cell::RefCell;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::SqliteStore;
use crate::policy::Backoff;
use crate::state::Schedule;

/// Short and spread: a turn takes as long as the disk takes to sync. `SQLite`'s own way to wait
/// sleeps up to a tenth of a second, the same for all: with eight processes on 200 keys, a quarter
/// as much got done.
const TURN: Backoff = Backoff::exponential(Duration::from_micros(200), Duration::from_millis(4))
    .give_up_after(SqliteStore::BUSY);

thread_local! {
    static WAITING: RefCell<Option<Schedule>> = const { RefCell::new(None) };
}

/// How long to wait, each time.
pub(super) fn waits() -> Schedule {
    TURN.schedule()
}

pub(super) fn pause(pause: Duration) {
    thread::sleep(pause);
}

/// A connection that waits for its turn, whatever it does.
#[allow(clippy::unnecessary_mut_passed)] // rusqlite needs it from 0.41 on
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    Connection::busy_handler(&mut connection, Some(wait as fn(i32) -> bool))?;
    Ok(connection)
}

/// Has a connection report that it is not its turn, so that the caller waits.
#[allow(clippy::unnecessary_mut_passed)] // as above
pub(super) fn wait_outside(connection: &mut Connection) -> rusqlite::Result<()> {
    Connection::busy_handler(connection, None)
}

/// `SQLite` asks this whether to try once more, and says how often it has tried for the same turn.
fn wait(before: i32) -> bool {
    let next = WAITING.with_borrow_mut(|waiting| {
        if before == 0 {
            *waiting = None;
        }
        waiting.get_or_insert_with(waits).next()
    });
    next.map(pause).is_some()
}

/// Changes to a write-ahead log. Where several connections do so at once, `SQLite` itself does not
/// wait: each of them is reading already, so they would wait for each other.
pub(super) fn to_write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mut before = 0;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && wait(before) => before += 1,
            done => return done,
        }
    }
}

/// Whether there is a write-ahead log.
pub(super) fn is_write_ahead(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode == "wal")
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
