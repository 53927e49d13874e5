//! HTTP servers on this machine, which go down and come back, and what it takes to send to them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use axum::extract::{Path, State};
use axum::{Router, http::StatusCode, routing::put};
use tokio::task::JoinHandle;

/// A server that takes each numbered transaction once, however often it is sent.
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    running: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Received {
    /// The number of the last transaction.
    last: i64,
    /// One per line.
    events: Vec<String>,
    repetitions: u32,
    mute: bool,
}

impl Server {
    pub(crate) fn new(name: &'static str) -> Server {
        Server {
            name,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            received: Arc::default(),
            running: None,
        }
    }

    /// Listens: the first time on a free port, later on the same one. Needs a Tokio runtime.
    pub(crate) fn up(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new()
            .route("/{id}", put(receive))
            .with_state(Arc::clone(&self.received));
        self.running = Some(tokio::spawn(async { axum::serve(listener, router).await }));
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nobody listens any more.
    pub(crate) fn down(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            while !running.is_finished() {
                thread::yield_now();
            }
        }
    }

    /// Whether, from now on, it answers that it failed, although it takes what comes.
    pub(crate) fn mute(&self, mute: bool) {
        self.received().mute = mute;
    }

    pub(crate) fn has(&self, events: usize) -> bool {
        self.received().events.len() >= events
    }

    pub(crate) fn repetitions(&self) -> u32 {
        self.received().repetitions
    }

    /// Whether the events are 0, 1, 2 …, none left out.
    pub(crate) fn is_in_order(&self) -> bool {
        let received = self.received();
        let mut numbered = received.events.iter().zip(0_u32..);
        numbered.all(|(event, number)| *event == number.to_string())
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Received {
            last,
            events,
            repetitions,
            ..
        } = &*self.received();
        let (name, events) = (self.name, events.len());
        write!(
            f,
            "{name:<5} got {events} events in {last} transactions, and {repetitions} again"
        )
    }
}

async fn receive(
    State(received): State<Arc<Mutex<Received>>>,
    Path(id): Path<i64>,
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

/// Sends to servers, by name.
pub(crate) struct Client {
    http: reqwest::Client,
    urls: BTreeMap<&'static str, String>,
}

impl Client {
    pub(crate) fn new(urls: BTreeMap<&'static str, String>) -> reqwest::Result<Client> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(1))
            // A connection that was kept would outlive the server's listener.
            .pool_max_idle_per_host(0);
        let http = http.build()?;
        Ok(Client { http, urls })
    }

    /// Succeeds if the server says so; otherwise, the error says what really went wrong.
    pub(crate) async fn put(&self, to: &str, id: i64, body: String) -> Result<(), String> {
        let url = self.urls.get(to).ok_or("no such server")?;
        let request = self.http.put(format!("{url}/{id}")).body(body);
        match request.send().await.map_err(|error| root(&error))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(status.to_string()),
        }
    }
}

fn root(error: &reqwest::Error) -> String {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
