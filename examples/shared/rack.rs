//! A rack of machines, in a database of its own: it takes orders, but none from a worker that was
//! followed by another; and its machines have their troubles.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::database::Error;
use super::processes::{wait_a_while, wait_until};

/// How long each of the three orders of a process takes.
const ORDER: Duration = Duration::from_millis(50);

/// The machines themselves.
pub(crate) trait Hardware {
    /// Does the job. Returns what to note, or why it failed.
    fn provision(&mut self, job: &Job<'_>) -> Result<String, Trouble>;
}

/// Which process a machine is to go through, by whom, and since when: a later token is a later
/// worker.
pub(crate) struct Job<'a> {
    pub(crate) kind: &'a str,
    pub(crate) machine: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) token: u64,
}

#[derive(Debug)]
pub(crate) enum Trouble {
    Failed(String),
    /// The machine is not to blame: it is left as it was.
    NotNow,
}

/// A machine and a process that it was going through.
pub(crate) type Victim = (String, String);

pub(crate) struct Rack {
    pub(crate) connection: Connection,
}

impl Rack {
    pub(crate) fn open(home: &Path) -> Result<Rack, Error> {
        let connection = Connection::open(home.join("rack.db"))?;
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

    /// Has machines fail a number of times, and then be too busy another number of times.
    pub(crate) fn set_up(&self, faults: &[(&str, u32, u32)]) -> Result<(), Error> {
        for fault in faults {
            let add = "INSERT INTO fault VALUES (?1, ?2, ?3)";
            self.connection.execute(add, *fault)?;
        }
        Ok(())
    }

    fn meets(&self, fault: &str, machine: &str) -> rusqlite::Result<bool> {
        let met =
            format!("UPDATE fault SET {fault} = {fault} - 1 WHERE machine = ?1 AND {fault} > 0");
        Ok(self.connection.execute(&met, [machine])? > 0)
    }

    /// Gives an order, if nobody with a later token has. Returns whether it was taken.
    fn order(&self, job: &Job<'_>) -> rusqlite::Result<bool> {
        let token = i64::try_from(job.token).unwrap_or(i64::MAX);
        self.connection.query_row(
            "INSERT INTO orders (machine, kind, token, worker, taken)
             SELECT ?1, ?2, ?3, ?4, NOT EXISTS
                 (SELECT 1 FROM orders WHERE machine = ?1 AND kind = ?2 AND token > ?3)
             RETURNING taken",
            params![job.machine, job.kind, token, job.worker],
            |row| row.get(0),
        )
    }

    /// The machine and the process that a worker's last order was for, if that was the first of
    /// three.
    fn first_order(&self, worker: &str) -> Result<Option<Victim>, Error> {
        let last = "SELECT machine, kind, count(*) FROM orders WHERE worker = ?1 GROUP BY token
                    ORDER BY token DESC LIMIT 1";
        let last = self.connection.query_row(last, [worker], |row| {
            let (machine, kind, orders): (_, _, i64) = row.try_into()?;
            Ok((orders == 1).then_some((machine, kind)))
        });
        Ok(last.optional()?.flatten())
    }

    /// Waits until a worker has given a machine the first of its orders, and says which.
    pub(crate) fn at_work(&self, worker: &str) -> Result<Victim, Error> {
        wait_until("a worker is idle", || self.first_order(worker))
    }

    /// Stops a worker that has given a machine the first of its orders, and says which.
    pub(crate) fn stop_at_work(
        &self,
        worker: &str,
        send: impl Fn(&str) -> io::Result<()>,
    ) -> Result<Victim, Error> {
        loop {
            let victim = self.at_work(worker)?;
            send("-STOP")?;
            // Unless it was quicker.
            if self.first_order(worker)?.as_ref() == Some(&victim) {
                return Ok(victim);
            }
            send("-CONT")?;
        }
    }

    /// Waits until another worker works in its place. None does where it was stopped within a
    /// transaction, whose locks keep the others out.
    pub(crate) fn is_overtaken(
        &self,
        worker: &str,
        (machine, kind): &Victim,
    ) -> Result<bool, Error> {
        let other = "SELECT worker <> ?1 FROM orders WHERE machine = ?2 AND kind = ?3
                     ORDER BY id DESC LIMIT 1";
        let overtaken = wait_a_while(|| {
            let values = [worker, machine, kind];
            let other: bool = self.connection.query_row(other, values, |row| row.get(0))?;
            Ok(other.then_some(()))
        })?;
        Ok(overtaken.is_some())
    }

    /// How many orders were refused, and whose.
    pub(crate) fn refused(&self) -> Result<(i64, String), Error> {
        let refused = "SELECT count(*), coalesce(group_concat(DISTINCT worker), 'nobody')
                       FROM orders WHERE NOT taken";
        let refused = self.connection.query_row(refused, [], |row| row.try_into());
        Ok(refused?)
    }
}

impl Hardware for Rack {
    fn provision(&mut self, job: &Job<'_>) -> Result<String, Trouble> {
        let broken = |error: rusqlite::Error| Trouble::Failed(error.to_string());
        for _ in 0..3 {
            // A real worker would first ask its work whether it has expired. But it may expire a
            // moment later, so it is for the rack to refuse what comes too late.
            if !self.order(job).map_err(broken)? {
                return Err(Trouble::Failed("order refused: it is stale".to_owned()));
            }
            thread::sleep(ORDER);
        }
        if self.meets("fails", job.machine).map_err(broken)? {
            return Err(Trouble::Failed("no answer".to_owned()));
        }
        if self.meets("busy", job.machine).map_err(broken)? {
            return Err(Trouble::NotNow);
        }
        Ok(format!("{} {}", job.kind, job.token))
    }
}
