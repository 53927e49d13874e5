//! A provisioner: worker processes share a table of machines, and no machine is neglected for long.
//!
//! `cargo run --release --features sqlite --example provisioner`, and with
//! `sqlite,postgres,tokio` over a PostgreSQL server that it starts, if one is installed.
//!
//! Every machine has to be initialized, and one that is down recovered. A worker takes a machine
//! that needs it, that nobody works on and that does not back off, and sees it to its end:
//! finished, which is noted in the same transaction; failed, and tried again after a wait; or
//! cancelled, as if nothing had happened. Here one worker is killed at work, and one is stopped for
//! longer than its lease lasts: no machine is stuck, none is worked on twice at once, and what
//! comes too late is refused.
//!
//! What to learn from it: how a machine is chosen by a join and taken in one transaction
//! ([`Worker::take`]), and how the result of the work is noted, and its lease ended, in another
//! ([`Worker::finish`]).
//!
//! Beside this: `shared/database.rs`, the same face of either database; `shared/rack.rs`, the
//! machines, which know nothing of leases, but refuse a worker that has been overtaken.

#[path = "shared/database.rs"]
pub(crate) mod database;
#[cfg(all(feature = "postgres", feature = "tokio"))]
#[path = "shared/postgres.rs"]
pub(crate) mod postgres;
#[path = "shared/processes.rs"]
mod processes;
#[path = "shared/rack.rs"]
pub(crate) mod rack;

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, fmt, fs, io, thread};

use relent::clock::MonotonicClock;
use relent::store::blocking::{DurableTracker, Heartbeat, Store, Work};
use relent::store::{LeaseLost, Options, StartError, WorkError};
use relent::{Backoff, Decision, Jitter};

use database::{Database, Error, Sqlite, Transaction};
use processes::{Processes, wait_until};
use rack::{Hardware, Job, Rack, Trouble, Victim};

/// A process that a machine goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initialize,
    Recover,
}

impl Kind {
    /// The namespace of its leases and its backoff, which are kept apart from those of the other
    /// kind.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Initialize => "initialize",
            Kind::Recover => "recover",
        }
    }

    /// From 5 minutes to 4 hours, and from 1 minute to 1 hour; here a second lasts a millisecond.
    pub(crate) const fn backoff(self) -> Backoff {
        let (initial, max) = match self {
            Kind::Initialize => (5 * 60, 4 * 60 * 60),
            Kind::Recover => (60, 60 * 60),
        };
        Backoff::exponential(Duration::from_millis(initial), Duration::from_millis(max))
            .exponent(1.2)
            .jitter(Jitter::Proportional(0.1))
    }

    const fn needed(self) -> &'static str {
        match self {
            Kind::Initialize => "machine.os IS NULL",
            Kind::Recover => "machine.down",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Kind::Initialize => "UPDATE machine SET os = $1 WHERE id = $2",
            Kind::Recover => "UPDATE machine SET note = $1, down = FALSE WHERE id = $2",
        }
    }
}

/// The user's own table. It does not take every note.
pub(crate) const TABLE: &str = "CREATE TABLE machine
    (id TEXT PRIMARY KEY, os TEXT, down BOOLEAN, note TEXT CHECK (note <> 'nonsense'))";

/// How long a worker that died keeps a machine from the others.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

/// How a worker of this name takes its leases.
pub(crate) fn options(name: &str, kind: Kind) -> Options {
    let options = Options::new(kind.backoff()).holder(name);
    options.time_to_live(LEASE)
}

/// Takes machines, one after the other, and sees each to its end.
pub(crate) struct Worker<D: Database, H> {
    heartbeat: Option<Heartbeat>,
    pub(crate) tracker: DurableTracker<D::Store>,
    pub(crate) database: D,
    hardware: H,
    kind: Kind,
}

/// How the work on a machine ended.
#[derive(Debug)]
pub(crate) enum End {
    Finished,
    Failed(String, Decision),
    Cancelled,
    /// The lease had run out. The worker's result was not written.
    TooLate(LeaseLost),
}

/// Why work was not ended.
enum Refused {
    /// The lease had run out.
    Lost(LeaseLost),
    /// The work can still be ended.
    Store(Error),
}

