//! A backup runner: an ordered plan over real services, in a journal that outlives whoever runs it.
//!
//! `cargo run --release --features file --example backup_runner`
//!
//! Each target is stopped, its data copied and started again; the copy is downloaded, verified and
//! published. Here runners are killed on the way, the link is down, a service dies on its own, and
//! data is damaged. Yet everything is done only once, and what nobody knows is reported as unknown.
//!
//! What to learn from it: no effect happens before it is announced in the journal, and none is
//! repeated before it is known what became of it ([`Runner::drive`]); the journal and the backoff
//! of its operations are one document, and each step of both is one write ([`Runner::end`]).
//!
//! Beside this: `shared/plan.rs`, what is to be done, and what one thing has to do with another;
//! `shared/services.rs`, the targets and what can be done to them.

#[path = "shared/plan.rs"]
pub(crate) mod plan;
#[path = "shared/processes.rs"]
mod processes;
#[path = "shared/services.rs"]
pub(crate) mod services;

use std::path::Path;
use std::process::{self, Command};
use std::time::Duration;
use std::{env, fs};

use relent::clock::{Clock, MonotonicClock};
use relent::store::blocking::DurableTracker;
use relent::store::{FileStore, FileTransaction};
use relent::{Backoff, Decision, Readiness};

use plan::{Journal, Operation, State, Why};
use processes::wait_until;
use services::{Failure, Kind, Observed, Shell, World};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How an operation is tried again.
pub(crate) const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2))
        .give_up_after_failures(5);

#[derive(Debug)]
pub(crate) enum Ended {
    Complete,
    MaxSteps,
    /// Halted by an operation that cannot be done: which one, why, and what became of its target.
    Halted(String, Why, String),
}

type Tracker<C> = DurableTracker<FileStore<C>>;

pub(crate) struct Runner<W, C> {
    world: W,
    journal: Journal,
    /// The failures and the wait of each operation, and whether it was given up. Kept in the
    /// journal's file.
    tracker: Tracker<C>,
}

impl<W: World, C: Clock> Runner<W, C> {
    /// Resumes the run, or begins it. While the runner lives, the file is locked.
    pub(crate) fn open(
        file: &Path,
        clock: C,
        run: &str,
        targets: &[&str],
        world: W,
    ) -> Result<Runner<W, C>, Error> {
        let tracker = DurableTracker::new(FileStore::with_clock(file, clock)?, RETRY);
        let found: Option<Journal> = tracker.store().data()?;
        let (is_new, new) = (found.is_none(), Journal::new(run, targets));
        let journal = found.unwrap_or_else(|| new.clone());
        if journal.subject() != new.subject() {
            return Err("the journal is about another run".into());
        }
        let mut runner = Runner {
            world,
            journal,
            tracker,
        };
        if is_new {
            runner.write("plan", |_, _, _| Ok(()))?;
        }
        Ok(runner)
    }

    /// Goes on to the end; or until `max_steps` operations were done, not counting checks; or until
    /// one cannot be done, in which case it leaves no target stopped.
    pub(crate) fn run(&mut self, max_steps: Option<usize>) -> Result<Ended, Error> {
        let mut steps = 0;
        while let Some(n) = self.next()? {
            if self.journal[n].kind != Kind::Check {
                if max_steps == Some(steps) {
                    return Ok(Ended::MaxSteps);
                }
                steps += 1;
            }
            if let Some(why) = self.drive(n)? {
                let operation = self.journal[n].key();
                return Ok(Ended::Halted(operation, why, self.contain(n)?));
            }
        }
        Ok(Ended::Complete)
    }

    /// What to do next: what was begun comes first, then all in order. But nothing is stopped for
    /// an operation that was given up, and nothing is done on the strength of a check that has
    /// expired.
    fn next(&self) -> Result<Option<usize>, Error> {
        let Some(next) = self.journal.next() else {
            return Ok(None);
        };
        for n in self.journal.failed() {
            if let Readiness::GaveUp(_) = self.tracker.check(&self.journal[n].key())? {
                return Ok(Some(n));
            }
        }
        let stale = self.journal.stale_check(next, self.tracker.store().now());
        Ok(stale.or(Some(next)))
    }

