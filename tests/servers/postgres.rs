//! A PostgreSQL server to throw away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use super::process::{Process, find, or_skip};

/// A server over a Unix socket. If the machine crashed, it would lose what the operating system had
/// not written, but no test does that; if only the server is killed, it loses nothing.
#[derive(Debug)]
pub(crate) struct Server {
    postgres: PathBuf,
    directory: PathBuf,
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// The one that the tests of this process share. `None` if there is none to be had.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::new(&["fsync=off"])).as_ref()
}

impl Server {
    pub(crate) fn new(settings: &[&str]) -> Option<Server> {
        let programs = find("initdb").zip(find("postgres"));
        let (initdb, postgres) = or_skip(programs, "PostgreSQL")?;
        let directory = tempfile::tempdir().expect("a directory").keep();
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(&directory)
                .status();
            assert!(owned.expect("chown").success());
        }
        let data = directory.join("data");
        let made = command(&[
            text(&initdb),
            "--pgdata",
            text(&data),
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]);
        let made = Command::new(made[0]).args(&made[1..]).output();
        let made = made.expect("initdb");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let server = Server {
            postgres,
            directory,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: Mutex::default(),
        };
        server.start();
        Some(server)
    }

    pub(crate) fn start(&self) {
        let data = self.directory.join("data");
        let mut words = vec![
            text(&self.postgres),
            "-D",
            text(&data),
            "-k",
            text(&self.directory),
            "-c",
            "listen_addresses=",
            "-c",
            "max_connections=200",
        ];
        for setting in &self.settings {
            words.extend(["-c", setting]);
        }
        let process = Process::start(&command(&words), &self.directory);
        *self.process.lock() = Some(process);
    }

    /// Ends it by a signal: by QUIT at once, as in a crash; by INT in good order.
    pub(crate) fn stop(&self, signal: &str) {
        if let Some(process) = self.process.lock().take() {
            process.stop(signal);
        }
    }

    /// The directory in which another process finds it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Connections to a new database.
    pub(crate) async fn database(&self) -> PgPool {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", COUNT.fetch_add(1, Relaxed));
        self.wait().await;
        let admin = pool(&self.directory, "postgres", 1);
        sqlx::query(made(format!("CREATE DATABASE {name}")))
            .execute(&admin)
            .await
            .expect("a database");
        pool(&self.directory, &name, 20)
    }

    /// Waits until it answers.
    pub(crate) async fn wait(&self) {
        let started = Instant::now();
        while let Err(error) = options(&self.directory, "postgres").connect().await {
            if started.elapsed() > Duration::from_secs(30) {
                let log = fs::read_to_string(self.directory.join("log"));
                panic!("no server: {error}: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("QUIT");
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Connections to a database of the server in this directory.
pub(crate) fn pool(directory: &Path, database: &str, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(10))
        .connect_lazy_with(options(directory, database))
}

pub(crate) fn options(directory: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new()
        .socket(directory)
        .username("postgres")
        .database(database)
}

/// A statement that a test makes up, leaked, because from 0.9 on sqlx takes only `'static` ones.
pub(crate) fn made(statement: String) -> &'static str {
    statement.leak()
}

/// A clock that can be set, for connections [that look there](with_clock).
pub(crate) const CLOCK: &str = "
    CREATE TABLE clock (micros BIGINT NOT NULL);
    INSERT INTO clock VALUES (1800000000123456);
    CREATE FUNCTION clock_timestamp() RETURNS TIMESTAMPTZ VOLATILE LANGUAGE SQL AS $$
        SELECT TIMESTAMPTZ '1970-01-01Z' + micros * INTERVAL '1 microsecond' FROM clock
    $$;
";

/// Has the functions of the database take precedence over the server's own.
pub(crate) fn with_clock(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("search_path", "public,pg_catalog")])
}

/// It refuses to run as root.
fn command<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut command = vec![];
    if is_root() {
        command.extend([
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]);
    }
    command.extend(words);
    command
}

fn is_root() -> bool {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    *IS_ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id");
        id.stdout.trim_ascii() == b"0"
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}
