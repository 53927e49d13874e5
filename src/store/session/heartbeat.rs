//! The heartbeat of a session: what to extend, what came of it, and when to do so again.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::ledger::{Ending, LeaseId};
use crate::policy::Backoff;
use crate::random;
use crate::state::{BackoffState, Failure};
use crate::store::lease::LeaseLost;

/// How a session's heartbeat fares.
#[derive(Default)]
pub(in crate::store) struct Pulse {
    state: BackoffState,
}

/// The leases to extend by one heartbeat.
pub(in crate::store) struct Beat {
    /// Each with its key and its token.
    leases: Vec<(LeaseId, Arc<str>, u64)>,
    began: Duration,
    /// Its number among the session's heartbeats, from 1 on.
    number: u64,
}

impl Beat {
    /// The key and the token of each lease.
    pub(in crate::store) fn leases(&self) -> Vec<(&str, u64)> {
        let leases = self.leases.iter();
        leases.map(|(_, key, token)| (&**key, *token)).collect()
    }
}

impl Session {
    /// The heartbeat to make now, if there is anything to extend. Lost leases are not extended.
    pub(in crate::store) fn beat(&self) -> Option<Beat> {
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
    pub(in crate::store) fn told<T>(&self, beat: &Beat, n: usize, answer: Result<T, LeaseLost>) {
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
                    // Of two heartbeats that overlap, the later may be answered first.
                    good.deadline = good.deadline.max(deadline);
                    if matches!(good.ending, Ending::Within(beats) if beats < beat.number) {
                        good.ending = Ending::Not;
                    }
                }
                // A call that is ending the work is told by its own answer; a transaction has
                // itself ended the work.
                (Some(good), Err(LeaseLost::Ended | LeaseLost::Taken { .. }))
                    if good.ending != Ending::Not => {}
                (Some(_), Err(lost)) => ledger.lose(*lease, &lost),
            }
        });
    }

    /// How long to wait before the next heartbeat, given whether the last went well.
    ///
    /// A third of the time to live if it did, so that two may be lost. After an error much less;
    /// and never past the moment at which a lease runs out, so that its work is told at once.
    pub(in crate::store) fn pause(&self, pulse: &mut Pulse, well: bool) -> Duration {
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
    pub(in crate::store) fn left(&self) -> Duration {
        self.look(|ledger, now| {
            ledger
                .first_deadline()
                .map_or(self.0.time_to_live, |deadline| deadline.saturating_sub(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pulse, Session};
    use crate::clock::ManualClock;
    use crate::store::options::Options;

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
