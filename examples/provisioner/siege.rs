//! Real worker processes over one rack; one of them is killed, and one is stopped for longer than its
//! lease lasts.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use relent::Decision;
use relent::clock::MonotonicClock;
use rusqlite::OptionalExtension;

use crate::machines::{Kind, Machines};
use crate::rack::Rack;
use crate::worker::{End, LEASE, Worker};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom it hit: a machine and a process that it was going through.
pub(crate) type Victim = (String, String);

/// What a worker process does until it is told that it is enough.
pub(crate) fn work(home: &Path, name: &str) -> Result<()> {
    let mut workers = vec![];
    for kind in Kind::ALL {
        let machines = Machines::open(&home.join("machines.db"), MonotonicClock)?;
        let rack = Rack::open(&home.join("rack.db"))?;
        let worker = Worker::new(name, kind, machines, MonotonicClock, rack);
        let heartbeat = worker.heartbeat()?;
        workers.push((worker, heartbeat));
    }
    while !home.join("enough").exists() {
        let mut is_idle = true;
        for (worker, heartbeat) in &mut workers {
            if worker.tracker.session().expired() {
                worker.renew();
                *heartbeat = worker.heartbeat()?;
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

pub(crate) fn set_up(home: &Path) -> Result<()> {
    let machines = Machines::open(&home.join("machines.db"), MonotonicClock)?;
    let rack = Rack::open(&home.join("rack.db"))?;
    for n in 1..=8 {
        let insert = "INSERT INTO machine (id, down) VALUES (?1, ?2)";
        let machine = (format!("m{n}"), n % 4 == 0);
        machines.connection.execute(insert, machine)?;
    }
    for (machine, fails, busy) in [("m2", 3, 0), ("m3", 0, 2), ("m4", 2, 1)] {
        rack.fault(machine, fails, busy)?;
    }
    Ok(())
}

/// Has four workers see to all machines, kills one, and stops one for a while. Returns whom that hit.
pub(crate) fn siege(home: &Path, spawn: impl Fn(&str) -> io::Result<Child>) -> Result<[Victim; 2]> {
    let machines = Machines::open(&home.join("machines.db"), MonotonicClock)?;
    let rack = Rack::open(&home.join("rack.db"))?;
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
            .query_row(other, [machine, kind], |row| row.get(0))?;
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
        let victim = (row.get(0)?, row.get(1)?);
        Ok((victim, row.get::<_, i64>(2)?))
    });
    let last = last.optional()?;
    Ok(last.and_then(|(victim, orders)| (orders == 1).then_some(victim)))
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
