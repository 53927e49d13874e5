//! The policies that are compared.

use std::time::Duration;

use relent::{Backoff, Jitter};

use super::policy::Policy;

/// What the clients of an outage start from: 1 s doubling to 60 s, full jitter.
pub(crate) const OUTAGE: Backoff =
    Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));

/// The crate's jitters before an outage.
pub(crate) const JITTERS: [Policy; 6] = [
    Policy::new("full", OUTAGE),
    Policy::new("equal", OUTAGE.jitter(Jitter::Equal)),
    Policy::new("proportional 0.5", OUTAGE.jitter(Jitter::Proportional(0.5))),
    Policy::new("proportional 0.2", OUTAGE.jitter(Jitter::Proportional(0.2))),
    DECORRELATED_BY_3,
    Policy::new("decorrelated, x2", OUTAGE.jitter(Jitter::Decorrelated)),
];

const DECORRELATED_BY_3: Policy = Policy::new(
    "decorrelated, x3",
    OUTAGE.jitter(Jitter::Decorrelated).exponent(3.0),
);

/// The crate's jitters in whole seconds.
pub(crate) const WHOLE_SECONDS: [Policy; 3] = [
    Policy::new("full, whole seconds", OUTAGE.whole_seconds()),
    Policy::new(
        "equal, whole seconds",
        OUTAGE.jitter(Jitter::Equal).whole_seconds(),
    ),
    Policy::dithers("full, due in whole s + dither", OUTAGE),
];

/// What not to do.
pub(crate) const MISTAKES: [Policy; 3] = [CLAMPED, DUE_IN_WHOLE_SECONDS, UNJITTERED];

pub(crate) const CLAMPED: Policy = Policy::clamps_its_draw("±20 %, then clamped", OUTAGE, 0.2);

pub(crate) const DUE_IN_WHOLE_SECONDS: Policy =
    Policy::due_in_whole_seconds("full, due in whole seconds", OUTAGE);

pub(crate) const UNJITTERED: Policy = Policy::new("none", OUTAGE.jitter(Jitter::None));

/// Full jitter with other limits.
pub(crate) const LIMITS: [Policy; 7] = [
    Policy::new("max 5 s", OUTAGE.max(Duration::from_secs(5))),
    Policy::new("max 15 s", OUTAGE.max(Duration::from_secs(15))),
    Policy::new("max 60 s", OUTAGE),
    Policy::new("max 300 s", OUTAGE.max(Duration::from_secs(300))),
    Policy::new(
        "gives up after 5 failures",
        OUTAGE.give_up_after_failures(5),
    ),
    Policy::new(
        "gives up after 10 failures",
        OUTAGE.give_up_after_failures(10),
    ),
    Policy::new(
        "gives up after 120 s",
        OUTAGE.give_up_after(Duration::from_secs(120)),
    ),
];

/// What contending clients start from: 10 ms doubling to 2 s, full jitter.
pub(crate) const CONTENTION: Backoff =
    Backoff::exponential(Duration::from_millis(10), Duration::from_secs(2));

/// The policies of contending clients.
pub(crate) const CONTENDING: [Policy; 9] = [
    Policy::new("no backoff", Backoff::fixed(Duration::ZERO)),
    Policy::new("none", CONTENTION.jitter(Jitter::None)),
    Policy::new("equal", CONTENTION.jitter(Jitter::Equal)),
    Policy::new("full", CONTENTION),
    Policy::new(
        "decorrelated, x3",
        CONTENTION.jitter(Jitter::Decorrelated).exponent(3.0),
    ),
    Policy::new("decorrelated, x2", CONTENTION.jitter(Jitter::Decorrelated)),
    Policy::new(
        "decorrelated, x3, from 5 ms",
        CONTENTION
            .initial(Duration::from_millis(5))
            .jitter(Jitter::Decorrelated)
            .exponent(3.0),
    ),
    Policy::published_decorrelated(
        "decorrelated, as published",
        Duration::from_millis(5),
        Duration::from_secs(2),
    ),
    Policy::cut_decorrelated(
        "as published, cut at max",
        Duration::from_millis(5),
        Duration::from_secs(2),
    ),
];

/// Up to `retries` retries, one as soon as the other has failed.
pub(crate) const fn at_once(retries: u32) -> Policy {
    let backoff = Backoff::fixed(Duration::ZERO);
    Policy::new("at once", backoff.give_up_after_failures(retries + 1))
}

/// Up to `retries` retries after 1 s, 2 s and so on, full jitter.
pub(crate) const fn backed_off(retries: u32) -> Policy {
    Policy::new("backoff", OUTAGE.give_up_after_failures(retries + 1))
}
