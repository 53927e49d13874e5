//! A server that dies with the test, however that dies.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

/// A running server.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// Waits to be told, or for the test to die, which closes the pipe; then ends the server.
const GUARD: &str = r#"
    "$@" >"$LOG" 2>&1 &
    server=$!
    if read -r signal; then
        kill -s "$signal" $server
        wait $server
    else
        kill -s KILL $server
        wait $server
        rm -rf "$DIRECTORY"
    fi
"#;

impl Process {
    /// Starts it in a directory that is deleted once the test has died.
    pub(crate) fn start(command: &[&str], directory: &Path) -> Process {
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .args(command)
            .env("DIRECTORY", directory)
            .env("LOG", directory.join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of Ctrl-C; the guard ends it when the test dies.
            .process_group_of_its_own()
            .spawn();
        Process(guard.expect("a shell"))
    }

    /// Ends the server by a signal, and waits for its end.
    pub(crate) fn stop(mut self, signal: &str) {
        let mut stdin = self.0.stdin.take().expect("a pipe");
        writeln!(stdin, "{signal}").expect("a guard that reads");
        self.0.wait().expect("a guard that ends");
    }
}

trait Grouped {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl Grouped for Command {
    fn process_group_of_its_own(&mut self) -> &mut Command {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}

/// The program of this name, among those that can be called, or where Debian puts a database's.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.flatten().map(|version| version.path().join("bin"));
    env::split_paths(&path)
        .chain(versions)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// What was found; if nothing was, prints loudly that its tests are skipped, or fails in CI, where
/// they must run.
pub(crate) fn or_skip<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "{what} is missing, and this is CI"
        );
        skipped(what);
    }
    found
}

/// The loud message.
pub(super) fn skipped(what: &str) {
    eprintln!("\n*** SKIPPED: {what} is not installed; nothing was tested of what needs it ***\n");
}
