//! Runners that are killed at every write of the journal, and after every effect; and what died
//! with them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use relent::clock::MonotonicClock;
use tempfile::{TempDir, tempdir};

use crate::backup_runner::plan::Why;
use crate::backup_runner::services::Shell;
use crate::backup_runner::{Ended, RUN, Runner, TARGETS};
use crate::case::{ALL, Case, killed, only_looks, points};

/// Tries every point, and passes all operations that must have had their effect, once, when a run
/// is through. As this mostly waits for the disk, several points are tried at a time.
fn each_point(attempt: impl Fn(&str, &[&str]) + Sync) {
    let expected: Vec<_> = ALL.into_iter().filter(|key| !only_looks(key)).collect();
    let points = points();
    thread::scope(|scope| {
        for points in points.chunks(points.len().div_ceil(4)) {
            let (attempt, expected) = (&attempt, &expected);
            scope.spawn(move || {
                for point in points {
                    attempt(point, expected);
                }
            });
        }
    });
}

#[test]
fn killed_at_every_point_nothing_is_done_twice() {
    each_point(|point, expected| {
        let case = Case::new();
        *case.fake.0.panic_at.borrow_mut() = Some(point.to_owned());
        killed(&case);
        case.run().unwrap();
        let mut effects = case.performed();
        effects.retain(|key| !only_looks(key));
        assert_eq!(effects, expected, "killed {point}");
        assert_eq!(case.summary(), "{Completed: 15}; next: nothing");
    });
}

/// Not a test: what the child processes do.
#[test]
fn child() {
    let Ok(home) = std::env::var("BACKUP_RUNNER_HOME") else {
        return;
    };
    let world = Shell::new(Path::new(&home), RUN, std::env::var("DIE_AT").ok());
    let journal = Path::new(&home).join("vault/journal.json");
    let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world).unwrap();
    assert!(matches!(runner.run(None).unwrap(), Ended::Complete));
}

fn spawn(home: &Path, die_at: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "crashes::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("BACKUP_RUNNER_HOME", home)
        .envs(die_at.map(|point| ("DIE_AT", point)))
        .stdout(Stdio::null());
    command.status().unwrap()
}

fn effects(home: &Path) -> Vec<String> {
    let effects = fs::read_to_string(home.join("effects")).unwrap();
    effects.lines().map(str::to_owned).collect()
}

/// Real services, which end with the test.
struct Services {
    home: TempDir,
    shell: Shell,
}

impl Services {
    fn new() -> Services {
        let home = tempdir().unwrap();
        let shell = Shell::new(home.path(), RUN, None);
        shell.set_up(&TARGETS).unwrap();
        Services { home, shell }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.shell.tear_down(&TARGETS);
    }
}

#[test]
fn real_runners_killed_at_every_point_do_everything_once() {
    each_point(|point, expected| {
        let services = Services::new();
        let home = services.home.path();
        assert_eq!(spawn(home, Some(point)).signal(), Some(9), "{point}");
        assert!(spawn(home, None).success(), "after {point}");
        assert_eq!(effects(home), expected, "killed {point}");
    });
}

#[test]
fn a_service_that_died_on_its_own_leaves_the_outcome_unknown() {
    let services = Services::new();
    let home = services.home.path();
    let killed = spawn(home, Some("after pending, shop: stop"));
    assert_eq!(killed.signal(), Some(9));
    services.shell.kill("shop").unwrap();
    let journal = home.join("vault/journal.json");
    for _ in 0..2 {
        let world = Shell::new(home, RUN, None);
        let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world).unwrap();
        let run = runner.run(None).unwrap();
        let Ended::Halted(operation, Why::OutcomeUnknown(_), _) = run else {
            panic!("{run:?}");
        };
        assert_eq!(operation, "shop: stop");
    }
    assert_eq!(effects(home), [""; 0]);
}
