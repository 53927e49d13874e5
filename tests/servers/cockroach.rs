//! A CockroachDB server: one that `RELENT_COCKROACH` names, or one to throw away.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, process};

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::OnceCell;

use super::postgres::made;
use super::process::{Process, find, skipped};

/// How to connect to it; and the server itself, if we started it.
#[derive(Debug)]
pub(crate) struct Server {
    options: PgConnectOptions,
    ours: Option<(Process, PathBuf)>,
}

/// The one that the tests of this process share. `None` if there is none to be had; unlike for
/// other servers, that is not a failure in CI, whose packages have none.
pub(crate) async fn shared() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    SERVER.get_or_init(Server::new).await.as_ref()
}

impl Server {
    async fn new() -> Option<Server> {
        let server = if let Ok(url) = env::var("RELENT_COCKROACH") {
            let options = PgConnectOptions::from_str(&url).expect("an address in RELENT_COCKROACH");
            Server {
                options,
                ours: None,
            }
        } else {
            let Some(program) = find("cockroach") else {
                skipped("CockroachDB");
                return None;
            };
            Server::start(&program.to_string_lossy()).await
        };
        let started = Instant::now();
        while let Err(error) = server.options.connect().await {
            assert!(started.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(server)
    }

    async fn start(program: &str) -> Server {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let url = directory.join("url");
        let words = [
            program,
            "start-single-node",
            "--insecure",
            "--store=type=mem,size=640MiB",
            "--listen-addr=127.0.0.1:0",
            "--http-addr=127.0.0.1:0",
            &format!("--listening-url-file={}", url.display()),
        ];
        let process = Process::start(&words, &directory);
        let started = Instant::now();
        let url = loop {
            match fs::read_to_string(&url) {
                Ok(url) if url.ends_with('\n') => break url,
                _ => assert!(started.elapsed() < Duration::from_secs(60), "no server"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Server {
            options: PgConnectOptions::from_str(url.trim()).expect("its address"),
            ours: Some((process, directory)),
        }
    }

    /// Connections to a new database.
    pub(crate) async fn database(&self) -> PgPool {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
        let (id, count) = (process::id(), COUNT.fetch_add(1, Relaxed));
        let name = format!("relent_{}_{id}_{count}", now.as_secs());
        let mut admin = self.options.connect().await.expect("a connection");
        sqlx::query(made(format!("CREATE DATABASE {name}")))
            .execute(&mut admin)
            .await
            .expect("a database");
        PgPoolOptions::new()
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone().database(&name))
    }
}
