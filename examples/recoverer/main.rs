//! A recoverer: events for several servers, which go down and come back, each arrive in order.
//!
//! `cargo run --release --all-features --example recoverer`

mod scheduler;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use axum::extract::{Path as Parameter, State};
use axum::{Router, http::StatusCode, routing::put};
use relent::{Backoff, Jitter, clock::MonotonicClock};
use scheduler::{Error, News, Numbered, Scheduler, Status, World};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// 2, 4, 8 … 512 seconds, fifty times as fast; of each wait, the last half is left to chance.
const POLICY: Backoff =
    Backoff::exponential(Duration::from_millis(40), Duration::from_millis(10_240))
        .jitter(Jitter::Equal);

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn main() -> Result<(), Error> {
    match env::args().nth(1) {
        None => story(),
        Some(database) => program(Path::new(&database), env::args().skip(2)),
    }
}

fn story() -> Result<(), Error> {
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    let folder = tempfile::tempdir()?;
    let mut servers = NAMES.map(Server::new);
    for server in &mut servers {
        server.start()?;
    }
    let mut program = Program::start(folder.path().join("queue.db"), &servers)?;

    println!("Three servers. Events for each arrive in order.");
    program.submit(0..20)?;
    until("all has arrived", || {
        servers.iter().all(|server| server.has(20))
    })?;

    println!("\nBeta goes down. What is for the others arrives all the same.\n");
    servers[1].stop();
    program.submit(20..120)?;
    until("the others have it", || {
        servers[0].has(120) && servers[2].has(120)
    })?;
    thread::sleep(Duration::from_millis(500));
    println!("\nIt comes back, and gets what it missed.\n");
    servers[1].start()?;
    until("beta has it too", || servers[1].has(120))?;

    println!("\nGamma hears everything, but fails to say so. A number tells it what it has had.\n");
    servers[2].received().mute = true;
    program.submit(120..130)?;
    until("it is told thrice", || {
        servers[2].received().repetitions > 1
    })?;
    servers[2].received().mute = false;
    until("all has arrived", || {
        servers.iter().all(|server| server.has(130))
    })?;

    println!("\nAll go down, and events pile up. The program is killed, and started again.\n");
    for server in &mut servers {
        server.stop();
    }
    program.submit(130..300)?;
    until("all is stored", || {
        program.stored().is_ok_and(|stored| stored == 3 * 170)
    })?;
    let mut program = program.killed(&servers)?;
    thread::sleep(Duration::from_millis(500));
    println!("\nThey come back. Somebody is impatient with alpha, and has it tried now.\n");
    for server in &mut servers {
        server.start()?;
    }
    program.force("alpha")?;
    until("all has arrived", || {
        servers.iter().all(|server| server.has(300))
    })?;
    until("all is told", || {
        program.stored().is_ok_and(|stored| stored == 0)
    })?;
    program.end()?;

    println!();
    for server in &servers {
        let Received {
            events,
            last,
            repetitions,
            ..
        } = &*server.received();
        let in_order = events
            .iter()
            .enumerate()
            .all(|(n, event)| *event == n.to_string());
        println!(
            "{:<5} got {} events {}, in {last} transactions and {repetitions} repetitions",
            server.name,
            events.len(),
            if in_order { "in order" } else { "OUT OF ORDER" },
        );
        if !in_order {
            return Err("an event overtook another".into());
        }
    }
    Ok(())
}

/// Waits for something that should come within seconds.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Error> {
    const SOON: Backoff =
        Backoff::fixed(Duration::from_millis(5)).give_up_after(Duration::from_secs(10));
    let check = || {
        if holds() {
            Ok(())
        } else {
            Err(format!("never came true: {what}"))
        }
    };
    Ok(SOON.retry(check).call()?)
}

/// The program as a child process, which is fed with events.
struct Program {
    child: Child,
    input: ChildStdin,
    database: PathBuf,
}

