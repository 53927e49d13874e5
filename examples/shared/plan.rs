//! The plan of a backup, and what has become of it: without I/O, and without retries.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::services::{Kind, VAULT};

/// How long the result of a check holds.
pub(crate) const CHECKS_EXPIRE: Duration = Duration::from_secs(300);

/// What became of an operation. Whether it may be tried is for its backoff to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Ready,
    /// Begun. If a runner finds it so at its start, nobody knows what it did.
    Pending,
    Failed,
    Completed,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) target: String,
    pub(crate) state: State,
    /// When it last ended, and what it reported.
    receipt: Option<(SystemTime, String)>,
}

impl Operation {
    pub(crate) fn key(&self) -> String {
        format!("{}: {}", self.target, self.kind)
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    run: String,
    operations: Vec<Operation>,
}

impl Journal {
    /// All checks first, so that nothing is stopped in vain; then one target after the other, so
    /// that each is down for as short a time as possible.
    pub(crate) fn new(run: &str, targets: &[&str]) -> Journal {
        use Kind::{Check, Download, Finalize, Snapshot, Start, Stop, Verify};
        let steps = [Stop, Snapshot, Start, Download, Verify, Finalize];
        let checks = [VAULT].iter().chain(targets).map(|target| (Check, target));
        let work = targets
            .iter()
            .flat_map(|target| steps.map(|kind| (kind, target)));
        let operations = checks.chain(work).map(|(kind, target)| Operation {
            kind,
            target: (*target).to_owned(),
            state: State::Ready,
            receipt: None,
        });
        Journal {
            run: run.to_owned(),
            operations: operations.collect(),
        }
    }

    /// The run that it is about, and its plan.
    pub(crate) fn subject(&self) -> (&str, Vec<String>) {
        (
            &self.run,
            self.operations.iter().map(Operation::key).collect(),
        )
    }

    /// What to do next: whatever was begun comes first, then all in order.
    pub(crate) fn next(&self) -> Option<usize> {
        let begun = self.position(|it| it.state == State::Pending);
        begun.or_else(|| self.position(|it| it.state != State::Completed))
    }

    /// The operation of that name, if nobody knows what became of it.
    pub(crate) fn begun(&self, key: &str) -> Result<usize, &'static str> {
        let begun = self.position(|it| it.state == State::Pending && it.key() == key);
        begun.ok_or("no such operation was begun")
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = usize> {
        let all = self.operations.iter().enumerate();
        all.filter_map(|(n, it)| (it.state == State::Failed).then_some(n))
    }

    fn position(&self, which: impl Fn(&Operation) -> bool) -> Option<usize> {
        self.operations.iter().position(which)
    }

    fn state_of(&self, kind: Kind, target: &str) -> Option<State> {
        let n = self.position(|it| it.kind == kind && it.target == target);
        n.map(|n| self.operations[n].state)
    }

    /// The check to repeat before `n` is done: the first whose result no longer holds. To start a
    /// target again, no check is needed.
    pub(crate) fn stale_check(&self, n: usize, now: SystemTime) -> Option<usize> {
        let Operation {
            kind,
            target,
            state,
            ..
        } = &self.operations[n];
        if *kind == Kind::Start || *state == State::Pending {
            return None;
        }
        let is_good = |since: SystemTime| {
            now.duration_since(since)
                .is_ok_and(|age| age < CHECKS_EXPIRE)
        };
        self.position(|it| {
            let concerns = it.target == VAULT || it.target == *target;
            let good = it.receipt.as_ref().is_some_and(|(at, _)| is_good(*at));
            it.kind == Kind::Check && concerns && !good
        })
    }

    /// The start of a target that is stopped, and should not stay stopped.
    pub(crate) fn restart_required(&self) -> Option<usize> {
        self.position(|it| {
            let is_stopped = self.state_of(Kind::Stop, &it.target) == Some(State::Completed);
            it.kind == Kind::Start && it.state != State::Completed && is_stopped
        })
    }

    /// Counts per state, what to do next, and which target has to be started again.
    pub(crate) fn summary(&self, next: Option<usize>) -> String {
        let mut counts = BTreeMap::new();
        for operation in &self.operations {
            *counts.entry(operation.state).or_insert(0) += 1;
        }
        let next = next.map_or("nothing".to_owned(), |n| self[n].key());
        let restart = self.restart_required();
        let restart = restart.map(|n| format!("; restart required: {}", self[n].target));
        format!("{counts:?}; next: {next}{}", restart.unwrap_or_default())
    }

    /// Notes how an operation ended, and what follows from that.
    pub(crate) fn end(&mut self, n: usize, state: State, at: SystemTime, told: &str) {
        let operation = &mut self.operations[n];
        (operation.state, operation.receipt) = (state, Some((at, told.to_owned())));
        let (kind, target) = (operation.kind, operation.target.clone());
        let snapshot = self.state_of(Kind::Snapshot, &target);
        let pair = match (kind, state) {
            // Started early, because the snapshot failed: to make one, it has to be stopped again.
            (Kind::Start, State::Completed) if snapshot != Some(state) => State::Ready,
            // Found made after all, while the target is running: no need to stop it for that.
            (Kind::Snapshot, State::Completed)
                if self.state_of(Kind::Stop, &target) == Some(State::Ready) =>
            {
                state
            }
            _ => return,
        };
        for it in &mut self.operations {
            if it.target == target && matches!(it.kind, Kind::Stop | Kind::Start) {
                it.state = pair;
            }
        }
    }
}

/// Why an operation cannot be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    GaveUp(String),
    OutcomeUnknown(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::GaveUp(cause) => write!(f, "given up: {cause}"),
            Why::OutcomeUnknown(why) => write!(f, "outcome unknown: {why}"),
        }
    }
}

impl Index<usize> for Journal {
    type Output = Operation;

    fn index(&self, n: usize) -> &Operation {
        &self.operations[n]
    }
}

impl IndexMut<usize> for Journal {
    fn index_mut(&mut self, n: usize) -> &mut Operation {
        &mut self.operations[n]
    }
}
