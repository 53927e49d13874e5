//! A recoverer: events for several servers, which go down and come back, each arrive in order.
//!
//! `cargo run --release --all-features --example recoverer` takes about three seconds. It starts
//! the servers, and as a child process the program that sends to them, to have something to kill.
//!
//! Events wait in a database, and no failure, crash or restart may lose one, have it overtake
//! another, or repeat it unnoticed. What to learn from it: one commit notes what was achieved and
//! ends the streak, by `record_success_in`; one loop serves a server, whether it is up or down; and
//! after a restart the loop resumes the wait where it was, by `check`. [`Scheduler`] is the part to
//! copy.

#[path = "shared/http.rs"]
mod http;
#[path = "shared/outbox.rs"]
pub(crate) mod outbox;
#[path = "shared/processes.rs"]
mod processes;
#[path = "shared/twin.rs"]
mod twin;
#[path = "shared/until.rs"]
mod until;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt, io, thread};

use http::{Client, Server};
use outbox::{Numbered, Outbox, Standing};
use relent::clock::{Clock, MonotonicClock};
use relent::store::{SqliteStore, blocking::DurableTracker};
use relent::{Backoff, BackoffState, Jitter, Readiness};
use tokio::sync::{Notify, futures::Notified};
use tokio::{runtime::Runtime, task::JoinSet};
use twin::Twin;
use until::until;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// 2, 4, 8 … 512 seconds, fifty times as fast; of each wait, the last half is left to chance.
const POLICY: Backoff =
    Backoff::exponential(Duration::from_millis(40), Duration::from_millis(10_240))
        .jitter(Jitter::Equal);

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn main() -> Result<(), Error> {
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    match env::args().nth(1) {
        None => story(),
        Some(database) => program(Path::new(&database), env::args().skip(2)),
    }
}

fn story() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("queue.db");
    let mut servers = NAMES.map(Server::new);
    servers.iter_mut().try_for_each(Server::up)?;
    let all_have = |servers: &[Server], events| servers.iter().all(|server| server.has(events));
    let stored = |events| outbox::count(&database).is_ok_and(|count| count == events);
    let mut arguments = vec![database.display().to_string()];
    arguments.extend(servers.iter().map(Server::url));
    let mut program = Twin::start(&arguments)?;
    let lines = |event| NAMES.map(|name| format!("{name} {event}\n"));
    let events = |numbers: Range<u32>| numbers.flat_map(lines).collect::<String>();

    println!("Three servers. Events for each arrive in order.");
    program.say(&events(0..20))?;
    until("all has arrived", || all_have(&servers, 20))?;

    println!("\nBeta goes down. Events for the others arrive all the same.\n");
    servers[1].down();
    program.say(&events(20..120))?;
    until("alpha has it", || servers[0].has(120))?;
    until("gamma has it", || servers[2].has(120))?;
    thread::sleep(Duration::from_millis(500));
    println!("\nIt comes back, and gets what it missed.\n");
    servers[1].up()?;
    until("beta has it too", || servers[1].has(120) && stored(0))?;

    println!(
        "\nGamma gets everything, but fails to say so. It knows repetitions by their number.\n"
    );
    servers[2].mute(true);
    program.say(&events(120..130))?;
    until("it hears them again", || servers[2].repetitions() > 1)?;
    servers[2].mute(false);
    until("all has arrived", || all_have(&servers, 130) && stored(0))?;

    println!("\nAll go down, and events pile up. The program is killed, and started again.\n");
    servers.iter_mut().for_each(Server::down);
    program.say(&events(130..300))?;
    until("all is stored", || stored(3 * 170))?;
    program.kill()?;
    let mut program = Twin::start(&arguments)?;
    thread::sleep(Duration::from_millis(500));
    println!("\nThey come back. Somebody is impatient with alpha, and has it tried now.\n");
    servers.iter_mut().try_for_each(Server::up)?;
    program.say("alpha\n")?;
    until("all has arrived", || stored(0))?;
    program.end()?;

    println!();
    for server in &servers {
        println!("   {server}");
        if !server.is_in_order() {
            return Err("an event overtook another".into());
        }
    }
    Ok(())
}