impl Program {
    fn start(database: PathBuf, servers: &[Server]) -> Result<Program, Error> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(&database).stdin(Stdio::piped());
        let url = |server: &Server| format!("{}=http://{}", server.name, server.address);
        let mut child = command.args(servers.iter().map(url)).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        Ok(Program {
            child,
            input,
            database,
        })
    }

    fn submit(&mut self, events: std::ops::Range<usize>) -> io::Result<()> {
        let lines = events.flat_map(|event| NAMES.map(|name| format!("{name} {event}\n")));
        self.input.write_all(lines.collect::<String>().as_bytes())
    }

    fn force(&mut self, name: &str) -> io::Result<()> {
        writeln!(self.input, "{name}")
    }

    /// How many events lie in its database.
    fn stored(&self) -> rusqlite::Result<usize> {
        let database = rusqlite::Connection::open(&self.database)?;
        database
            .query_row("SELECT count(*) FROM event", [], |row| row.get::<_, u32>(0))
            .map(|count| count as usize)
    }

    /// Kills it as it is, and starts another.
    fn killed(mut self, servers: &[Server]) -> Result<Program, Error> {
        self.child.kill()?;
        self.child.wait()?;
        Program::start(self.database, servers)
    }

    fn end(self) -> io::Result<()> {
        let Program {
            mut child, input, ..
        } = self;
        drop(input);
        child.wait().map(drop)
    }
}

/// A server that takes each transaction once, however often it is sent.
struct Server {
    name: &'static str,
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    running: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Received {
    last: i64,
    events: Vec<String>,
    repetitions: u32,
    /// Takes what comes, and answers that it failed.
    mute: bool,
}

impl Server {
    fn new(name: &'static str) -> Server {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Server {
            name,
            address,
            received: Arc::default(),
            running: None,
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new()
            .route("/{id}", put(receive))
            .with_state(Arc::clone(&self.received));
        self.running = Some(tokio::spawn(async { axum::serve(listener, router).await }));
        Ok(())
    }

    /// Nobody listens any more.
    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            while !running.is_finished() {
                thread::yield_now();
            }
        }
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, events: usize) -> bool {
        self.received().events.len() >= events
    }
}

async fn receive(
    State(received): State<Arc<Mutex<Received>>>,
    Parameter(id): Parameter<i64>,
    events: String,
) -> StatusCode {
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    if id > received.last {
        received.last = id;
        received.events.extend(events.lines().map(str::to_owned));
    } else {
        received.repetitions += 1;
    }
    if received.mute {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    }
}

/// The program: sends each line `name event` of its input to the server of that name. A line with a
/// name alone has the server tried now.
fn program(database: &Path, servers: impl Iterator<Item = String>) -> Result<(), Error> {
    let parse = |server: String| {
        let (name, url) = server.split_once('=')?;
        Some((name.to_owned(), url.to_owned()))
    };
    let servers: Option<BTreeMap<_, _>> = servers.map(parse).collect();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(1))
        // A connection that was kept would outlive the server's listener.
        .pool_max_idle_per_host(0)
        .build()?;
    let world = Http {
        client,
        servers: servers.ok_or("a server is name=url")?,
    };
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    let scheduler = Scheduler::open(database, world, &NAMES, 100, POLICY, MonotonicClock)?;
    for name in NAMES {
        let Status {
            waiting, streak, ..
        } = scheduler.status(name)?;
        if streak.failures > 0 {
            println!(
                "   {name:<5} failed {} times before; {waiting} events wait",
                streak.failures
            );
        }
    }
    for line in io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some((name, event)) => scheduler.submit(name, &[event])?,
            None => scheduler.force(&line)?,
        }
    }
    Ok(())
}

/// Servers that take transactions by `PUT`.
struct Http {
    client: reqwest::Client,
    servers: BTreeMap<String, String>,
}

impl World for Http {
    async fn send(&self, to: &str, events: &Numbered) -> Result<(), Error> {
        let url = self.servers.get(to).ok_or("no such server")?;
        let request = self.client.put(format!("{url}/{}", events.id));
        let response = request.body(events.events.join("\n")).send().await;
        match response.map_err(|error| root(&error))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(status.to_string().into()),
        }
    }

    fn hear(&self, of: &str, news: News) {
        match news {
            News::Failed(error, delay) => {
                println!("   {of:<5} is down: {error}; again in {delay:.0?}");
            }
            News::Up => println!("   {of:<5} is up"),
            News::Stuck(error, delay) => {
                println!("   {of:<5} the database: {error}; again in {delay:.0?}");
            }
        }
    }
}

/// What really went wrong.
fn root(error: &reqwest::Error) -> Error {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string().into()
}
