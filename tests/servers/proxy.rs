//! A proxy between a client and a PostgreSQL server, which loses a statement, or its answer.

use std::io::{Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use tempfile::{TempDir, tempdir};

/// The proxy, for clients that connect to its directory.
#[derive(Debug)]
pub(crate) struct Proxy(TempDir);

/// What becomes of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server never hears of it.
    Lost,
    /// The server has done it, but its answer never comes.
    Unanswered,
}

/// The state of one connection.
struct Wire {
    statements: Arc<AtomicU32>,
    plan: Arc<Plan>,
    is_cut: AtomicBool,
}

struct Plan {
    nth: u32,
    fate: Fate,
    then: Box<dyn Fn() + Send + Sync>,
}

impl Proxy {
    /// Makes the `nth` statement meet `fate`, and calls `then` before anybody hears of it.
    pub(crate) fn cutting(
        server: &Path,
        nth: u32,
        fate: Fate,
        then: impl Fn() + Send + Sync + 'static,
    ) -> Proxy {
        let then = Box::new(then);
        let plan = Arc::new(Plan { nth, fate, then });
        let statements = Arc::new(AtomicU32::new(0));
        let directory = tempdir().unwrap();
        let socket = |directory: &Path| directory.join(".s.PGSQL.5432");
        let listener = UnixListener::bind(socket(directory.path())).unwrap();
        let server = socket(server);
        thread::spawn(move || {
            for client in listener.incoming() {
                let wire = Arc::new(Wire {
                    statements: Arc::clone(&statements),
                    plan: Arc::clone(&plan),
                    is_cut: AtomicBool::new(false),
                });
                let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
                let (asker, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let back = Arc::clone(&wire);
                thread::spawn(move || back.answer(answers, asker));
                thread::spawn(move || wire.ask(client, server));
            }
        });
        Proxy(directory)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }
}

impl Wire {
    fn ask(&self, mut client: UnixStream, mut server: UnixStream) -> Result<()> {
        // The first message lacks its kind.
        let (mut kind, mut text) = (0, message(&mut client)?);
        loop {
            if matches!(kind, b'B' | b'Q') {
                let nth = 1 + self.statements.fetch_add(1, SeqCst);
                let fate = (nth == self.plan.nth).then_some(self.plan.fate);
                if fate == Some(Fate::Lost) {
                    (self.plan.then)();
                    return shut(&client, &server);
                }
                self.is_cut.store(fate.is_some(), SeqCst);
            }
            if kind != 0 {
                server.write_all(&[kind])?;
            }
            server.write_all(&text)?;
            kind = byte(&mut client).inspect_err(|_| drop(shut(&client, &server)))?;
            text = message(&mut client)?;
        }
    }

    fn answer(&self, mut server: UnixStream, mut client: UnixStream) -> Result<()> {
        loop {
            let kind = byte(&mut server).inspect_err(|_| drop(shut(&client, &server)))?;
            let text = message(&mut server)?;
            if !self.is_cut.load(SeqCst) {
                client.write_all(&[kind])?;
                client.write_all(&text)?;
            } else if kind == b'Z' {
                // The server is ready for the next statement, so this one is done.
                (self.plan.then)();
                return shut(&client, &server);
            }
        }
    }
}

fn shut(client: &UnixStream, server: &UnixStream) -> Result<()> {
    client.shutdown(std::net::Shutdown::Both)?;
    server.shutdown(std::net::Shutdown::Both)
}

fn byte(from: &mut UnixStream) -> Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A length, and the text of which it is part.
fn message(from: &mut UnixStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    text[..4].copy_from_slice(&length);
    from.read_exact(&mut text[4..])?;
    Ok(text)
}