impl<D: Database, H: Hardware> Worker<D, H> {
    pub(crate) fn new(
        database: D,
        hardware: H,
        kind: Kind,
        options: Options,
    ) -> Result<Worker<D, H>, Error> {
        Ok(Worker {
            heartbeat: None,
            tracker: DurableTracker::new(database.store(kind.name())?, options),
            database,
            hardware,
            kind,
        })
    }

    /// Has the leases kept alive; if the session has expired, those of a new one.
    pub(crate) fn keep_alive(&mut self) -> Result<(), Error> {
        if self.tracker.session().expired() {
            self.tracker = self.tracker.renewed();
            self.heartbeat = None;
        }
        if self.heartbeat.is_none() {
            self.heartbeat = Some(self.tracker.heartbeat()?);
        }
        Ok(())
    }

    /// Sees one machine to its end, if there is any to work on.
    pub(crate) fn turn(&mut self) -> Result<Option<(String, End)>, Error> {
        let Some(work) = self.take()? else {
            return Ok(None);
        };
        let provisioned = self.hardware.provision(&Job {
            kind: self.kind.name(),
            machine: work.key(),
            worker: self.tracker.session().holder(),
            token: work.token(),
        });
        let ended = match provisioned {
            Ok(tag) => match self.finish(&work, &tag) {
                // The work is still in hand: if its result cannot be noted, it has failed.
                Err(Refused::Store(error)) => fail(&work, error.to_string()),
                finished => finished.map(|()| End::Finished),
            },
            Err(Trouble::Failed(cause)) => fail(&work, cause),
            Err(Trouble::NotNow) => work
                .cancel()
                .map(|()| End::Cancelled)
                .map_err(Refused::from),
        };
        let machine = work.key().to_owned();
        match ended {
            Ok(end) => Ok(Some((machine, end))),
            Err(Refused::Lost(lost)) => Ok(Some((machine, End::TooLate(lost)))),
            Err(Refused::Store(error)) => Err(error),
        }
    }

    /// Takes a machine that needs it, on which nobody works at that, and which does not back off:
    /// chosen and taken in one transaction, so that nobody else can finish it in between.
    pub(crate) fn take(&mut self) -> Result<Option<Work<D::Store>>, Error> {
        let mut taking = self.database.begin()?;
        let (now, needed, lock) = (taking.now(), self.kind.needed(), taking.lock());
        let eligible = format!(
            "SELECT machine.id FROM machine LEFT JOIN relent
             ON relent.namespace = $1 AND relent.key = machine.id AND relent.due > {now}
             WHERE relent.key IS NULL AND {needed} ORDER BY machine.id LIMIT 1 {lock}"
        );
        let Some(machine) = taking.query(&eligible, &[self.kind.name()])? else {
            return Ok(None);
        };
        let granted = match self.tracker.start_in(taking.connection(), &machine) {
            // It was left by a worker that died, which has just been counted as a failure.
            Err(StartError::Refused(_)) => None,
            granted => Some(granted?),
        };
        taking.commit()?;
        Ok(granted.map(|granted| self.tracker.committed(granted)))
    }

    /// Notes what came of the work, and ends it: both, or neither.
    fn finish(&mut self, work: &Work<D::Store>, tag: &str) -> Result<(), Refused> {
        let mut noting = self.database.begin()?;
        work.finish_in(noting.connection())?;
        noting.query(self.kind.done(), &[tag, work.key()])?;
        Ok(noting.commit()?)
    }
}

