//! What a worker knows of the leases it holds: its own clock's view, without any I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

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
/// reached or the process was stopped for too long, the session *expires*, for good: none of its
/// work should go on, and it starts no more.
///
/// Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    holder: String,
    time_to_live: Duration,
    clock: Arc<dyn Clock + Send + Sync>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The worker's own time until which each lease is good for certain.
    deadlines: BTreeMap<(u64, String), Duration>,
    expired: bool,
    waiting: Vec<Waker>,
}

/// The leases to extend by one heartbeat.
pub(super) struct Beat {
    pub(super) leases: Vec<(u64, String)>,
    began: Duration,
}

impl Session {
    /// A time to live is at least this: databases keep no finer time.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(super) fn new(options: &Options) -> Session {
        let holder = options
            .holder
            .clone()
            .unwrap_or_else(|| format!("{}-{:08x}", std::process::id(), random::seed() >> 32));
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
            held: Mutex::default(),
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
        self.0.held.lock().deadlines.len()
    }

    /// Whether a lease has run out on this worker. Then stop: others may be at the same work.
    ///
    /// Reads the clock, so it knows also where no heartbeat runs, or hangs.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.look(Held::expired_at)
    }

    /// Waits until the session has expired, which a heartbeat has to notice: to be raced against
    /// the work. Cancelling it does nothing.
    #[must_use = "a future does nothing unless awaited"]
    pub fn expiry(&self) -> Expiry {
        Expiry(self.clone())
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// Takes a lease into the session; asked of the store at `asked`.
    pub(super) fn hold(&self, token: u64, key: &str, asked: Duration) {
        let deadline = asked.saturating_add(self.0.time_to_live);
        let mut held = self.0.held.lock();
        held.deadlines.insert((token, key.to_owned()), deadline);
    }

    /// Lets go of a lease, so that no heartbeat extends it any more.
    pub(super) fn release(&self, token: u64, key: &str) {
        let mut held = self.0.held.lock();
        held.deadlines.remove(&(token, key.to_owned()));
    }

    /// Whether a lease is still good.
    pub(super) fn holds(&self, token: u64, key: &str) -> bool {
        self.look(|held, now| {
            !held.expired_at(now) && held.deadlines.contains_key(&(token, key.to_owned()))
        })
    }

    /// The heartbeat to make now, if there is anything to extend.
    pub(super) fn beat(&self) -> Option<Beat> {
        let began = self.now();
        let held = self.0.held.lock();
        let leases: Vec<_> = held.deadlines.keys().cloned().collect();
        (!leases.is_empty()).then_some(Beat { leases, began })
    }

    /// Notes what the store said to a heartbeat, lease by lease.
    pub(super) fn beaten<T>(&self, beat: Beat, answers: Vec<Result<T, LeaseLost>>) {
        let deadline = beat.began.saturating_add(self.0.time_to_live);
        self.look(|held, now| {
            // Before what is lost goes: it may be lost because it ran out.
            held.expired_at(now);
            for (lease, answer) in beat.leases.into_iter().zip(answers) {
                match answer {
                    // It may have been let go meanwhile.
                    Ok(_) => {
                        if let Some(known) = held.deadlines.get_mut(&lease) {
                            *known = deadline;
                        }
                    }
                    Err(LeaseLost::Expired { .. }) => held.expired = true,
                    // It may have been ended meanwhile, and the key taken again.
                    Err(_) => drop(held.deadlines.remove(&lease)),
                }
            }
            held.expired_at(now);
        });
    }

    /// Looks at what is held, and wakes whoever waits if that tells that the session has expired.
    fn look<T>(&self, look: impl FnOnce(&mut Held, Duration) -> T) -> T {
        let now = self.now();
        let mut held = self.0.held.lock();
        let seen = look(&mut held, now);
        let waiting = if held.expired {
            std::mem::take(&mut held.waiting)
        } else {
            Vec::new()
        };
        // A waker is somebody else's code.
        drop(held);
        waiting.into_iter().for_each(Waker::wake);
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
        let now = self.now();
        let held = self.0.held.lock();
        let first = held.deadlines.values().min();
        first.map_or(self.0.time_to_live, |deadline| deadline.saturating_sub(now))
    }
}

/// How a session's heartbeat goes.
#[derive(Default)]
pub(super) struct Pulse {
    state: BackoffState,
}

impl Held {
    /// Whether the session has expired; once it has, it stays so.
    fn expired_at(&mut self, now: Duration) -> bool {
        self.expired |= self.deadlines.values().any(|&deadline| deadline <= now);
        self.expired
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

/// The future of [`Session::expiry`].
#[derive(Clone, Debug)]
#[must_use = "a future does nothing unless awaited"]
pub struct Expiry(Session);

impl Future for Expiry {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.look(|held, now| {
            if held.expired_at(now) {
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !held.waiting.iter().any(|known| known.will_wake(waker)) {
                held.waiting.push(waker.clone());
            }
            Poll::Pending
        })
    }
}
