//! What can be done to targets, and real ones: folders, each with a service that writes into it,
//! worked on by child processes.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fmt, thread};

use fs4::FileExt;
use relent::Backoff;
use serde::{Deserialize, Serialize};

use super::processes::die;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Check,
    Stop,
    Snapshot,
    Start,
    Download,
    Verify,
    Finalize,
}

impl Kind {
    /// Whether it changes nothing, so that doing it twice is doing it once.
    pub(crate) fn only_looks(self) -> bool {
        matches!(self, Kind::Check | Kind::Verify)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// Where copies go. It can be checked, like a target.
pub(crate) const VAULT: &str = "vault";

/// Where the effects happen.
pub(crate) trait World {
    /// Performs an operation, and returns what came of it.
    fn perform(&self, kind: Kind, target: &str) -> Result<String, Failure>;
    /// Finds out what became of an operation that was begun by a runner that died, or that ended
    /// with an error.
    fn observe(&self, kind: Kind, target: &str) -> Observed;
    fn sleep(&self, wait: Duration);
    /// Reports to people.
    fn say(&self, line: &str);
    /// Called when the runner has come to this point, which is a good one to be killed at.
    fn reached(&self, _point: &str) {}
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: String,
    /// It will fail the same way each time.
    pub(crate) permanent: bool,
}

impl Failure {
    /// It may go well another time.
    #[allow(clippy::needless_pass_by_value)] // to be handed to `map_err`
    pub(crate) fn passing(cause: impl ToString) -> Failure {
        Failure {
            cause: cause.to_string(),
            permanent: false,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Observed {
    /// It happened, and this came of it.
    Done(String),
    NotDone,
    /// Nobody can tell, for this reason. It is never tried again, as it may have happened.
    Unknown(String),
}

/// How to wait for what another process does.
const WAIT: Backoff =
    Backoff::fixed(Duration::from_millis(10)).give_up_after(Duration::from_secs(5));

/// What runs while a target is up. If it ends in good order, it leaves a mark; otherwise none.
const SERVICE: &str = r#"
    trap 'rm -f pid; : > stopped; echo "$T: stop" >> ../effects; exit' TERM
    rm -f stopped; echo "$T: start" >> ../effects; echo $$ > pid
    while [ -d data ]; do echo tick >> data/log; sleep 0.02; done"#;

/// A command that changes anything links its result into place at the end, which fails if the
/// command was done before. Until then it does not count. Exit status 65 means that trying again is
/// useless.
const SNAPSHOT: &str = r#"
    [ ! -e "$T/damaged" ] || { echo "the data is damaged" >&2; exit 65; }
    [ ! -e "$SNAP" ] || { echo "there is a snapshot that nobody announced" >&2; exit 65; }
    tar -cf "$SNAP.part" -C "$T" data && ln "$SNAP.part" "$SNAP" && rm "$SNAP.part" &&
    echo "$T: snapshot" >> effects && cksum < "$SNAP""#;
const DOWNLOAD: &str = r#"
    [ ! -e "$T/offline" ] || { echo "the link is down" >&2; exit 1; }
    cp "$SNAP" "$COPY.part" && ln "$COPY.part" "$COPY" && rm "$COPY.part" &&
    echo "$T: download" >> effects && cksum < "$COPY""#;
const VERIFY: &str = r#"
    [ "$(cksum < "$SNAP")" = "$(cksum < "$COPY")" ] || { echo "the copy differs" >&2; exit 65; }
    echo "the checksums agree""#;
const FINALIZE: &str = r#"
    cksum < "$COPY" > "$COPY.ok.part" && ln "$COPY.ok.part" "$COPY.ok" && rm "$COPY.ok.part" &&
    echo "$T: finalize" >> effects && rm "$SNAP" && echo "published""#;

/// Exit status: 0 it is done, 1 it is not, anything else nobody knows.
const FOUND_SNAPSHOT: &str = r#"[ -e "$SNAP" ] || exit 1; cksum < "$SNAP""#;
const FOUND_DOWNLOAD: &str = r#"
    [ -e "$COPY" ] || exit 1
    [ "$(cksum < "$SNAP")" = "$(cksum < "$COPY")" ] && cksum < "$COPY" ||
    { echo "there is a copy, of something else" >&2; exit 2; }"#;
const FOUND_FINALIZE: &str = r#"[ -e "$COPY.ok" ] || exit 1; rm -f "$SNAP"; echo "published""#;

pub(crate) struct Shell {
    home: PathBuf,
    run: String,
    /// The point at which to be killed.
    die_at: Option<String>,
}

impl Shell {
    pub(crate) fn new(home: &Path, run: &str, die_at: Option<String>) -> Shell {
        Shell {
            home: home.to_owned(),
            run: run.to_owned(),
            die_at,
        }
    }

    /// Makes targets that are up and running.
    pub(crate) fn set_up(&self, targets: &[&str]) -> io::Result<()> {
        fs::create_dir_all(self.home.join(VAULT))?;
        for target in targets {
            fs::create_dir_all(self.home.join(target).join("data"))?;
            self.launch(target)?;
        }
        fs::write(self.home.join("effects"), "")
    }

    /// Ends the services: each ends once it no longer sees its data, whatever state it is in.
    pub(crate) fn tear_down(&self, targets: &[&str]) {
        for target in targets {
            // A service that is still writing keeps the folder there for a moment.
            let data = self.home.join(target).join("data");
            let is_gone = || fs::remove_dir_all(&data).is_ok() || !data.exists();
            let _ = wait(is_gone, "it stays");
        }
        for target in targets {
            let _ = self.wait_for_end(target);
        }
    }

    /// Kills a service, which then leaves no mark.
    pub(crate) fn kill(&self, target: &str) -> io::Result<()> {
        self.sh(r#"kill -9 "$(cat "$T/pid")""#, target)?;
        self.wait_for_end(target)
    }

    fn wait_for_end(&self, target: &str) -> io::Result<()> {
        let has_ended = || self.is_alive(target).is_ok_and(|alive| !alive);
        wait(has_ended, "it does not end")
    }

    /// The service holds its lock, by its standard input, for exactly as long as it lives.
    fn launch(&self, target: &str) -> io::Result<()> {
        let folder = self.home.join(target);
        let alive = lock(&folder.join("alive.lock"))?;
        let mut service = Command::new("sh");
        service.args(["-c", SERVICE]).env("T", target).stdin(alive);
        service.stdout(Stdio::null()).stderr(Stdio::null());
        // Our child for as long as we live, but not to be interrupted with us.
        service.current_dir(&folder).process_group(0).spawn()?;
        wait(|| folder.join("pid").exists(), "it does not come up")
    }

    fn is_alive(&self, target: &str) -> io::Result<bool> {
        let lock = lock(&self.home.join(target).join("alive.lock"));
        match lock {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            lock => lock.map(|_| false),
        }
    }

    /// Runs a command, once every other has ended, even one whose runner was killed: each holds the
    /// lock by its standard input.
    fn sh(&self, script: &str, target: &str) -> io::Result<Output> {
        let path = self.home.join("command.lock");
        let lock = WAIT.retry(|| lock(&path)).call()?;
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&self.home);
        command.env("T", target).stdin(lock);
        command.env("SNAP", format!("{target}/{}.tar", self.run));
        command.env("COPY", format!("vault/{target}-{}.tar", self.run));
        command.output()
    }

    fn effect(&self, script: &str, target: &str) -> Result<String, Failure> {
        let output = self.sh(script, target).map_err(Failure::passing)?;
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(Failure {
            cause: format!("{}{}", text(&output.stderr), text(&output.stdout)),
            permanent: output.status.code() == Some(65),
        })
    }

    fn found(&self, script: &str, target: &str) -> io::Result<Observed> {
        let output = self.sh(script, target)?;
        Ok(match output.status.code() {
            Some(0) => Observed::Done(text(&output.stdout)),
            Some(1) => Observed::NotDone,
            _ => Observed::Unknown(text(&output.stderr)),
        })
    }

    fn stop(&self, target: &str) -> Result<String, Failure> {
        self.effect(r#"kill "$(cat "$T/pid")""#, target)?;
        self.wait_for_end(target).map_err(Failure::passing)?;
        Ok("it is down".to_owned())
    }

    /// What the target does, and whether that is what is wanted.
    fn service(&self, target: &str, wanted: Kind) -> io::Result<Observed> {
        // A command of a runner that died may be about to change that.
        self.sh("", target)?;
        let is_wanted = |kind, told: &str| {
            if kind == wanted {
                Observed::Done(told.to_owned())
            } else {
                Observed::NotDone
            }
        };
        let stopped = self.home.join(target).join("stopped");
        Ok(match self.is_alive(target)? {
            true => is_wanted(Kind::Start, "it is up"),
            false if stopped.exists() => is_wanted(Kind::Stop, "it is down"),
            false => Observed::Unknown("it is down, but did not stop in order".to_owned()),
        })
    }
}

impl World for Shell {
    fn perform(&self, kind: Kind, target: &str) -> Result<String, Failure> {
        match kind {
            Kind::Check if target == VAULT => {
                self.effect(r#"[ -w "$T" ] && echo writable"#, target)
            }
            Kind::Check => self.effect(r#"[ -d "$T/data" ] && echo "it has data""#, target),
            Kind::Stop => self.stop(target),
            Kind::Snapshot => self.effect(SNAPSHOT, target),
            Kind::Start => {
                self.launch(target).map_err(Failure::passing)?;
                Ok("it is up".to_owned())
            }
            Kind::Download => self.effect(DOWNLOAD, target),
            Kind::Verify => self.effect(VERIFY, target),
            Kind::Finalize => self.effect(FINALIZE, target),
        }
    }

    fn observe(&self, kind: Kind, target: &str) -> Observed {
        let found = match kind {
            Kind::Check | Kind::Verify => Ok(Observed::NotDone),
            Kind::Stop | Kind::Start => self.service(target, kind),
            Kind::Snapshot => self.found(FOUND_SNAPSHOT, target),
            Kind::Download => self.found(FOUND_DOWNLOAD, target),
            Kind::Finalize => self.found(FOUND_FINALIZE, target),
        };
        found.unwrap_or_else(|error| Observed::Unknown(error.to_string()))
    }

    fn sleep(&self, wait: Duration) {
        thread::sleep(wait);
    }

    fn say(&self, line: &str) {
        println!("   {line}");
    }

    fn reached(&self, point: &str) {
        if self.die_at.as_deref() == Some(point) {
            die();
        }
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    FileExt::try_lock(&file)?;
    Ok(file)
}

fn wait(mut until: impl FnMut() -> bool, or: &str) -> io::Result<()> {
    let waited = WAIT.retry(|| until().then_some(()).ok_or(())).call();
    waited.map_err(|()| io::Error::new(io::ErrorKind::TimedOut, or))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
