//! Real worker processes over one rack; one of them is killed, and one is stopped for longer than its
//! lease lasts.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use relent::Decision;
use relent::clock::MonotonicClock;

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
    let [mut killed, stopped, mut third, mut fourth] = ["w1", "w2", "w3", "w4"].map(spawn);
    let mut stopped = stopped?;

    let of_the_killed = at_work(&rack, "w1")?;
    let killed = killed
        .as_mut()
        .map_err(|error| io::Error::new(error.kind(), "w1"))?;
    killed.kill()?;
    killed.wait()?;
    println!("   -- w1 is killed");

    let of_the_stopped = loop {
        let victim = at_work(&rack, "w2")?;
        signal(&stopped, "-STOP")?;
        // Unless it was quicker.
        if at_work(&rack, "w2")? == victim {
            break victim;
        }
        signal(&stopped, "-CONT")?;
    };
    println!("   -- w2 is stopped, for longer than its lease");
    thread::sleep(LEASE * 3);
    signal(&stopped, "-CONT")?;
    println!("   -- w2 goes on");

    let deadline = Instant::now() + PATIENCE;
    while machines.left()? > 0 && Instant::now() < deadline {
        thread::sleep(POLL);
    }
    fs::write(home.join("enough"), "")?;
    stopped.wait()?;
    for worker in [&mut third, &mut fourth] {
        if let Ok(worker) = worker {
            worker.wait()?;
        }
    }
    Ok([of_the_killed, of_the_stopped])
}

/// Waits until a worker has given the first of its orders to a machine, and none after that.
fn at_work(rack: &Rack, worker: &str) -> Result<Victim> {
    let deadline = Instant::now() + PATIENCE;
    let last = "SELECT machine, kind, count(*) FROM orders WHERE worker = ?1 AND token =
                (SELECT max(token) FROM orders WHERE worker = ?1)";
    while Instant::now() < deadline {
        let last = rack.connection.query_row(last, [worker], |row| {
            let victim: (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok((victim, row.get::<_, i64>(2)?))
        })?;
        if let ((Some(machine), Some(kind)), 1) = last {
            return Ok((machine, kind));
        }
        thread::sleep(POLL / 5);
    }
    Err(format!("{worker} does not work").into())
}

fn signal(process: &Child, signal: &str) -> io::Result<()> {
    let id = process.id().to_string();
    Command::new("kill").args([signal, &id]).status().map(drop)
}
