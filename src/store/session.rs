//! What a worker knows of the leases it holds: by its own clock, without any I/O.

mod expiry;
mod heartbeat;
mod ledger;

pub use expiry::Expiry;
pub(super) use heartbeat::Pulse;
pub(super) use ledger::LeaseId;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use ledger::{Ending, Good, Ledger};

use super::lease::LeaseLost;
use super::options::Options;
use super::text::{MAX_HOLDER, storable};
use crate::clock::Clock;
use crate::random;

/// The leases that one worker holds, and whether it may still rely on them.
///
/// A lease is good for its time to live, counted from before the store was asked for it, so a
/// worker never believes in it longer than the store does. A heartbeat extends all leases of the
/// session together. Once a lease has run out in spite of that, because the store could not be
/// reached, the process was stopped for too long or the store's clock was set forward, the session
/// *expires*, for good: none of its work should go on, and it starts no more.
///
/// If one lease alone is lost, because somebody else has its key or because its row is locked or
/// damaged, [its work is told](super::Work::expiry), and the session goes on.
///
/// Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    holder: String,
    time_to_live: Duration,
    clock: Arc<dyn Clock + Send + Sync>,
    ledger: Mutex<Ledger>,
}

impl Session {
    /// The shortest time to live.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(super) fn new(options: &Options) -> Session {
        let holder = options.holder.clone().unwrap_or_else(|| {
            // WebAssembly has no processes, and asking for one panics.
            let process = if cfg!(target_family = "wasm") {
                0
            } else {
                std::process::id()
            };
            format!("{process}-{:08x}", random::seed() >> 32)
        });
        Session::with(
            storable(&holder, MAX_HOLDER).into_owned(),
            options.time_to_live.max(Session::SHORTEST),
            Arc::clone(&options.clock),
        )
    }

    /// A session like this one that holds nothing and has not expired.
    pub(super) fn renewed(&self) -> Session {
        let Inner {
            holder,
            time_to_live,
            clock,
            ..
        } = &*self.0;
        Session::with(holder.clone(), *time_to_live, Arc::clone(clock))
    }

    fn with(
        holder: String,
        time_to_live: Duration,
        clock: Arc<dyn Clock + Send + Sync>,
    ) -> Session {
        Session(Arc::new(Inner {
            holder,
            time_to_live,
            clock,
            ledger: Mutex::default(),
        }))
    }

    /// The name of the holder, as the store tells it to others.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.0.holder
    }

    /// How long a lease lives without a heartbeat.
    #[must_use]
    pub fn time_to_live(&self) -> Duration {
        self.0.time_to_live
    }

    /// How many leases it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.look(|ledger, _| ledger.good.len())
    }

    /// Whether the session has expired: a lease has run out in spite of all heartbeats, because the
    /// store was out of reach for so long, or because its clock was set forward. If so, stop all
    /// work: others may be doing the same.
    ///
    /// Reads the clock, so it knows even if no heartbeat runs, or one hangs.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.look(|ledger, _| ledger.expired)
    }

    /// Waits until the session has expired. Race it against all work of the session, with a
    /// heartbeat running, which has to notice the expiry. Dropping it changes nothing.
    #[must_use = "a future does nothing unless awaited"]
    pub fn expiry(&self) -> Expiry {
        Expiry::new(self, None)
    }

    /// Waits until a lease is lost. It is never ready if the work ends first.
    pub(super) fn expiry_of(&self, lease: LeaseId) -> Expiry {
        Expiry::new(self, Some(lease))
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// Takes a lease into the session, which the store was asked for at `asked`; as one that is
    /// lost, if it may have run out by now.
    pub(super) fn hold(&self, key: &Arc<str>, token: u64, asked: Duration) -> LeaseId {
        let deadline = asked.saturating_add(self.0.time_to_live);
        self.look(|ledger, now| {
            if deadline <= now {
                return ledger.enter(None);
            }
            if ledger.good.is_empty() {
                ledger.heard = ledger.heard.max(asked);
            }
            ledger.enter(Some(Good {
                key: Arc::clone(key),
                token,
                deadline,
                ending: Ending::Not,
            }))
        })
    }

    /// Lets go of a lease, so that no heartbeat extends it any more.
    pub(super) fn release(&self, lease: LeaseId) {
        self.0.ledger.lock().strike(lease);
    }

    /// Whether a lease is still good.
    pub(super) fn holds(&self, lease: LeaseId) -> bool {
        self.look(|ledger, _| !ledger.expired && ledger.good.contains_key(&lease))
    }

    /// Notes that the work of a lease is being ended by a call, or is not any more.
    pub(super) fn set_ending(&self, lease: LeaseId, is_ending: bool) {
        let ending = if is_ending {
            Ending::Called
        } else {
            Ending::Not
        };
        self.note(lease, |_| ending);
    }

    /// Notes that the work of a lease ends once the caller's transaction is committed.
    pub(super) fn set_ending_within(&self, lease: LeaseId) {
        self.note(lease, Ending::Within);
    }

    /// `ending` gets the number of heartbeats begun so far.
    fn note(&self, lease: LeaseId, ending: impl FnOnce(u64) -> Ending) {
        let mut ledger = self.0.ledger.lock();
        let beats = ledger.beats;
        if let Some(good) = ledger.good.get_mut(&lease) {
            good.ending = ending(beats);
        }
    }

    /// Notes that a lease is lost, as the store said when the work was to be ended.
    pub(super) fn lose(&self, lease: LeaseId, why: &LeaseLost) {
        self.look(|ledger, _| ledger.lose(lease, why));
    }

    /// Looks at the ledger as it is now, and wakes whoever waits if anything turns out to be lost.
    fn look<T>(&self, look: impl FnOnce(&mut Ledger, Duration) -> T) -> T {
        let now = self.now();
        let mut ledger = self.0.ledger.lock();
        let before = (ledger.lost.len(), ledger.expired);
        ledger.settle(now, self.0.time_to_live);
        let seen = look(&mut ledger, now);
        let waiting = if (ledger.lost.len(), ledger.expired) == before {
            BTreeMap::new()
        } else {
            std::mem::take(&mut ledger.waiting)
        };
        // A waker is somebody else's code, not to be run under the lock.
        drop(ledger);
        waiting.into_values().for_each(Waker::wake);
        seen
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("holder", &self.0.holder)
            .field("time_to_live", &self.0.time_to_live)
            .finish_non_exhaustive()
    }
}
