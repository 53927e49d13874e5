//! Many clients that write one row by optimistic concurrency.

use super::dice::Dice;
use super::policy::{Policy, Streak};
use super::queue::{Nanos, Queue};

/// `clients` read the version of one row, then write it on condition that the version is still the
/// same; a client that fails backs off and reads again. Each message takes |N(10, 2)| ms; the
/// server takes no time.
///
/// After M. Brooker, "Exponential Backoff And Jitter" (2015). No quality score by itself: this
/// server is never overloaded, so no backoff at all is fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contention {
    pub(crate) clients: u32,
    pub(crate) seed: u64,
}

/// What it took until every client had written once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effort {
    /// When the last client learned that it succeeded, in milliseconds.
    pub(crate) millis: f64,
    /// All writes that reached the server.
    pub(crate) writes: f64,
}

/// A message reaches the server.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Read { client: u32 },
    Write { client: u32, version: u32 },
}

impl Contention {
    pub(crate) fn run(&self, policy: &Policy) -> Effort {
        let mut dice = Dice::new(self.seed);
        let mut streaks = vec![Streak::default(); self.clients as usize];
        let mut queue: Queue<Message> = (0..self.clients)
            .map(|client| (leg(&mut dice), Message::Read { client }))
            .collect();
        let (mut current, mut writes, mut settled) = (0, 0, 0);
        while let Some((now, message)) = queue.pop() {
            let reply = now + leg(&mut dice);
            match message {
                Message::Read { client } => {
                    let write = Message::Write {
                        client,
                        version: current,
                    };
                    queue.push(reply + leg(&mut dice), write);
                }
                Message::Write { client, version } => {
                    writes += 1;
                    if version == current {
                        current += 1;
                        settled = settled.max(reply);
                    } else if let Some(due) =
                        streaks[client as usize].fail(policy, reply, dice.bits())
                    {
                        queue.push(due + leg(&mut dice), Message::Read { client });
                    }
                }
            }
        }
        Effort {
            millis: settled as f64 / 1e6,
            writes: f64::from(writes),
        }
    }

    /// The mean over `runs` runs, each with the next seed.
    pub(crate) fn mean(&self, policy: &Policy, runs: u32) -> Effort {
        let mut mean = Effort::default();
        for run in 0..runs {
            let seed = self.seed + u64::from(run);
            let effort = Contention { seed, ..*self }.run(policy);
            mean.millis += effort.millis / f64::from(runs);
            mean.writes += effort.writes / f64::from(runs);
        }
        mean
    }
}

fn leg(dice: &mut Dice) -> Nanos {
    dice.leg(10.0, 2.0)
}
