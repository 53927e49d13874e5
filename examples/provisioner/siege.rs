//! Real worker processes over one rack; one of them is killed, and one is stopped for longer than its
//! lease lasts.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use relent::Decision;
use rusqlite::OptionalExtension;

use crate::machines::{Error, Kind, Machines};
use crate::rack::Rack;
use crate::worker::{End, LEASE, Worker};

pub(crate) type Result<T> = std::result::Result<T, Error>;

const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom it hit: a machine and a process that it was going through.
pub(crate) type Victim = (String, Kind);

/// What a worker process does until it is told that it is enough. It finds its machines by kind.
pub(crate) fn work<M: Machines>(
    home: &Path,
    name: &str,
    open: impl Fn(Kind) -> Result<M>,
) -> Result<()> {
    let mut workers = vec![];
    for kind in Kind::ALL {
        let (mut machines, hardware) = (open(kind)?, rack(home)?);
        machines.renew()?;
        workers.push(Worker {
            machines,
            hardware,
            kind,
        });
    }
    while !home.join("enough").exists() {
        let mut is_idle = true;
        for worker in &mut workers {
            if worker.machines.session().expired() {
                worker.machines.renew()?;
            }
            if let Some((machine, end)) = worker.turn()? {
                is_idle = false;
                println!(
                    "   {name}: {} {machine}: {}",
                    worker.kind.name(),
                    told(&end)
                );
            }
        }
        if is_idle {
            thread::sleep(POLL);
        }
    }
    Ok(())
}

fn told(end: &End) -> String {
    match end {
        End::Finished => "done".to_owned(),
        End::Failed(cause, Decision::Retry { after }) => format!("{cause}; again in {after:.0?}"),
        End::Failed(cause, Decision::GiveUp(reason)) => format!("{cause}; {reason}"),
        End::Canceled => "not now; left as it was".to_owned(),
        End::TooLate(lost) => format!("too late: {lost}"),
    }
}

/// Eight machines, of which two are down, and some have their troubles.
pub(crate) fn set_up(home: &Path, machines: &impl Machines) -> Result<()> {
    for n in 1..=8 {
        machines.add(&format!("m{n}"), n % 4 == 0)?;
    }
    let rack = rack(home)?;
    for (machine, fails, busy) in [("m2", 3, 0), ("m3", 0, 2), ("m4", 2, 1)] {
        rack.fault(machine, fails, busy)?;
    }
    Ok(())
}

pub(crate) fn rack(home: &Path) -> Result<Rack> {
    Ok(Rack::open(&home.join("rack.db"))?)
}

/// Has four workers see to all machines, kills one, and stops one for a while. Returns whom that hit.
pub(crate) fn siege(
    home: &Path,
    machines: &impl Machines,
    spawn: impl Fn(&str) -> io::Result<Child>,
) -> Result<[Victim; 2]> {
    let rack = rack(home)?;
    let workers: io::Result<Vec<_>> = ["w1", "w2", "w3", "w4"].into_iter().map(spawn).collect();
    let mut workers = Workers(workers?);
    let [killed, stopped, ..] = &mut workers.0[..] else {
        unreachable!("there are four")
    };

    let of_the_killed = at_work(&rack, "w1")?;
    killed.kill()?;
    killed.wait()?;
    println!("   -- w1 is killed");

    let of_the_stopped = loop {
        let victim = at_work(&rack, "w2")?;
        signal(stopped, "-STOP")?;
        // Unless it was quicker.
        if first_order(&rack, "w2")?.as_ref() == Some(&victim) {
            break victim;
        }
        signal(stopped, "-CONT")?;
    };
    println!("   -- w2 is stopped, for longer than its lease");
    thread::sleep(LEASE);
    wait_until("nobody works in the place of w2", || {
        let (machine, kind) = &of_the_stopped;
        let other = "SELECT worker <> 'w2' FROM orders WHERE machine = ?1 AND kind = ?2
                     ORDER BY id DESC LIMIT 1";
        let other: bool = rack
            .connection
            .query_row(other, [machine, kind.name()], |row| row.get(0))?;
        Ok(other.then_some(()))
    })?;
    signal(stopped, "-CONT")?;
    println!("   -- w2 goes on");

    wait_until("machines are stuck", || {
        Ok((machines.left()? == 0).then_some(()))
    })?;
    fs::write(home.join("enough"), "")?;
    for worker in &mut workers.0 {
        worker.wait()?;
    }
    Ok([of_the_killed, of_the_stopped])
}

/// The workers, none of whom is left behind, however it ends.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // One that has ended is not killed.
            let _ = worker.kill().and_then(|()| worker.wait());
        }
    }
}

/// Waits until a worker has given a machine the first of its orders, and says which.
fn at_work(rack: &Rack, worker: &str) -> Result<Victim> {
    wait_until("a worker is idle", || first_order(rack, worker))
}

/// What the last order of a worker was for, if it was the first of three.
fn first_order(rack: &Rack, worker: &str) -> Result<Option<Victim>> {
    let last = "SELECT machine, kind, count(*) FROM orders WHERE worker = ?1 GROUP BY token
                ORDER BY token DESC LIMIT 1";
    let last = rack.connection.query_row(last, [worker], |row| {
        let (machine, kind, orders): (String, String, i64) = row.try_into()?;
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|known| known.name() == kind);
        Ok(kind.filter(|_| orders == 1).map(|kind| (machine, kind)))
    });
    Ok(last.optional()?.flatten())
}

fn wait_until<T>(or: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(ready) = ready()? {
            return Ok(ready);
        }
        thread::sleep(POLL / 5);
    }
    Err(or.into())
}

fn signal(process: &Child, signal: &str) -> io::Result<()> {
    let id = process.id().to_string();
    Command::new("kill").args([signal, &id]).status().map(drop)
}
