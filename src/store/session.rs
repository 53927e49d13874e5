//! What a worker knows of the leases it holds: its own clock's view, without any I/O.

mod expiry;
mod ledger;

pub use expiry::Expiry;
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
use crate::policy::Backoff;
use crate::random;
use crate::state::{BackoffState, Failure};

/// The leases that one worker holds, and whether it may still rely on them.
///
/// A lease is good for its time to live, counted from before the store was asked for it, so a
/// worker never believes in it longer than the store does. A heartbeat extends all leases of the
/// session together. Once a lease has run out in spite of that, because the store could not be
/// reached, the process was stopped for too long or the store's clock was set forward, the session
/// *expires*, for good: none of its work should go on, and it starts no more.
///
/// A lease that alone is lost, because somebody else has its key or because its row is locked or
/// damaged, is [told to its work](super::Work::expiry); the session goes on.
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
    /// A time to live is at least this: databases keep no finer time.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(super) fn new(options: &Options) -> Session {
        let holder = options.holder.clone().unwrap_or_else(|| {
            // WebAssembly knows no processes, and panics if it is asked for one.
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

    /// Who works, as the store tells others.
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

    /// Whether a lease has run out in spite of all heartbeats: because the store was out of reach
    /// for so long, or by the store's clock, as that was set forward. Then stop all work: others
    /// may be at the same.
    ///
    /// Reads the clock, so it knows also where no heartbeat runs, or hangs.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.look(|ledger, _| ledger.expired)
    }

    /// Waits until the session has expired, which a heartbeat has to notice: to be raced against
    /// all that it works on. Dropping it changes nothing.
    #[must_use = "a future does nothing unless awaited"]
    pub fn expiry(&self) -> Expiry {
        Expiry::new(self, None)
    }

    /// Waits until a lease is lost; never if its work is ended before.
    pub(super) fn expiry_of(&self, lease: LeaseId) -> Expiry {
        Expiry::new(self, Some(lease))
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// Takes a lease into the session, asked of the store at `asked`: as one that is lost, if it
    /// may have run out by now.
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

    /// `ending` is told how many heartbeats were begun.
    fn note(&self, lease: LeaseId, ending: impl FnOnce(u64) -> Ending) {
        let mut ledger = self.0.ledger.lock();
        let beats = ledger.beats;
        if let Some(good) = ledger.good.get_mut(&lease) {
            good.ending = ending(beats);
        }
    }

    /// Notes that a lease is lost, as the store said to who wanted to end the work.
    pub(super) fn lose(&self, lease: LeaseId, why: &LeaseLost) {
        self.look(|ledger, _| ledger.lose(lease, why));
    }

    /// The heartbeat to make now, if there is anything to extend: what was given up is not.
    pub(super) fn beat(&self) -> Option<Beat> {
        self.look(|ledger, began| {
            if ledger.expired || ledger.good.is_empty() {
                return None;
            }
            ledger.beats += 1;
            let leases = ledger.good.iter();
            let leases = leases.map(|(lease, good)| (*lease, Arc::clone(&good.key), good.token));
            Some(Beat {
                leases: leases.collect(),
                began,
                number: ledger.beats,
            })
        })
    }

    /// Notes what the store said of a heartbeat's `n`-th lease.
    pub(super) fn told<T>(&self, beat: &Beat, n: usize, answer: Result<T, LeaseLost>) {
        let Some((lease, ..)) = beat.leases.get(n) else {
            return;
        };
        let deadline = beat.began.saturating_add(self.0.time_to_live);
        self.look(|ledger, _| {
            ledger.heard = ledger.heard.max(beat.began);
            match (ledger.good.get_mut(lease), answer) {
                // It was let go meanwhile, or it ran out.
                (None, _) => {}
                (Some(good), Ok(_)) => {
                    // Of two that overlap, the later may be answered first.
                    good.deadline = good.deadline.max(deadline);
                    if matches!(good.ending, Ending::Within(beats) if beats < beat.number) {
                        good.ending = Ending::Not;
                    }
                }
                // Whoever ends it is told what came of that, or has brought it about.
                (Some(good), Err(LeaseLost::Ended | LeaseLost::Taken { .. }))
                    if good.ending != Ending::Not => {}
                (Some(_), Err(lost)) => ledger.lose(*lease, &lost),
            }
        });
    }

    /// Looks at what is held, as it is now, and wakes whoever waits if that tells of a loss.
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
        // A waker is somebody else's code.
        drop(ledger);
        waiting.into_values().for_each(Waker::wake);
        seen
    }

    /// How long to wait for the next heartbeat, after one that went well or failed.
    ///
    /// A third of the time to live when well, so that two may be lost. After an error much sooner,
    /// and never past the moment at which a lease runs out: that is told at once.
    pub(super) fn pause(&self, pulse: &mut Pulse, well: bool) -> Duration {
        let time_to_live = self.0.time_to_live;
        let pause = if well {
            pulse.state = BackoffState::default();
            time_to_live / 3
        } else {
            let retry = Backoff::exponential(time_to_live / 50, time_to_live / 6);
            let failure = Failure::new(random::seed());
            retry
                .next(&mut pulse.state, failure)
                .delay()
                .unwrap_or(time_to_live / 6)
        };
        pause.min(self.left())
    }

    /// How long until the first of the leases runs out, or a new one would.
    pub(super) fn left(&self) -> Duration {
        self.look(|ledger, now| {
            ledger
                .first_deadline()
                .map_or(self.0.time_to_live, |deadline| deadline.saturating_sub(now))
        })
    }
}

/// How a session's heartbeat goes.
#[derive(Default)]
pub(super) struct Pulse {
    state: BackoffState,
}

/// The leases to extend by one heartbeat.
pub(super) struct Beat {
    /// Each with its key and its token.
    leases: Vec<(LeaseId, Arc<str>, u64)>,
    began: Duration,
    /// Its place among the session's heartbeats, from 1 on.
    number: u64,
}

impl Beat {
    /// The key and the token of each lease.
    pub(super) fn leases(&self) -> Vec<(&str, u64)> {
        let leases = self.leases.iter();
        leases.map(|(_, key, token)| (&**key, *token)).collect()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Options, Pulse, Session};
    use crate::clock::ManualClock;

    #[test]
    fn p2_after_an_error_the_next_heartbeat_comes_much_sooner_and_then_ever_later() {
        const SECOND: Duration = Duration::from_secs(1);
        let options = Options::new(None).time_to_live(300 * SECOND);
        let session = Session::new(&options.clock(ManualClock::new()));
        let mut pulse = Pulse::default();
        for _ in 0..100 {
            for longest in [6, 12, 24, 48, 50, 50] {
                let pause = session.pause(&mut pulse, false);
                assert!(pause <= SECOND * longest, "{pause:?} of {longest}");
            }
            let longest = (0..100).map(|_| session.pause(&mut pulse, false)).max();
            assert!(longest > Some(SECOND * 40), "{longest:?}");
            assert_eq!(session.pause(&mut pulse, true), 100 * SECOND);
        }
    }
}