/// The program: sends each line `name event` of its input to the server of that name. A line with
/// only a name has that server tried now.
fn program(database: &Path, urls: impl Iterator<Item = String>) -> Result<(), Error> {
    let client = Client::new(NAMES.into_iter().zip(urls).collect())?;
    let scheduler = Scheduler::open(database, client, &NAMES, 100, POLICY, MonotonicClock)?;
    for name in NAMES {
        let (Standing { waiting, .. }, BackoffState { failures, .. }) = scheduler.status(name)?;
        if failures > 0 {
            println!("   {name:<5} failed {failures} times before; {waiting} events wait");
        }
    }
    let _sending = scheduler.start();
    for line in io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some((name, event)) => scheduler.submit(name, &[event])?,
            None => scheduler.force(&line)?,
        }
    }
    Ok(())
}

/// Where events go, and who is told how it went.
pub(crate) trait World: Send + Sync + 'static {
    /// Delivers events, all or none.
    fn send(&self, to: &str, events: &Numbered) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes news of a destination.
    fn hear(&self, of: &str, news: News);
}

#[derive(Debug)]
pub(crate) enum News {
    /// It failed, and is tried again after that long. It is down until its queue is delivered.
    Failed(Error, Duration),
    /// It was down, and its queue is empty now.
    Up,
    /// The database failed, and is tried again after that long.
    Stuck(Error, Duration),
}

/// Sends to each destination one transaction at a time, oldest first.
pub(crate) struct Scheduler<W, C = MonotonicClock> {
    world: W,
    outbox: Outbox,
    tracker: DurableTracker<SqliteStore<C>>,
    backoff: Backoff,
    /// How many events a transaction has at most.
    batch: u32,
    destinations: BTreeMap<String, Bells>,
}

#[derive(Default)]
struct Bells {
    stored: Notify,
    forced: Notify,
}

/// The policy for a database that fails, which is no destination's fault.
const STUCK: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(60));

