//! An operator: it keeps files that people edit, the parents, rendered into other files, their
//! children, whatever fails on the way.
//!
//! `cargo run --release --example operator` takes about five seconds, in a folder of its own.
//!
//! A controller meets failures of all kinds: text that makes no sense, a missing file, a bug that
//! panics, a full disk. What to learn from it: each failure backs off its own parent and no other,
//! by one `BackoffTracker`; a parent that is edited is tried at once, by `attempt_now`; one that
//! was given up is still looked at. [`Operator`] is the part to copy, above all its `reconcile`;
//! what to write for it is a [`Handler`], such as [`Sites`].

#[path = "shared/folders.rs"]
pub(crate) mod folders;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, fs, io, thread};

use folders::{Children, Folders, Text};
use relent::clock::{Clock, MonotonicClock};
use relent::{Backoff, BackoffTracker, Decision, Recovery};
use serde::{Deserialize, Serialize};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

const POLICY: Backoff = Backoff::DEFAULT.give_up_after_failures(3);
const RESYNC: Duration = Duration::from_secs(3);

fn main() -> Result<(), Error> {
    // A panic is reported as its parent's failure.
    panic::set_hook(Box::new(|_| {}));
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    let edit = |parent: &str, text| fs::write(path("parents").join(parent), text);
    let sites = Sites(home.path().to_owned());
    let mut operator = Operator::new(home.path(), sites, POLICY, Some(RESYNC), MonotonicClock)?;
    let gave_up = |report: &Report| matches!(report.decision, Some(Decision::GiveUp(_)));
    let recovered = |report: &Report| report.recovery.is_some();

    println!("Four sites. One is fine, one misspelt, one lacks a file, and one hits a bug.\n");
    edit("home.json", r#"{ "title": "Home" }"#)?;
    edit("blog.json", r#"{ "title": "Blog }"#)?;
    edit("shop.json", r#"{ "title": "Shop", "footer": "terms" }"#)?;
    edit("café.json", r#"{ "title": "Petit café" }"#)?;
    watch(&mut operator, "shop", gave_up)?;

    println!("\nSomebody corrects two of them. What is edited is tried at once.\n");
    edit("blog.json", r#"{ "title": "Blog" }"#)?;
    edit("café.json", r#"{ "title": "Café" }"#)?;
    watch(&mut operator, "café", recovered)?;

    println!("\nThe file is delivered. The shop was given up, but is looked at all the same.\n");
    fs::write(path("terms"), "<footer>All rights reserved</footer>")?;
    watch(&mut operator, "shop", recovered)?;

    println!("\nA site is deleted while somebody reads it. Its page stays until they are done.\n");
    fs::write(path("home.reader"), "")?;
    fs::remove_file(path("parents/home.json"))?;
    watch(&mut operator, "home", |report| report.decision.is_some())?;
    let status = fs::read_to_string(path("status/home.json"))?;
    println!("   status/home.json: {status}");
    fs::remove_file(path("home.reader"))?;
    watch(&mut operator, "home", recovered)?;

    println!("\nStill failing: {}.", operator.tracker.len());
    Ok(())
}

/// What is to be done for parents of one kind. All of it may fail, or panic, which counts as a
/// failure.
pub(crate) trait Handler {
    type Valid;

    /// Understands what a parent says.
    fn validate(&self, name: &str, parent: &str) -> Result<Self::Valid, Error>;

    /// Does what a parent wants, and returns the children that it should have.
    fn sync(&self, name: &str, valid: Self::Valid) -> Result<Children, Error>;

    /// Undoes that, for a parent that is gone. Until it succeeds the children stay. May be called
    /// again after it did.
    fn finalize(&self, name: &str) -> Result<(), Error>;

    /// The status to write for a parent.
    fn status(&self, name: &str, outcome: &Outcome) -> impl Serialize;
}

/// The outcome of a round for a parent.
#[derive(Debug)]
pub(crate) enum Outcome {
    ValidationFailed(Error),
    SyncFailed(Error),
    SyncSucceeded,
    FinalizeFailed(Error),
    FinalizeSucceeded,
}

impl Outcome {
    pub(crate) fn parts(&self) -> (&'static str, Option<&Error>) {
        match self {
            Outcome::ValidationFailed(error) => ("validation failed", Some(error)),
            Outcome::SyncFailed(error) => ("sync failed", Some(error)),
            Outcome::SyncSucceeded => ("sync succeeded", None),
            Outcome::FinalizeFailed(error) => ("finalize failed", Some(error)),
            Outcome::FinalizeSucceeded => ("finalize succeeded", None),
        }
    }
}

/// What became of a parent in one round.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// Why the status could not be written.
    pub(crate) untold: Option<Error>,
    /// The decision after a failure.
    pub(crate) decision: Option<Decision>,
    /// The streak that a success ended.
    pub(crate) recovery: Option<Recovery>,
    /// How long until it is looked at again, if nothing happens before.
    pub(crate) again: Option<Duration>,
}

/// Keeps parents rendered into children, and writes a status for each.
pub(crate) struct Operator<H, C = MonotonicClock> {
    folders: Folders,
    handler: H,
    clock: C,
    pub(crate) tracker: BackoffTracker<String, C>,
    /// How long after a success, or after giving up, a parent is looked at again.
    resync: Option<Duration>,
    parents: BTreeMap<String, Parent>,
}

struct Parent {
    text: Text,
    /// When to look at the parent again. This is its only timer, set anew by each round, so no
    /// outdated one can fire.
    due: Option<Duration>,
}

impl<H: Handler, C: Clock + Clone> Operator<H, C> {
    pub(crate) fn new(
        home: &Path,
        handler: H,
        backoff: Backoff,
        resync: Option<Duration>,
        clock: C,
    ) -> io::Result<Self> {
        let tracker = BackoffTracker::builder(backoff).clock(clock.clone());
        Ok(Operator {
            folders: Folders::open(home)?,
            handler,
            clock,
            tracker: tracker.build(),
            resync,
            parents: BTreeMap::new(),
        })
    }

    /// Reconciles each parent that was edited or deleted, and each whose timer is due. If listing
    /// the folder fails, nothing has changed, and the caller may call it again.
    pub(crate) fn tick(&mut self) -> io::Result<Vec<Report>> {
        self.notice()?;
        let now = self.clock.now();
        let is_due = |parent: &Parent| parent.due.is_some_and(|due| due <= now);
        let due = self.parents.iter().filter(|(_, parent)| is_due(parent));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        Ok(due.into_iter().map(|name| self.reconcile(name)).collect())
    }

    /// How long until the next timer is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let due = self.parents.values().filter_map(|parent| parent.due);
        Some(due.min()?.saturating_sub(self.clock.now()))
    }

    /// Makes due each parent that is not as remembered.
    fn notice(&mut self) -> io::Result<()> {
        let mut found = self.folders.parents()?;
        for known in self.parents.keys() {
            found.entry(known.clone()).or_default();
        }
        for (name, text) in found {
            let known = self.parents.get(&name);
            if known.is_some_and(|known| known.text == text) {
                continue;
            }
            if text.is_none() {
                // The failures so far have nothing to do with the deletion.
                self.tracker.forget(&name);
            }
            let due = Some(self.clock.now());
            self.parents.insert(name, Parent { text, due });
        }
        Ok(())
    }

    /// One round with a parent.
    fn reconcile(&mut self, name: String) -> Report {
        // Even if it waits or was given up: it was edited, or should be looked at regularly.
        let attempt = self.tracker.attempt_now(&name);
        let (Ok(outcome) | Err(outcome)) = self.work(&name);
        let untold = guarded(|| self.tell(&name, &outcome)).err();
        // A success if nothing failed: neither the handler, nor the disk, nor writing the status.
        let (_, error) = outcome.parts();
        let (decision, recovery) = match error.or(untold.as_ref()) {
            Some(_) => (Some(attempt.fail()), None),
            None => (None, attempt.succeed()),
        };
        let is_gone = matches!(outcome, Outcome::FinalizeSucceeded) && decision.is_none();
        // A parent that was given up is looked at as regularly as a healthy one.
        let regularly = self.resync.filter(|_| !is_gone);
        let again = decision.and_then(Decision::delay).or(regularly);
        if is_gone {
            self.parents.remove(&name);
        } else if let Some(parent) = self.parents.get_mut(&name) {
            parent.due = again.map(|again| self.clock.now().saturating_add(again));
        }
        Report {
            name,
            outcome,
            untold,
            decision,
            recovery,
            again,
        }
    }

    /// Does the work of handler and disk, as far as they get.
    fn work(&self, name: &str) -> Result<Outcome, Outcome> {
        let parent = self.parents.get(name);
        let Some(text) = parent.and_then(|parent| parent.text.as_ref()) else {
            let finalized = guarded(|| {
                self.handler.finalize(name)?;
                Ok(self.folders.render(name, &Children::new())?)
            });
            finalized.map_err(Outcome::FinalizeFailed)?;
            return Ok(Outcome::FinalizeSucceeded);
        };
        let validated = guarded(|| self.handler.validate(name, &text.clone()?));
        let valid = validated.map_err(Outcome::ValidationFailed)?;
        let synced = guarded(|| {
            // Before anything is done for the parent, so that it will be finalized whatever happens
            // now.
            self.folders.claim(name)?;
            let children = self.handler.sync(name, valid)?;
            Ok(self.folders.render(name, &children)?)
        });
        synced.map_err(Outcome::SyncFailed)?;
        Ok(Outcome::SyncSucceeded)
    }

    fn tell(&self, name: &str, outcome: &Outcome) -> Result<(), Error> {
        let status = serde_json::to_string(&self.handler.status(name, outcome))?;
        self.folders.tell(name, &status)?;
        if let Outcome::FinalizeSucceeded = outcome {
            // The last trace of the parent goes last: after a crash before that, it is finalized
            // again.
            self.folders.release(name)?;
        }
        Ok(())
    }
}

/// What `call` returns; an error if it panics.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a word")).into())
    })
}

/// Runs the operator until it reports what is waited for of a parent.
fn watch(
    operator: &mut Operator<Sites>,
    parent: &str,
    until: impl Fn(&Report) -> bool,
) -> Result<(), Error> {
    const POLL: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let mut seen = false;
        for report in operator.tick()? {
            println!("   {report}");
            seen |= report.name == parent && until(&report);
        }
        if seen {
            return Ok(());
        }
        thread::sleep(operator.next_due().map_or(POLL, |due| due.min(POLL)));
    }
    Err(format!("{parent} did not come to this in ten seconds").into())
}

