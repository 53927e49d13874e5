//! What is to be done, what has become of it, and what that says about the next step: no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// For how long the word of a check is good.
pub(crate) const CHECKS_EXPIRE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    CheckVault,
    CheckTarget,
    Stop,
    Snapshot,
    Start,
    Download,
    Verify,
    Finalize,
}

impl Kind {
    /// Whether it is done before anything is changed, on the target and beside it.
    pub(crate) fn is_check(self) -> bool {
        matches!(self, Kind::CheckVault | Kind::CheckTarget)
    }

    /// Whether it changes nothing, so that doing it twice is doing it once.
    pub(crate) fn only_looks(self) -> bool {
        self.is_check() || self == Kind::Verify
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Of the vault: nothing.
    pub(crate) target: String,
}

/// All checks first, so that nothing is stopped in vain; then one target after the other, so that
/// each is down as short as can be.
pub(crate) fn plan(targets: &[&str]) -> Vec<Operation> {
    use Kind::{CheckTarget, CheckVault, Download, Finalize, Snapshot, Start, Stop, Verify};
    let of = |kind, target: &str| Operation {
        kind,
        target: target.to_owned(),
    };
    let checks = targets.iter().map(|target| of(CheckTarget, target));
    let steps = [Stop, Snapshot, Start, Download, Verify, Finalize];
    let work = targets
        .iter()
        .flat_map(|target| steps.map(|kind| of(kind, target)));
    let vault = of(CheckVault, "");
    [vault].into_iter().chain(checks).chain(work).collect()
}

/// What became of an operation. Whether it may be tried is not said here, but by its backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Ready,
    /// Begun. Found so by a runner that has just come, nobody knows what it did.
    Pending,
    Failed,
    Completed,
    /// Not needed any more.
    Skipped,
}

/// The last thing that an operation came to. There is one each, however often it is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    pub(crate) at: SystemTime,
    pub(crate) told: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) operation: Operation,
    pub(crate) state: State,
    pub(crate) receipt: Option<Receipt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    pub(crate) run: String,
    pub(crate) entries: Vec<Entry>,
}

impl Journal {
    pub(crate) fn new(run: &str, plan: Vec<Operation>) -> Journal {
        let entries = plan.into_iter().map(|operation| Entry {
            operation,
            state: State::Ready,
            receipt: None,
        });
        Journal {
            run: run.to_owned(),
            entries: entries.collect(),
        }
    }

    /// Whether it is about this run of this plan.
    pub(crate) fn is_of(&self, run: &str, plan: &[Operation]) -> bool {
        let operations = self.entries.iter().map(|entry| &entry.operation);
        self.run == run && operations.eq(plan)
    }

    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        self.position(|entry| entry.operation.to_string() == key)
    }

    /// What to do next: whatever was begun comes first, then all in order.
    pub(crate) fn next(&self) -> Option<usize> {
        let pending = self.position(|entry| entry.state == State::Pending);
        pending.or_else(|| self.position(|entry| entry.state < State::Completed))
    }

    /// The check to repeat before `n` is done: the first whose word is no longer good. A target is
    /// started again whatever any check says.
    pub(crate) fn stale_check(&self, n: usize, now: SystemTime) -> Option<usize> {
        let next = &self.entries[n];
        let Operation { kind, target } = &next.operation;
        if *kind == Kind::Start || next.state == State::Pending {
            return None;
        }
        let is_good = |receipt: &Receipt| {
            let age = now.duration_since(receipt.at);
            age.is_ok_and(|age| age < CHECKS_EXPIRE)
        };
        self.position(|entry| {
            let Operation { kind, target: of } = &entry.operation;
            let concerns = kind.is_check() && (of.is_empty() || of == target);
            concerns && !entry.receipt.as_ref().is_some_and(is_good)
        })
    }

    /// The start of a target that is stopped, and should not stay so.
    pub(crate) fn restart_required(&self) -> Option<usize> {
        self.position(|entry| {
            let Operation { kind, target } = &entry.operation;
            *kind == Kind::Start
                && entry.state < State::Completed
                && self.state_of(Kind::Stop, target) == Some(State::Completed)
        })
    }

    pub(crate) fn counts(&self) -> BTreeMap<State, usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.entries {
            *counts.entry(entry.state).or_default() += 1;
        }
        counts
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = usize> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(n, entry)| (entry.state == State::Failed).then_some(n))
    }

    /// Notes what an operation came to, and what follows from that.
    pub(crate) fn end(&mut self, n: usize, state: State, receipt: Receipt) {
        let entry = &mut self.entries[n];
        (entry.state, entry.receipt) = (state, Some(receipt));
        let Operation { kind, target } = entry.operation.clone();
        let snapshot = self.state_of(Kind::Snapshot, &target);
        let stop = self.state_of(Kind::Stop, &target);
        match (kind, state) {
            // Started early, because the snapshot failed: to make one, it has to be stopped again.
            (Kind::Start, State::Completed) if snapshot != Some(State::Completed) => {
                self.set_pair(&target, State::Ready);
            }
            // Found made after all, while the target is running: no need to stop it for that.
            (Kind::Snapshot, State::Completed) if stop == Some(State::Ready) => {
                self.set_pair(&target, State::Skipped);
            }
            _ => {}
        }
    }

    fn set_pair(&mut self, target: &str, state: State) {
        for entry in &mut self.entries {
            let Operation { kind, target: of } = &entry.operation;
            if of == target && matches!(kind, Kind::Stop | Kind::Start) {
                entry.state = state;
            }
        }
    }

    fn state_of(&self, kind: Kind, target: &str) -> Option<State> {
        let mut entries = self.entries.iter();
        let found = entries.find(|entry| {
            let operation = &entry.operation;
            operation.kind == kind && operation.target == target
        });
        found.map(|entry| entry.state)
    }

    fn position(&self, which: impl Fn(&Entry) -> bool) -> Option<usize> {
        self.entries.iter().position(which)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { kind, target } = self;
        let what = match kind {
            Kind::CheckVault => return f.write_str("check of the vault"),
            Kind::CheckTarget => "check",
            Kind::Stop => "stop",
            Kind::Snapshot => "snapshot",
            Kind::Start => "start",
            Kind::Download => "download",
            Kind::Verify => "verify",
            Kind::Finalize => "finalize",
        };
        write!(f, "{target}: {what}")
    }
}