impl<W: World, C: Clock + Send + Sync + 'static> Scheduler<W, C> {
    /// A scheduler for what is still to be sent according to the database at `path`. It sends once
    /// it is started.
    pub(crate) fn open(
        path: &Path,
        world: W,
        destinations: &[&str],
        batch: u32,
        backoff: Backoff,
        clock: C,
    ) -> Result<Arc<Self>, Error> {
        let store = SqliteStore::open(path)?.with_clock(clock);
        let bells = |name: &&str| ((*name).to_owned(), Bells::default());
        Ok(Arc::new(Scheduler {
            world,
            outbox: Outbox::open(path, destinations)?,
            tracker: DurableTracker::new(store, backoff),
            backoff,
            batch,
            destinations: destinations.iter().map(bells).collect(),
        }))
    }

    /// Sends, until what this returns is dropped.
    pub(crate) fn start(self: &Arc<Self>) -> JoinSet<Result<Infallible, Error>> {
        let deliver = |name: &String| Arc::clone(self).deliver(name.clone());
        self.destinations.keys().map(deliver).collect()
    }

    /// Stores events, to be sent after all that were stored before. Once this returns, they will
    /// be.
    pub(crate) fn submit(&self, to: &str, events: &[&str]) -> Result<(), Error> {
        let bells = self.bells(to)?;
        self.outbox.commit(|tx| outbox::add(tx, to, events))?;
        // If the loop is not listening just now, the bell stays rung until it does.
        bells.stored.notify_one();
        Ok(())
    }

    /// Has a destination that waits tried now. Where nothing waits, this changes nothing.
    pub(crate) fn force(&self, name: &str) -> Result<(), Error> {
        self.bells(name)?.forced.notify_waiters();
        Ok(())
    }

    /// How a destination stands, and its failures since the last transaction that arrived.
    pub(crate) fn status(&self, name: &str) -> Result<(Standing, BackoffState), Error> {
        let standing = self.outbox.commit(|tx| outbox::standing(tx, name))?;
        let record = self.tracker.get(name)?;
        Ok((
            standing,
            record.map(|record| record.state).unwrap_or_default(),
        ))
    }

    fn bells(&self, name: &str) -> Result<&Bells, Error> {
        let bells = self.destinations.get(name);
        bells.ok_or_else(|| format!("{name}: no such destination").into())
    }

    /// The one loop of a destination, be it up or down: there is no moment between the two in which
    /// an event could be overlooked or overtake another.
    async fn deliver(self: Arc<Self>, name: String) -> Result<Infallible, Error> {
        let name = name.as_str();
        let bells = self.bells(name)?;
        let look = || self.outbox.commit(|tx| outbox::next(tx, name, self.batch));
        let left = self.surely(name, || self.left(name)).await?;
        wait(left, bells.forced.notified()).await;
        let mut next = self.surely(name, look).await?;
        loop {
            let Some(oldest) = &next else {
                bells.stored.notified().await;
                next = self.surely(name, look).await?;
                continue;
            };
            let sent = self.world.send(name, oldest).await;
            // Listens to the operator before anybody can see that there is a wait.
            let forced = bells.forced.notified();
            match sent {
                Ok(()) => {
                    let note = || self.delivered(name, oldest.id);
                    next = self.surely(name, note).await?;
                }
                Err(error) => {
                    let note = || self.failed(name, &error);
                    let delay = self.surely(name, note).await?;
                    self.world.hear(name, News::Failed(error, delay));
                    wait(delay, forced).await;
                }
            }
        }
    }

    /// Works with the database, until that succeeds.
    async fn surely<T, E: fmt::Display>(
        &self,
        name: &str,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let working = STUCK.retry_async(|| future::ready(work()));
        let working = working.notify(|failed| {
            let error = failed.error.to_string().into();
            self.world.hear(name, News::Stuck(error, failed.delay));
        });
        working.await
    }

    /// What is left of a wait that began before a restart.
    fn left(&self, name: &str) -> Result<Duration, Error> {
        if self.tracker.get(name)?.is_none() {
            return Ok(Duration::ZERO);
        }
        // Many may be overdue, and must not all be sent at once.
        let mut spread = self.backoff.jitter(Jitter::Full).schedule();
        Ok(match self.tracker.check(name)? {
            Readiness::Wait(left) => left,
            Readiness::Ready | Readiness::GaveUp(_) => spread.next().unwrap_or_default(),
        })
    }

    /// One commit: the transaction is deleted, its streak ends, and the next one is made; or there
    /// is none, and the destination is up. An event is either stored before the commit, and found
    /// by it, or after it, and rings the bell.
    fn delivered(&self, name: &str, id: i64) -> Result<Option<Numbered>, Error> {
        let (next, is_news) = self.outbox.commit(|tx| {
            outbox::delete(tx, name, id)?;
            self.tracker.record_success_in(tx, name)?;
            let next = outbox::next(tx, name, self.batch)?;
            let is_news = next.is_none() && outbox::mark(tx, name, true)?;
            Ok::<_, Error>((next, is_news))
        })?;
        if is_news {
            self.world.hear(name, News::Up);
        }
        Ok(next)
    }

    /// One commit: the destination is down, and backs off.
    fn failed(&self, name: &str, error: &Error) -> Result<Duration, Error> {
        self.outbox.commit(|tx| {
            outbox::mark(tx, name, false)?;
            let cause = error.to_string();
            let decision = self.tracker.record_failure_in(tx, name, &cause)?;
            Ok(decision.delay().unwrap_or(Duration::MAX))
        })
    }
}

async fn wait(delay: Duration, forced: Notified<'_>) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = forced => {}
    }
}

impl World for Client {
    async fn send(&self, to: &str, events: &Numbered) -> Result<(), Error> {
        let body = events.events.join("\n");
        Ok(self.put(to, events.id, body).await?)
    }

    fn hear(&self, of: &str, news: News) {
        println!("   {of:<5} {news}");
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Failed(error, delay) => write!(f, "is down: {error}; again in {delay:.0?}"),
            News::Up => write!(f, "is up"),
            News::Stuck(error, delay) => write!(f, "the database: {error}; again in {delay:.0?}"),
        }
    }
}