/// Web sites: each parent becomes a page. Footers and marks of readers lie in this folder.
struct Sites(PathBuf);

#[derive(Deserialize)]
struct Site {
    title: String,
    footer: Option<String>,
}

impl Handler for Sites {
    type Valid = Site;

    fn validate(&self, _: &str, parent: &str) -> Result<Site, Error> {
        Ok(serde_json::from_str(parent)?)
    }

    fn sync(&self, _: &str, site: Site) -> Result<Children, Error> {
        let read = |file| fs::read_to_string(self.0.join(file));
        let footer = site.footer.map(read).transpose()?.unwrap_or_default();
        // The bug: the tenth byte may be the middle of a letter.
        let short = &site.title[..site.title.len().min(10)];
        let html = format!("<title>{short}</title>{footer}");
        Ok(Children::from([("index.html".to_owned(), html)]))
    }

    fn finalize(&self, name: &str) -> Result<(), Error> {
        if self.0.join(format!("{name}.reader")).exists() {
            return Err("somebody reads it".into());
        }
        Ok(())
    }

    fn status(&self, _: &str, outcome: &Outcome) -> impl Serialize {
        let (outcome, error) = outcome.parts();
        serde_json::json!({ "outcome": outcome, "error": error.map(ToString::to_string) })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outcome, error) = self.outcome.parts();
        write!(f, "{:<5} {outcome}", self.name)?;
        if let Some(error) = error.or(self.untold.as_ref()) {
            write!(f, ": {error}")?;
        }
        if let Some(Recovery {
            failures, outage, ..
        }) = self.recovery
        {
            write!(f, "; failed {failures}× before, for {outage:.1?}")?;
        }
        if let Some(Decision::GiveUp(reason)) = self.decision {
            write!(f, "; gave up, {reason}")?;
        }
        self.again
            .map_or(Ok(()), |again| write!(f, "; again in {again:.1?}"))
    }
}