    /// Starts a stopped target again, since `n` cannot be done.
    fn contain(&mut self, n: usize) -> Result<String, Error> {
        let start = self.journal.restart_required();
        let Some(start) = start.filter(|&start| start != n) else {
            return Ok(String::new());
        };
        let target = self.journal[start].target.clone();
        Ok(match self.drive(start)? {
            None => format!("; {target} was started again"),
            Some(why) => format!("; {target} cannot be started again: {why}"),
        })
    }

    /// Brings an operation to its end, whatever it takes. If that is impossible, returns why.
    fn drive(&mut self, n: usize) -> Result<Option<Why>, Error> {
        let Operation { kind, target, .. } = self.journal[n].clone();
        let key = self.journal[n].key();
        loop {
            let state = self.journal[n].state;
            if state != State::Pending {
                match self.tracker.check(&key)? {
                    Readiness::Ready => {}
                    Readiness::Wait(wait) => self.world.sleep(wait),
                    Readiness::GaveUp(_) => {
                        let cause = self.tracker.get(&key)?.map(|record| record.cause);
                        return Ok(Some(Why::GaveUp(cause.unwrap_or_default())));
                    }
                }
            }
            // What was begun by a runner that died may have happened; and so may what failed.
            if state != State::Ready && !kind.only_looks() {
                match self.world.observe(kind, &target) {
                    Observed::Done(told) => {
                        self.end(n, Ok(format!("{told}; found done")))?;
                        return Ok(None);
                    }
                    Observed::Unknown(why) => return Ok(Some(Why::OutcomeUnknown(why))),
                    Observed::NotDone => {}
                }
            }
            if state == State::Pending {
                // A crash counts as a failure: an operation that kills its runner each time is
                // given up like any other.
                let cause = "the runner died before it was done".to_owned();
                self.end(n, Err(Failure::passing(cause)))?;
                continue;
            }
            self.write(&format!("pending, {key}"), |journal, _, _| {
                journal[n].state = State::Pending;
                Ok(())
            })?;
            let performed = self.world.perform(kind, &target);
            self.world.reached(&format!("effect of {key}"));
            let is_done = performed.is_ok();
            self.end(n, performed)?;
            if is_done {
                return Ok(None);
            }
        }
    }

    /// Notes how an operation ended, and updates its backoff.
    fn end(&mut self, n: usize, outcome: Result<String, Failure>) -> Result<(), Error> {
        let key = self.journal[n].key();
        let point = format!("receipt, {key}");
        let said = self.write(&point, |journal, tracker, file| {
            let at = file.now();
            let Failure { cause, permanent } = match outcome {
                Ok(told) => {
                    tracker.record_success_in(file, &key)?;
                    journal.end(n, State::Completed, at, &told);
                    return Ok(format!("done, {told}"));
                }
                Err(failure) => failure,
            };
            journal.end(n, State::Failed, at, &cause);
            let policy = permanent.then(Backoff::never_retry).unwrap_or(RETRY);
            let failed = tracker.record_failure_with_in(file, &key, Some(&policy), None, &cause);
            Ok(match failed? {
                Decision::Retry { after } => format!("{cause}; again in {after:.0?}"),
                Decision::GiveUp(_) if permanent => format!("{cause}; no use to try again"),
                Decision::GiveUp(reason) => format!("{cause}; given up: {reason}"),
            })
        })?;
        self.world.say(&format!("{key}: {said}"));
        Ok(())
    }

    /// Changes the journal together with the backoff: first on the disk.
    fn write<T>(
        &mut self,
        point: &str,
        change: impl FnOnce(&mut Journal, &Tracker<C>, &mut FileTransaction) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut journal = self.journal.clone();
        self.world.reached(&format!("before {point}"));
        let answer = self.tracker.store().transaction(|transaction| {
            let answer = change(&mut journal, &self.tracker, transaction)?;
            transaction.put_data(&journal)?;
            Ok::<_, Error>(answer)
        })?;
        self.journal = journal;
        self.world.reached(&format!("after {point}"));
        Ok(answer)
    }

    /// Has all that was given up tried again.
    pub(crate) fn again(&mut self) -> Result<(), Error> {
        for n in self.journal.failed() {
            self.tracker.forget(&self.journal[n].key())?;
        }
        Ok(())
    }

