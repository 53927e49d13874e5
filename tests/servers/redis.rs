//! A Redis server to throw away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::{ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::process::{Process, find, or_skip};

/// A server over a Unix socket. It keeps what it answered if it crashes itself.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    directory: PathBuf,
    words: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// The one that the tests of this process share. `None` if there is none to be had.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::new).as_ref()
}

impl Server {
    pub(crate) fn new() -> Option<Server> {
        Server::with(&[])
    }

    /// A server with these settings, too.
    pub(crate) fn with(words: &[&str]) -> Option<Server> {
        let program = or_skip(find("redis-server"), "Redis")?;
        let server = Server {
            program,
            directory: tempfile::tempdir().expect("a directory").keep(),
            words: words.iter().copied().map(String::from).collect(),
            process: Mutex::default(),
        };
        server.start();
        Some(server)
    }

    pub(crate) fn start(&self) {
        let socket = socket(&self.directory);
        let text = |path: &Path| path.to_str().expect("a path of ours").to_owned();
        let (program, directory) = (text(&self.program), text(&self.directory));
        let socket = text(&socket);
        let mut words = vec![
            &program[..],
            "--port",
            "0",
            "--unixsocket",
            &socket,
            "--dir",
            &directory[..],
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ];
        words.extend(self.words.iter().map(String::as_str));
        *self.process.lock() = Some(Process::start(&words, &self.directory));
    }

    pub(crate) fn stop(&self, signal: &str) {
        if let Some(process) = self.process.lock().take() {
            process.stop(signal);
        }
    }

    /// The directory in which another process finds it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A connection, once the server answers.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let answer = self.answers().await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`connection`](Self::connection), for a server that may have failed to start.
    pub(crate) async fn answers(&self) -> RedisResult<MultiplexedConnection> {
        let started = Instant::now();
        loop {
            let answer = connect(&self.directory).await;
            if answer.is_ok() || started.elapsed() > Duration::from_secs(20) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("KILL");
        drop(fs::remove_dir_all(&self.directory));
    }
}

pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("socket")
}

/// As long as a disk may take to sync; by default a client waits for half a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a slow disk.
pub(crate) fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

/// As [`patient`], for a connection that comes back.
pub(crate) fn patient_manager() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

/// A connection to the server in this directory.
pub(crate) async fn connect(directory: &Path) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(format!("unix://{}", socket(directory).display()))?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient())
        .await?;
    redis::cmd("PING").exec_async(&mut connection).await?;
    Ok(connection)
}
