//! The main job, on real input: a real HTTP server on loopback that fails, asks for patience,
//! stalls and recovers; three ways to cope with it; and what is left when the process is killed.
//!
//! `cargo run --all-features --example tour`

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use relent::store::SqliteStore;
use relent::store::blocking::DurableTracker;
use relent::{Backoff, BackoffTracker, GiveUpReason, Jitter, NotReady, Readiness};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    if let [_, role, database] = &std::env::args().collect::<Vec<_>>()[..] {
        if role == WORKER {
            return worker(database.as_ref());
        }
    }
    let server = server::start()?;
    println!("A server on {server} is having a bad day.\n");
    read_the_policy();
    blocking_loop(server);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async_loop(server))?;
    runtime.block_on(keyed_reconcile(server))?;
    killed_and_run_again()
}

/// 1. A policy is data: look at it before you trust it.
fn read_the_policy() {
    println!("1. A policy, as Backoff::preview() shows it to whoever has to trust it\n");
    println!("{}", POLICY.preview());
}

const POLICY: Backoff = Backoff::exponential(ms(100), ms(1_500)).give_up_after_failures(8);

/// What can go wrong with a request, and whether it is worth another.
#[derive(Debug)]
enum Failure {
    Refused {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    TimedOut,
    Client(reqwest::Error),
}

impl Failure {
    fn refused(status: StatusCode, header: Option<&reqwest::header::HeaderValue>) -> Failure {
        let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
        Failure::Refused {
            status,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// A server's trouble passes; a request that is wrong stays wrong.
    fn is_transient(&self) -> bool {
        match self {
            Failure::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Failure::TimedOut | Failure::Client(_) => true,
        }
    }

    fn hint(&self) -> Option<Duration> {
        match self {
            Failure::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused {
                status,
                retry_after: None,
            } => write!(f, "{status}"),
            Failure::Refused {
                status,
                retry_after: Some(hint),
            } => {
                write!(f, "{status}, Retry-After {hint:?}")
            }
            Failure::TimedOut => f.write_str("no answer in time"),
            Failure::Client(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Failure {
        Failure::Client(error)
    }
}

/// 2. The blocking loop: three failures, one of them with a hint, then the answer. And an error
///    that no patience cures.
fn blocking_loop(server: SocketAddr) {
    println!("2. A blocking loop, where a sleep loop was\n");
    let client = reqwest::blocking::Client::new();
    let get = |path: &str| -> Result<String, Failure> {
        let response = client.get(format!("http://{server}{path}")).send()?;
        if response.status().is_success() {
            Ok(response.text()?)
        } else {
            Err(Failure::refused(
                response.status(),
                response.headers().get(RETRY_AFTER),
            ))
        }
    };
    for path in ["/report", "/no-such-page"] {
        let outcome = POLICY
            .retry(|| get(path))
            .when(Failure::is_transient)
            .retry_after(Failure::hint)
            .notify(|failed| {
                println!("   {path}: {}; again in {:.0?}", failed.error, failed.delay);
            })
            .outcome();
        let attempts = outcome.attempts;
        match outcome.result {
            Ok(body) => println!("   {path}: {body:?} at attempt {attempts}\n"),
            Err(error) => println!("   {path}: {error} at attempt {attempts}: not retried\n"),
        }
    }
}

/// 3. The async loop: the server accepts and then says nothing. A limit for each attempt turns that
///    into a failure like any other.
async fn async_loop(server: SocketAddr) -> Result<(), Error> {
    println!("3. An async loop, with 300 ms for each attempt\n");
    let client = reqwest::Client::new();
    let outcome = POLICY
        .retry_async(|| fetch(&client, format!("http://{server}/stalls")))
        .when(Failure::is_transient)
        .timeout(ms(300), || Failure::TimedOut)
        .notify(|failed| {
            println!(
                "   /stalls: {}; again in {:.0?}",
                failed.error, failed.delay
            );
        })
        .outcome()
        .await;
    println!(
        "   /stalls: {:?} at attempt {}, {:.0?} after the first failure, {:.0?} of that waiting\n",
        outcome.result?, outcome.attempts, outcome.elapsed, outcome.waited
    );
    Ok(())
}

async fn fetch(client: &reqwest::Client, url: String) -> Result<String, Failure> {
    let response = client.get(url).send().await?;
    if response.status().is_success() {
        Ok(response.text().await?)
    } else {
        Err(Failure::refused(
            response.status(),
            response.headers().get(RETRY_AFTER),
        ))
    }
}

/// 4. Twenty endpoints, one loop, no state but the tracker: some are healthy, some recover after a
///    while, and some never do.
async fn keyed_reconcile(server: SocketAddr) -> Result<(), Error> {
    const PER_ENDPOINT: Backoff = Backoff::exponential(ms(100), ms(800))
        .jitter(Jitter::Equal)
        .give_up_after_failures(6);

    println!(
        "4. Twenty endpoints reconciled by one loop, with a tracker where a map of failures was\n"
    );
    let client = reqwest::Client::new();
    let endpoints: Vec<String> = (0..20).map(|n| format!("/endpoint/{n}")).collect();
    let tracker: BackoffTracker<String> = BackoffTracker::new(PER_ENDPOINT);
    let mut verdicts: BTreeMap<&str, Verdict> = BTreeMap::new();
    let start = Instant::now();
    let mut requests = 0;

    while verdicts.len() < endpoints.len() {
        let round = tracker.now();
        for endpoint in endpoints.iter().map(String::as_str) {
            if verdicts.contains_key(endpoint) {
                continue;
            }
            // The attempt token: whatever else happens to this endpoint meanwhile, one failure
            // counts only once.
            let attempt = match tracker.attempt(endpoint) {
                Ok(attempt) => attempt,
                Err(NotReady::GaveUp(reason)) => {
                    verdicts.insert(endpoint, Verdict::GaveUp(reason));
                    continue;
                }
                Err(NotReady::Wait(_)) => continue,
            };
            requests += 1;
            match fetch(&client, format!("http://{server}{endpoint}")).await {
                Ok(_) => {
                    let verdict = match attempt.succeed() {
                        None => Verdict::Healthy,
                        Some(recovery) => Verdict::Recovered(recovery.failures, recovery.outage),
                    };
                    verdicts.insert(endpoint, verdict);
                }
                Err(_) => {
                    attempt.fail();
                }
            }
        }
        // There is nothing to do until the next endpoint is due, which it may have become while
        // others were tried.
        if let Some(wait) = tracker.next_due(round) {
            tokio::time::sleep(wait).await;
        }
    }

    for (n, endpoint) in endpoints.iter().enumerate() {
        let verdict = verdicts[endpoint.as_str()].to_string();
        match n % 2 {
            0 => print!("   {endpoint:<14}{verdict:<34}"),
            _ => println!("{endpoint:<14}{verdict}"),
        }
    }
    println!(
        "\n   {requests} requests in {:.1?}; {} endpoints are still tracked, the others cost nothing any more",
        start.elapsed(),
        tracker.len()
    );
    Ok(())
}

enum Verdict {
    Healthy,
    Recovered(u32, Duration),
    GaveUp(GiveUpReason),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Healthy => f.write_str("healthy"),
            Verdict::Recovered(failures, outage) => {
                write!(f, "back after {failures} failure(s), {outage:.0?}")
            }
            Verdict::GaveUp(reason) => write!(f, "gave up: {reason}"),
        }
    }
}

/// 5. State that outlives its process: a worker keeps it in SQLite, is killed in the middle, and
///    its successor goes on from there.
fn killed_and_run_again() -> Result<(), Error> {
    println!("\n5. A worker whose state is in SQLite, killed in the middle and run again\n");
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("relent.db");
    for life in ["first", "second"] {
        let mut worker = Command::new(std::env::current_exe()?)
            .args([WORKER.as_ref(), database.as_os_str()])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = worker
            .stdout
            .take()
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines);
        for line in lines.take(3) {
            println!("   {life} life: {}", line?);
        }
        // SIGKILL: no destructor runs, nothing is flushed.
        worker.kill()?;
        worker.wait()?;
        println!("   {life} life: killed");
    }
    Ok(())
}

const WORKER: &str = "worker";

/// Fails to reach a mail server, again and again, and says so.
fn worker(database: &Path) -> Result<(), Error> {
    const KEY: &str = "mail.example.org";
    let policy = Backoff::exponential(ms(50), ms(60_000)).jitter(Jitter::None);
    let tracker = DurableTracker::new(SqliteStore::open(database)?, policy);
    loop {
        match tracker.check(KEY)? {
            Readiness::Ready => {}
            Readiness::Wait(left) => {
                std::thread::sleep(left);
                continue;
            }
            Readiness::GaveUp(_) => return Ok(()),
        }
        let decision = tracker.record_failure(KEY, "connection refused")?;
        let failures = tracker.get(KEY)?.map_or(0, |record| record.state.failures);
        println!(
            "failure {failures} is on disk; again in {:?}",
            decision.delay().unwrap_or_default()
        );
    }
}

/// The server: real HTTP on a real socket, with trouble by the path.
mod server {
    use super::{Duration, Ipv4Addr, SocketAddr, ms};
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::thread;

    use axum::Router;
    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::response::{AppendHeaders, IntoResponse, Response};
    use axum::routing::get;

    /// How often each path was asked for.
    type Visits = Arc<Mutex<HashMap<String, u32>>>;

    fn visit(visits: &Visits, path: impl Into<String>) -> u32 {
        let mut visits = visits
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = visits.entry(path.into()).or_default();
        *count += 1;
        *count
    }

    pub(super) fn start() -> std::io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let router = Router::new()
                    .route("/report", get(report))
                    .route("/stalls", get(stalls))
                    .route("/endpoint/{n}", get(endpoint))
                    .with_state(Visits::default());
                axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
            })
        });
        Ok(address)
    }

    /// Fails, asks for a second of patience, fails, and then works.
    async fn report(State(visits): State<Visits>) -> Response {
        match visit(&visits, "report") {
            2 => (
                StatusCode::TOO_MANY_REQUESTS,
                AppendHeaders([("retry-after", "1")]),
            )
                .into_response(),
            1 | 3 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => "all is well".into_response(),
        }
    }

    /// Accepts and says nothing, twice.
    async fn stalls(State(visits): State<Visits>) -> &'static str {
        if visit(&visits, "stalls") <= 2 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        "awake"
    }

    /// Of twenty, a few never recover, half need some attempts, the others are fine.
    async fn endpoint(State(visits): State<Visits>, Path(n): Path<u32>) -> Response {
        tokio::time::sleep(ms(2)).await;
        let failing = match n % 7 {
            3 => u32::MAX,
            1 | 2 | 5 => n % 4 + 1,
            _ => 0,
        };
        if visit(&visits, format!("endpoint/{n}")) <= failing {
            StatusCode::BAD_GATEWAY.into_response()
        } else {
            "ok".into_response()
        }
    }
}
