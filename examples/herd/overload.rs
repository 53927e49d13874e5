//! Open arrivals at a service that is nearly full, and stops for ten seconds.

use std::fmt;

use relent::RetryBudget;

use super::dice::Dice;
use super::policy::{Policy, Streak};
use super::queue::{Nanos, Queue, SECOND};

/// Requests arrive at `rate` a second, each on its own. One server answers them in their order,
/// 300 a second; it stops from 60 s to 70 s. A client gives an attempt up after a second, and
/// retries by its policy; the server, which cannot know, still does the work.
///
/// The model of a metastable failure: the cause is gone after ten seconds, and the load that the
/// retries add can keep the service down for ever. After M. Brooker, "Fixing retries with token
/// buckets and circuit breakers" (2022), and Huang et al., "Metastable Failures in the Wild"
/// (2022).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overload {
    /// New requests a second.
    pub(crate) rate: f64,
    pub(crate) allowance: Allowance,
    /// When the run ends.
    pub(crate) horizon: Nanos,
    pub(crate) seed: u64,
}

/// What limits the retries of all clients together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allowance {
    /// Nothing but the policy.
    Unlimited,
    /// A budget that each success feeds by this share of a retry.
    PerSuccess(f64),
    /// MISTAKE: a budget that each new request feeds by this share of a retry.
    PerRequest(f64),
}

/// How first tries fared.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// For each span of ten seconds, the share of first tries begun in it that succeeded.
    pub(crate) first_tries: Vec<f64>,
}

pub(crate) const CAPACITY: u32 = 300;
const PATIENCE: Nanos = SECOND;
const STOPS: Nanos = 60 * SECOND;
const RESUMES: Nanos = 70 * SECOND;
const SPAN: Nanos = 10 * SECOND;
/// Retries that a full budget holds.
const SAVINGS: u32 = 100;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request,
    Retry(u32),
    Success,
    Timeout(u32),
}

impl Overload {
    /// 280 requests a second for 2000 s, without a budget.
    pub(crate) const STANDARD: Overload = Overload {
        rate: 280.0,
        allowance: Allowance::Unlimited,
        horizon: 2000 * SECOND,
        seed: 1,
    };

    pub(crate) fn run(&self, policy: &Policy) -> Outcome {
        let mut dice = Dice::new(self.seed);
        let mut server = Server::default();
        let budget = self.allowance.budget();
        let mut requests: Vec<Streak> = Vec::new();
        let mut spans = vec![(0_u32, 0_u32); (self.horizon / SPAN) as usize];
        let mut queue = Queue::new();
        queue.push(dice.gap(self.rate), Event::Request);
        while let Some((now, event)) = queue.pop() {
            if now >= self.horizon {
                break;
            }
            let (request, first) = match event {
                Event::Success => {
                    if let Allowance::PerSuccess(_) = self.allowance {
                        budget.deposit();
                    }
                    continue;
                }
                Event::Timeout(request) => {
                    let retry = requests[request as usize].fail(policy, now, dice.bits());
                    if let Some(due) = retry {
                        let unlimited = matches!(self.allowance, Allowance::Unlimited);
                        if unlimited || budget.withdraw() {
                            queue.push(due, Event::Retry(request));
                        }
                    }
                    continue;
                }
                Event::Retry(request) => (request, false),
                Event::Request => {
                    if let Allowance::PerRequest(_) = self.allowance {
                        budget.deposit();
                    }
                    queue.push(now + dice.gap(self.rate), Event::Request);
                    requests.push(Streak::default());
                    (requests.len() as u32 - 1, true)
                }
            };
            let answer = server.answers(now);
            let in_time = answer - now <= PATIENCE;
            if in_time {
                queue.push(answer, Event::Success);
            } else {
                queue.push(now + PATIENCE, Event::Timeout(request));
            }
            if first {
                let span = &mut spans[(now / SPAN) as usize];
                span.0 += 1;
                span.1 += u32::from(in_time);
            }
        }
        Outcome {
            first_tries: spans
                .iter()
                .map(|&(tries, in_time)| f64::from(in_time) / f64::from(tries))
                .collect(),
        }
    }

    /// The highest rate, a multiple of 5 a second, at which the service recovers.
    pub(crate) fn highest_recovering(&self, policy: &Policy) -> u32 {
        const STEP: u32 = 5;
        let recovers = |step: u32| {
            let rate = f64::from(step * STEP);
            let overload = Overload { rate, ..*self };
            overload.run(policy).recovered()
        };
        // Bisection: recovers at `low`, not at `high`, where requests alone are too many.
        let (mut low, mut high) = (0, CAPACITY / STEP);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if recovers(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low * STEP
    }
}

impl Outcome {
    /// More than half of the first tries succeed in the last hundred seconds.
    pub(crate) fn recovered(&self) -> bool {
        let last = &self.first_tries[self.first_tries.len() - 10..];
        last.iter().sum::<f64>() > 0.5 * last.len() as f64
    }
}

impl Allowance {
    fn budget(self) -> RetryBudget {
        let deposit = match self {
            Allowance::Unlimited => 0.0,
            Allowance::PerSuccess(share) | Allowance::PerRequest(share) => share,
        };
        RetryBudget::new(SAVINGS, deposit)
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowance::Unlimited => f.write_str("none"),
            Allowance::PerSuccess(share) => write!(f, "{:.0} % per success", 100.0 * share),
            Allowance::PerRequest(share) => write!(f, "{:.0} % per request", 100.0 * share),
        }
    }
}

/// One queue, first come first served, whether anyone still waits for the answer or not.
#[derive(Default)]
struct Server {
    free: Nanos,
}

impl Server {
    /// When the request that arrives `now` is answered.
    fn answers(&mut self, now: Nanos) -> Nanos {
        const WORK: Nanos = SECOND / CAPACITY as Nanos;
        let mut begins = self.free.max(now);
        if (STOPS..RESUMES).contains(&begins) {
            begins = RESUMES;
        }
        let mut ends = begins + WORK;
        if begins < STOPS && ends > STOPS {
            ends += RESUMES - STOPS;
        }
        self.free = ends;
        ends
    }
}
