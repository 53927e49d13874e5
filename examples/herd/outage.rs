//! Many clients of one service that is down for a while and then serves what it can.

use std::ops::Range;

use super::arrivals::{Arrivals, Rhythm};
use super::dice::Dice;
use super::policy::{Policy, Streak};
use super::queue::{MILLISECOND, Nanos, Queue, SECOND};

/// `clients` make their first attempt at nearly the same time. Every attempt fails until the
/// service is back; from then on it serves `capacity` a second and rejects what is beyond. A
/// failure is seen |N(20, 3)| ms after the attempt, and each client retries until it is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) clients: u32,
    /// Requests a second that the service can serve once it is back.
    pub(crate) capacity: u32,
    /// How long the service is down.
    pub(crate) down: Nanos,
    /// The first attempts are spread evenly over this time.
    pub(crate) spread: Nanos,
    /// When the run ends, whoever is still waiting.
    pub(crate) horizon: Nanos,
    pub(crate) seed: u64,
}

/// What became of the clients of an [`Outage`].
#[derive(Clone, Debug)]
pub(crate) struct Aftermath {
    pub(crate) arrivals: Arrivals,
    pub(crate) attempts: u64,
    pub(crate) served: u32,
    pub(crate) gave_up: u32,
    /// When the last client was served, if any was and none is left waiting.
    pub(crate) drained: Option<Nanos>,
    /// All waits, and those no shorter than `max`.
    waits: u64,
    waits_at_max: u64,
}

/// How a herd drains.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    /// When the last client was served; `None` if none was, or some still wait at the horizon.
    pub(crate) seconds: Option<f64>,
    /// The same over the [ideal](Outage::ideal).
    pub(crate) ratio: Option<f64>,
    /// Attempts per client.
    pub(crate) attempts: f64,
    /// The share of clients that were served.
    pub(crate) served: f64,
    /// The share of clients that gave up.
    pub(crate) gave_up: f64,
}

/// The seconds in which a herd that never gets through is looked at: its intervals are at `max`.
const STEADY: Range<usize> = 180..600;

impl Outage {
    /// 100 000 clients that fail together; down for 30 s, then 1000 requests a second.
    pub(crate) const STANDARD: Outage = Outage {
        clients: 100_000,
        capacity: 1000,
        down: 30 * SECOND,
        spread: 0,
        horizon: 3000 * SECOND,
        seed: 1,
    };

    /// The same herd of another size, before a service of a capacity in proportion.
    pub(crate) fn of(self, clients: u32) -> Outage {
        let capacity = u64::from(self.capacity) * u64::from(clients) / u64::from(self.clients);
        Outage {
            clients,
            capacity: capacity as u32,
            ..self
        }
    }

    /// How long it takes to serve everyone if no moment of capacity is lost.
    pub(crate) fn ideal(&self) -> Nanos {
        self.down + u64::from(self.clients) * SECOND / u64::from(self.capacity)
    }

    /// How the herd drains, on average over `runs` runs, each with the next seed.
    pub(crate) fn drain(&self, policy: &Policy, runs: u32) -> Drain {
        let mut drain = Drain {
            seconds: Some(0.0),
            ..Drain::default()
        };
        for run in 0..runs {
            let seed = self.seed + u64::from(run);
            let aftermath = Outage { seed, ..*self }.run(policy);
            let mean = |total: f64| total / f64::from(runs);
            let seconds = aftermath.drained.map(|at| at as f64 / SECOND as f64);
            drain.seconds = drain.seconds.zip(seconds).map(|(sum, s)| sum + mean(s));
            let share = |count: f64| mean(count / f64::from(self.clients));
            drain.attempts += share(aftermath.attempts as f64);
            drain.served += share(f64::from(aftermath.served));
            drain.gave_up += share(f64::from(aftermath.gave_up));
        }
        drain.ratio = drain
            .seconds
            .map(|s| s * SECOND as f64 / self.ideal() as f64);
        drain
    }

    /// How evenly the attempts arrive once nothing grows any more, while the outage goes on.
    pub(crate) fn rhythm(&self, policy: &Policy) -> Rhythm {
        let endless = Outage {
            down: Nanos::MAX,
            horizon: STEADY.end as Nanos * SECOND,
            ..*self
        };
        let aftermath = endless.run(policy);
        Rhythm {
            at_max: aftermath.waits_at_max as f64 / aftermath.waits as f64,
            ..aftermath.arrivals.rhythm(STEADY)
        }
    }

    pub(crate) fn run(&self, policy: &Policy) -> Aftermath {
        let mut dice = Dice::new(self.seed);
        let mut service = Service::new(self);
        let mut streaks = vec![Streak::default(); self.clients as usize];
        let mut queue: Queue<u32> = (0..self.clients)
            .map(|client| (dice.within(self.spread), client))
            .collect();
        let mut aftermath = Aftermath::new();
        let mut last_served = 0;
        while let Some((now, client)) = queue.pop() {
            if now >= self.horizon {
                return aftermath;
            }
            aftermath.attempts += 1;
            aftermath.arrivals.record(now);
            if service.serves(now) {
                aftermath.served += 1;
                last_served = now;
                continue;
            }
            let seen = now + dice.leg(20.0, 3.0);
            match streaks[client as usize].fail(policy, seen, dice.bits()) {
                None => aftermath.gave_up += 1,
                Some(due) => {
                    aftermath.waits += 1;
                    aftermath.waits_at_max += u64::from(due - seen >= policy.max);
                    queue.push(due, client);
                }
            }
        }
        aftermath.drained = (aftermath.served > 0).then_some(last_served);
        aftermath
    }
}

impl Aftermath {
    fn new() -> Aftermath {
        Aftermath {
            arrivals: Arrivals::default(),
            attempts: 0,
            served: 0,
            gave_up: 0,
            drained: None,
            waits: 0,
            waits_at_max: 0,
        }
    }
}

/// Down, then serving a fixed number of requests in each tenth of a second.
struct Service {
    back: Nanos,
    share: u32,
    tenth: Nanos,
    served: u32,
}

impl Service {
    fn new(outage: &Outage) -> Service {
        Service {
            back: outage.down,
            share: outage.capacity / 10,
            tenth: 0,
            served: 0,
        }
    }

    fn serves(&mut self, now: Nanos) -> bool {
        if now < self.back {
            return false;
        }
        let tenth = now / (100 * MILLISECOND);
        if tenth != self.tenth {
            (self.tenth, self.served) = (tenth, 0);
        }
        let serves = self.served < self.share;
        self.served += u32::from(serves);
        serves
    }
}
