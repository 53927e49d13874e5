//! What a client obeys: a policy of the crate, or a classic mistake to compare it with.

use std::time::Duration;

use relent::{Backoff, BackoffState, Decision, Failure, Jitter};

use super::queue::{Nanos, SECOND};

/// How the clients of a run retry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    /// No wait should be longer.
    pub(crate) max: Nanos,
    backoff: Backoff,
    habit: Habit,
}

/// What a client makes of its policy.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// It obeys [`Backoff::next`], to the nanosecond.
    Obedient,
    /// It lets the interval grow for ever, spreads it by this share either way and only then clamps
    /// it to `max`.
    ClampsItsDraw(f64),
    /// It rounds the time when the next attempt is due up to a whole second.
    DueInWholeSeconds,
    /// The same, and then waits for a random part of a second more.
    Dithers,
    /// Decorrelated jitter as first published, `min(max, U(base, 3 × previous))`, except that the
    /// range may be cut at `ceiling`.
    PublishedDecorrelated { base: Nanos, ceiling: Nanos },
}

impl Policy {
    /// Clients that obey `backoff`.
    pub(crate) const fn new(name: &'static str, backoff: Backoff) -> Policy {
        Policy {
            name,
            max: backoff.max.as_nanos() as Nanos,
            backoff,
            habit: Habit::Obedient,
        }
    }

    /// MISTAKE: `min(max, initial × 2ⁿ × (1 ± share))`. Once the power is well above `max` that is
    /// `max` for everyone.
    pub(crate) const fn clamps_its_draw(
        name: &'static str,
        backoff: Backoff,
        share: f64,
    ) -> Policy {
        let mut policy = Policy::new(name, backoff).with(Habit::ClampsItsDraw(share));
        policy.backoff = backoff.jitter(Jitter::None).max(Duration::MAX);
        policy
    }

    /// MISTAKE: an integer epoch column, or a poller that wakes once a second.
    pub(crate) const fn due_in_whole_seconds(name: &'static str, backoff: Backoff) -> Policy {
        Policy::new(name, backoff).with(Habit::DueInWholeSeconds)
    }

    /// The cure of [`due_in_whole_seconds`](Self::due_in_whole_seconds).
    pub(crate) const fn dithers(name: &'static str, backoff: Backoff) -> Policy {
        Policy::new(name, backoff).with(Habit::Dithers)
    }

    /// The published form of decorrelated jitter, whose draws pile up at `max`.
    pub(crate) const fn published_decorrelated(
        name: &'static str,
        base: Duration,
        max: Duration,
    ) -> Policy {
        Policy::new(name, Backoff::exponential(base, max)).with(Habit::PublishedDecorrelated {
            base: base.as_nanos() as Nanos,
            ceiling: Nanos::MAX,
        })
    }

    /// The same, but with its range cut at `max`.
    pub(crate) const fn cut_decorrelated(
        name: &'static str,
        base: Duration,
        max: Duration,
    ) -> Policy {
        Policy::new(name, Backoff::exponential(base, max)).with(Habit::PublishedDecorrelated {
            base: base.as_nanos() as Nanos,
            ceiling: max.as_nanos() as Nanos,
        })
    }

    const fn with(mut self, habit: Habit) -> Policy {
        self.habit = habit;
        self
    }
}

/// What one client remembers between attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streak {
    state: BackoffState,
    first_failure: Nanos,
}

impl Streak {
    /// The failure seen at `now` counts; when to try again, unless never.
    pub(crate) fn fail(&mut self, policy: &Policy, now: Nanos, entropy: u64) -> Option<Nanos> {
        if self.state.is_healthy() {
            self.first_failure = now;
        }
        let failure = Failure {
            elapsed: Duration::from_nanos(now - self.first_failure),
            retry_after: None,
            entropy,
        };
        let previous = self.state.interval;
        let after = match policy.backoff.next(&mut self.state, failure) {
            Decision::Retry { after } => nanos(after),
            Decision::GiveUp(_) => return None,
        };
        Some(match policy.habit {
            Habit::Obedient => now + after,
            Habit::ClampsItsDraw(share) => {
                let factor = 1.0 - share + 2.0 * share * fraction(entropy);
                now + ((after as f64 * factor) as Nanos).min(policy.max)
            }
            Habit::DueInWholeSeconds => (now + after).next_multiple_of(SECOND),
            Habit::Dithers => {
                // Bits that the delay did not depend on.
                let part = fraction(entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (now + after).next_multiple_of(SECOND) + (part * SECOND as f64) as Nanos
            }
            Habit::PublishedDecorrelated { base, ceiling } => {
                let above = (3 * nanos(previous).max(base)).min(ceiling) - base;
                let drawn = (base + (above as f64 * fraction(entropy)) as Nanos).min(policy.max);
                self.state.interval = Duration::from_nanos(drawn);
                now + drawn
            }
        })
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `entropy` as a fraction in [0, 1).
fn fraction(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / 2f64.powi(53)
}
