//! A rack of machines, in a database of its own: it takes orders, but none from a worker that another
//! has come after.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::machines::{Kind, Taken};
use crate::worker::{Hardware, Trouble};

/// How long each of the three orders takes that a process consists of.
const ORDER: Duration = Duration::from_millis(50);

pub(crate) struct Rack {
    pub(crate) connection: Connection,
}

impl Rack {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Rack> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS orders (
                 id INTEGER PRIMARY KEY AUTOINCREMENT,
                 machine TEXT NOT NULL,
                 kind TEXT NOT NULL,
                 token INTEGER NOT NULL,
                 worker TEXT NOT NULL,
                 taken INTEGER NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS fault (
                 machine TEXT PRIMARY KEY,
                 fails INTEGER NOT NULL,
                 busy INTEGER NOT NULL
             ) STRICT;",
        )?;
        Ok(Rack { connection })
    }

    /// Has a machine fail so many times, and then be too busy for some more.
    pub(crate) fn fault(&self, machine: &str, fails: u32, busy: u32) -> rusqlite::Result<usize> {
        let fault = "INSERT INTO fault VALUES (?1, ?2, ?3)";
        self.connection
            .execute(fault, params![machine, fails, busy])
    }

    fn meets(&self, fault: &str, machine: &str) -> rusqlite::Result<bool> {
        let met =
            format!("UPDATE fault SET {fault} = {fault} - 1 WHERE machine = ?1 AND {fault} > 0");
        Ok(self.connection.execute(&met, [machine])? > 0)
    }

    /// Gives an order, if nobody with a later token has. Returns whether it was taken.
    fn order(&self, kind: Kind, work: &dyn Taken) -> rusqlite::Result<bool> {
        let token = i64::try_from(work.token()).unwrap_or(i64::MAX);
        let lease = work.record().lease.as_ref();
        let holder = lease.map(|lease| lease.holder.as_str());
        self.connection.query_row(
            "INSERT INTO orders (machine, kind, token, worker, taken)
             SELECT ?1, ?2, ?3, ?4, NOT EXISTS
                 (SELECT 1 FROM orders WHERE machine = ?1 AND kind = ?2 AND token > ?3)
             RETURNING taken",
            params![work.key(), kind.name(), token, holder],
            |row| row.get(0),
        )
    }
}

impl Hardware for Rack {
    fn provision(&mut self, kind: Kind, work: &dyn Taken) -> Result<String, Trouble> {
        let broken = |error: rusqlite::Error| Trouble::Failed(error.to_string());
        for _ in 0..3 {
            // A worker would ask its work first whether it has expired. That may be so a moment later
            // all the same, so it is for the rack to refuse what comes too late.
            if !self.order(kind, work).map_err(broken)? {
                return Err(Trouble::Failed("order refused: it is stale".to_owned()));
            }
            thread::sleep(ORDER);
        }
        if self.meets("fails", work.key()).map_err(broken)? {
            return Err(Trouble::Failed("no answer".to_owned()));
        }
        if self.meets("busy", work.key()).map_err(broken)? {
            return Err(Trouble::NotNow);
        }
        Ok(format!("{} {}", kind.name(), work.token()))
    }
}
