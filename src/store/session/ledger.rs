//! The leases that are held, and those that were lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::store::lease::LeaseLost;

/// A lease's place in the ledger. No other lease of the session ever had or will have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct LeaseId(u64);

#[derive(Default)]
pub(super) struct Ledger {
    /// How many leases were ever entered.
    entered: u64,
    pub(super) good: BTreeMap<LeaseId, Good>,
    /// None of the good leases runs out before this, so that not all need to be looked at each
    /// time.
    pub(super) good_until: Duration,
    /// Those that are not good any more, of work that is still in hand.
    pub(super) lost: BTreeSet<LeaseId>,
    /// When the store was asked the last question about a lease that it has answered.
    pub(super) heard: Duration,
    pub(super) expired: bool,
    /// How many heartbeats were begun.
    pub(super) beats: u64,
    /// Who waits to be told that something was lost.
    pub(super) waiting: BTreeMap<u64, Waker>,
    pub(super) waiters: u64,
}

/// A lease that is good.
pub(super) struct Good {
    pub(super) key: Arc<str>,
    pub(super) token: u64,
    /// Until when it is certain to be good, by the worker's own clock.
    pub(super) deadline: Duration,
    pub(super) ending: Ending,
}

/// Whether work is being ended. A heartbeat that finds it ended is then no sign of a loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Not,
    /// By a call that is told what comes of it.
    Called,
    /// Within a transaction of the caller's, after this many heartbeats. If a later one can extend
    /// the lease, the transaction was rolled back.
    Within(u64),
}

impl Ledger {
    /// Enters a lease; `None` for one that is lost already.
    pub(super) fn enter(&mut self, good: Option<Good>) -> LeaseId {
        self.entered += 1;
        let lease = LeaseId(self.entered);
        if let Some(good) = good {
            self.good_until = self.good_until.min(good.deadline);
            self.good.insert(lease, good);
        } else {
            self.lost.insert(lease);
        }
        lease
    }

    pub(super) fn strike(&mut self, lease: LeaseId) {
        self.good.remove(&lease);
        self.lost.remove(&lease);
    }

    /// Notes which leases have run out.
    ///
    /// If the store has answered of late, it is not the store that is out of reach, but what is
    /// kept for these keys. Of a lease that may have ended with the caller's transaction, nothing
    /// is expected to be heard.
    pub(super) fn settle(&mut self, now: Duration, time_to_live: Duration) {
        if now < self.good_until {
            return;
        }
        let is_silent = self.heard.saturating_add(time_to_live) <= now;
        let run_out = self.good.iter().filter(|(_, good)| good.deadline <= now);
        let run_out: Vec<_> = run_out.map(|(lease, good)| (*lease, good.ending)).collect();
        for (lease, ending) in run_out {
            self.expired |= is_silent && !matches!(ending, Ending::Within(_));
            self.good.remove(&lease);
            self.lost.insert(lease);
        }
        self.good_until = self.first_deadline().unwrap_or(Duration::MAX);
    }

    pub(super) fn first_deadline(&self) -> Option<Duration> {
        self.good.values().map(|good| good.deadline).min()
    }

    pub(super) fn lose(&mut self, lease: LeaseId, why: &LeaseLost) {
        // Otherwise it was released meanwhile, or is already known to be lost.
        if self.good.remove(&lease).is_some() {
            self.lost.insert(lease);
            // Sooner than by the worker's clock: the store goes by another time, for all leases.
            self.expired |= matches!(why, LeaseLost::Expired { .. });
        }
    }

    pub(super) fn is_lost(&self, lease: LeaseId) -> bool {
        self.lost.contains(&lease) || self.expired && self.good.contains_key(&lease)
    }
}