fn fail<S: Store>(work: &Work<S>, cause: String) -> Result<End, Refused> {
    let decision = work.fail(&cause)?;
    Ok(End::Failed(cause, decision))
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<WorkError<E>> for Refused {
    fn from(error: WorkError<E>) -> Refused {
        match error {
            WorkError::Lost(lost) => Refused::Lost(lost),
            other => Refused::Store(other.into()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Finished => f.write_str("done"),
            End::Failed(cause, Decision::Retry { after }) => {
                write!(f, "{cause}; again in {after:.0?}")
            }
            End::Failed(cause, Decision::GiveUp(reason)) => write!(f, "{cause}; {reason}"),
            End::Cancelled => f.write_str("not now; left as it was"),
            End::TooLate(lost) => write!(f, "too late: {lost}"),
        }
    }
}

/// What a worker process does until it is told to stop.
pub(crate) fn work<D: Database>(
    home: &Path,
    name: &str,
    open: impl Fn() -> Result<D, Error>,
) -> Result<(), Error> {
    let worker = |kind| Worker::new(open()?, Rack::open(home)?, kind, options(name, kind));
    let mut workers = [worker(Kind::Initialize)?, worker(Kind::Recover)?];
    while !home.join("enough").exists() {
        let mut is_idle = true;
        for worker in &mut workers {
            worker.keep_alive()?;
            if let Some((machine, end)) = worker.turn()? {
                is_idle = false;
                println!("   {name}: {} {machine}: {end}", worker.kind.name());
            }
        }
        if is_idle {
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Eight machines, of which two are down, and some have their troubles.
pub(crate) fn set_up(home: &Path, database: &mut impl Database) -> Result<(), Error> {
    database.query(TABLE, &[])?;
    for n in 1..=8 {
        let is_down = n % 4 == 0;
        let add = format!("INSERT INTO machine (id, down) VALUES ('m{n}', {is_down})");
        database.query(&add, &[])?;
    }
    Rack::open(home)?.set_up(&[("m2", 3, 0), ("m3", 0, 2), ("m4", 2, 1)])
}

/// Has four workers see to all machines, kills one, and stops one for a while. Returns the machines
/// that those two were working on.
pub(crate) fn siege(
    home: &Path,
    database: &mut impl Database,
    spawn: impl FnMut(&str) -> io::Result<Child>,
) -> Result<[Victim; 2], Error> {
    let rack = Rack::open(home)?;
    let workers: io::Result<_> = ["w1", "w2", "w3", "w4"].into_iter().map(spawn).collect();
    let mut workers = Processes(workers?);
    let of_the_killed = rack.at_work("w1")?;
    workers.signal(0, "-KILL")?;
    println!("   -- w1 is killed");

    let of_the_stopped = loop {
        let victim = rack.stop_at_work("w2", |signal| workers.signal(1, signal))?;
        println!("   -- w2 is stopped, for longer than its lease");
        let is_overtaken = rack.is_overtaken("w2", &victim)?;
        workers.signal(1, "-CONT")?;
        println!("   -- w2 goes on");
        if is_overtaken {
            break victim;
        }
    };

    let left = "SELECT id FROM machine WHERE os IS NULL OR down LIMIT 1";
    wait_until("machines are stuck", || {
        Ok(database.query(left, &[])?.is_none().then_some(()))
    })?;
    fs::write(home.join("enough"), "")?;
    workers.wait()?;
    Ok([of_the_killed, of_the_stopped])
}

fn story(home: &Path, mut database: impl Database) -> Result<(), Error> {
    println!(
        "Eight machines, four workers. m2 and m4 fail at first; m3 and m4 are busy for a while.\n"
    );
    set_up(home, &mut database)?;
    let program = env::current_exe()?;
    let spawn = |name: &str| Command::new(&program).arg(home).arg(name).spawn();
    let [killed, stopped] = siege(home, &mut database, spawn)?;
    println!("\nNo machine is left.");
    for ((machine, kind), what) in [(killed, "w1 was killed"), (stopped, "w2 was stopped")] {
        println!("\nThe history of {machine}, {kind}, at which {what}:\n");
        for entry in database.history(&kind, &machine)? {
            println!("   {:?} {}", entry.event, entry.cause.unwrap_or_default());
        }
    }
    let (orders, whose) = Rack::open(home)?.refused()?;
    println!("\nOrders refused because another worker had taken over: {orders}, from {whose}.");
    Ok(())
}

pub(crate) fn main() -> Result<(), Error> {
    let sqlite = |home: &Path| Sqlite::open(home, MonotonicClock);
    if let [home, name] = &env::args().skip(1).collect::<Vec<_>>()[..] {
        let home = Path::new(home);
        #[cfg(all(feature = "postgres", feature = "tokio"))]
        if postgres::Postgres::is_at(home) {
            return work(home, name, || postgres::Postgres::find(home));
        }
        return work(home, name, || sqlite(home));
    }
    let home = tempfile::tempdir()?;
    #[cfg(all(feature = "postgres", feature = "tokio"))]
    if let Some(_server) = postgres::Postgres::start(home.path())? {
        println!("Machines in PostgreSQL.");
        return story(home.path(), postgres::Postgres::find(home.path())?);
    }
    println!("Machines in SQLite.");
    story(home.path(), sqlite(home.path())?)
}