    /// Takes somebody's word for the outcome of an operation that was begun.
    pub(crate) fn settle(&mut self, key: &str, happened: bool) -> Result<(), Error> {
        let n = self.journal.begun(key)?;
        if happened {
            return self.end(n, Ok("somebody says so".to_owned()));
        }
        self.write(key, |journal, _, _| {
            journal[n].state = State::Ready;
            Ok(())
        })
    }

    /// What a runner that goes on from here will do.
    pub(crate) fn summary(&self) -> Result<String, Error> {
        Ok(self.journal.summary(self.next()?))
    }
}

pub(crate) const RUN: &str = "nightly";
pub(crate) const TARGETS: [&str; 2] = ["shop", "mail"];

/// One runner.
fn run(home: &Path, options: &[&str]) -> Result<(), Error> {
    let world = Shell::new(home, RUN, env::var("DIE_AT").ok());
    let journal = home.join("vault/journal.json");
    let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world)?;
    let mut max_steps = None;
    match options {
        ["--max-steps", steps] => max_steps = Some(steps.parse()?),
        ["--again"] => runner.again()?,
        ["--settle", operation, happened] => runner.settle(operation, happened.parse()?)?,
        [] => {}
        _ => return Err("no such option".into()),
    }
    println!("   {}", runner.summary()?);
    match runner.run(max_steps)? {
        Ended::Complete => println!("   complete"),
        Ended::MaxSteps => println!("   that was enough; {}", runner.summary()?),
        Ended::Halted(operation, why, then) => {
            return Err(format!("{operation}: {why}{then}").into());
        }
    }
    Ok(())
}

/// Runners that come and go, over two services.
fn story(home: &Path) -> Result<(), Error> {
    let spawn = |options: &[&str], die_at: &str| {
        let mut runner = Command::new(env::current_exe()?);
        runner.arg("run").arg(home).args(options);
        runner.env("DIE_AT", die_at).spawn()
    };
    let runner = |options: &[&str], die_at: &str| spawn(options, die_at)?.wait();
    let shell = Shell::new(home, RUN, None);
    shell.set_up(&TARGETS)?;

    println!("Two services are to be backed up. The first runner is told to take one step.\n");
    runner(&["--max-steps", "1"], "")?;

    println!("\nThe second is killed once the shop is up again, before it could say so.\n");
    println!("   {}", runner(&[], "effect of shop: start")?);

    println!(
        "\nThe third finds out. Then the link is down for a while; a fourth has to stay out.\n"
    );
    fs::write(home.join("shop/offline"), "")?;
    let mut third = spawn(&["--max-steps", "4"], "")?;
    wait_until("nobody needs the link", || {
        let journal = fs::read_to_string(home.join("vault/journal.json"))?;
        Ok(journal.contains("the link is down").then_some(()))
    })?;
    runner(&[], "")?;
    fs::remove_file(home.join("shop/offline"))?;
    third.wait()?;

    println!(
        "\nThe next is killed when it is about to stop the mail, and the mail dies too, on its own.\n"
    );
    println!("   {}", runner(&[], "after pending, mail: stop")?);
    shell.kill("mail")?;
    runner(&[], "")?;

    println!("\nSomebody says that it is stopped well enough. But then its data is damaged.\n");
    fs::write(home.join("mail/damaged"), "")?;
    runner(&["--settle", "mail: stop", "true"], "")?;

    println!(
        "\nThe mail runs, with what it has. The data is repaired, and all is done again from there.\n"
    );
    fs::remove_file(home.join("mail/damaged"))?;
    runner(&["--again"], "")?;

    let effects = fs::read_to_string(home.join("effects"))?;
    println!("\nWhat was done:\n\n{effects}");
    shell.tear_down(&TARGETS);
    Ok(())
}

pub(crate) fn main() -> Result<(), Error> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [] => story(tempfile::tempdir()?.path()),
        ["run", home, options @ ..] => {
            if let Err(error) = run(Path::new(home), options) {
                println!("   stopped: {error}");
                process::exit(1);
            }
            Ok(())
        }
        _ => Err("usage: run HOME [--max-steps N | --again | --settle KEY true|false]".into()),
    }
}
