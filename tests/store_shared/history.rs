//! What several processes did to one key, and whether it can all have happened in some order.
//!
//! The model is its own: failures, a token, and what each operation must then have answered.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// One call of a store, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Counted a failure: the streak is this long now.
    Failed(u32),
    /// Ended a streak of this length; 0 if there was none.
    Succeeded(u32),
    /// Took the key, under this token, with the streak this long.
    Started(u64, u32),
    /// Was refused, because somebody has the key.
    Held,
    /// Was refused, because the key waits.
    Waits,
    /// Ended the work under this token, and a streak of this length.
    Finished(u64, u32),
    /// Ended the work under this token as a failure: the streak is this long now.
    WorkFailed(u64, u32),
    /// Gave up the work under this token.
    Cancelled(u64),
}

/// A call, and between which instants it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) from: u128,
    pub(crate) to: u128,
    pub(crate) call: Call,
}

/// What is kept of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) failures: u32,
    pub(crate) lease: Option<u64>,
    last_token: u64,
}

impl Key {
    /// What the call leaves, if it can have been made now with that answer.
    fn after(self, call: Call) -> Option<Key> {
        let Key {
            failures,
            lease,
            last_token,
        } = self;
        let kept = |possible: bool, failures, lease| {
            possible.then_some(Key {
                failures,
                lease,
                last_token,
            })
        };
        match call {
            Call::Failed(now) => kept(now == failures + 1, now, lease),
            Call::Succeeded(was) => kept(was == failures, 0, lease),
            Call::Started(token, was) => {
                let possible = lease.is_none() && was == failures && token > last_token;
                possible.then_some(Key {
                    failures,
                    lease: Some(token),
                    last_token: token,
                })
            }
            Call::Held => kept(lease.is_some(), failures, lease),
            Call::Waits => kept(lease.is_none() && failures > 0, failures, lease),
            Call::Finished(token, was) => kept(lease == Some(token) && was == failures, 0, None),
            Call::WorkFailed(token, now) => {
                kept(lease == Some(token) && now == failures + 1, now, None)
            }
            Call::Cancelled(token) => kept(lease == Some(token), failures, None),
        }
    }
}

/// Finds an order of the calls that their instants and their answers allow, and returns what they
/// leave; or says how far it came.
pub(crate) fn linearize(mut made: Vec<Made>) -> Result<Key, String> {
    made.sort_by_key(|made| made.from);
    let mut seen = HashSet::new();
    // Each entry: the first call not yet made, the calls after it that are, and what they all left.
    let mut open = vec![(0, Vec::<usize>::new(), Key::default())];
    let mut farthest = 0;
    while let Some((first, beyond, key)) = open.pop() {
        if first == made.len() {
            return Ok(key);
        }
        if !seen.insert((first, beyond.clone(), key)) {
            continue;
        }
        farthest = farthest.max(first);
        let left = (first..made.len()).filter(|n| !beyond.contains(n));
        // A call must not come after another that began only once it had ended.
        let mut deadline = u128::MAX;
        let mut next = vec![];
        for n in left {
            if made[n].from > deadline {
                break;
            }
            deadline = deadline.min(made[n].to);
            next.push(n);
        }
        // The call that ended first most likely came first: pushed last, so taken up first.
        next.sort_by_key(|&n| std::cmp::Reverse(made[n].to));
        for n in next {
            if let Some(key) = key.after(made[n].call) {
                let mut beyond = beyond.clone();
                beyond.push(n);
                beyond.sort_unstable();
                let mut first = first;
                while beyond.first() == Some(&first) {
                    beyond.remove(0);
                    first += 1;
                }
                open.push((first, beyond, key));
            }
        }
    }
    let from = farthest.saturating_sub(3);
    let to = made.len().min(farthest + 8);
    Err(format!("no order explains these: {:#?}", &made[from..to]))
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Failed(now) => write!(f, "failed 0 {now}"),
            Call::Succeeded(was) => write!(f, "succeeded 0 {was}"),
            Call::Started(token, was) => write!(f, "started {token} {was}"),
            Call::Held => write!(f, "held 0 0"),
            Call::Waits => write!(f, "waits 0 0"),
            Call::Finished(token, was) => write!(f, "finished {token} {was}"),
            Call::WorkFailed(token, now) => write!(f, "work-failed {token} {now}"),
            Call::Cancelled(token) => write!(f, "cancelled {token} 0"),
        }
    }
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Call, String> {
        let parts: Vec<_> = text.split(' ').collect();
        let [name, token, count] = parts[..] else {
            return Err(text.to_owned());
        };
        let token = token.parse().map_err(|_| text.to_owned())?;
        let count = count.parse().map_err(|_| text.to_owned())?;
        Ok(match name {
            "failed" => Call::Failed(count),
            "succeeded" => Call::Succeeded(count),
            "started" => Call::Started(token, count),
            "held" => Call::Held,
            "waits" => Call::Waits,
            "finished" => Call::Finished(token, count),
            "work-failed" => Call::WorkFailed(token, count),
            "cancelled" => Call::Cancelled(token),
            _ => return Err(text.to_owned()),
        })
    }
}

#[test]
fn impossible_histories_are_found() {
    let made = |calls: &[(u128, u128, Call)]| {
        let made = calls
            .iter()
            .map(|&(from, to, call)| Made { from, to, call });
        linearize(made.collect()).map(|key| key.failures)
    };
    // Overlapping, so in either order.
    assert_eq!(
        made(&[(0, 9, Call::Failed(2)), (1, 8, Call::Failed(1))]),
        Ok(2)
    );
    // One after the other, in the wrong order.
    made(&[(0, 1, Call::Failed(2)), (2, 3, Call::Failed(1))]).unwrap_err();
    // A failure got lost.
    made(&[(0, 9, Call::Failed(1)), (1, 8, Call::Failed(1))]).unwrap_err();
    // Two leases at once.
    made(&[(0, 1, Call::Started(1, 0)), (2, 3, Call::Started(2, 0))]).unwrap_err();
    // A token that shrank.
    let shrank = [
        (0, 1, Call::Started(2, 0)),
        (2, 3, Call::Cancelled(2)),
        (4, 5, Call::Started(1, 0)),
    ];
    made(&shrank).unwrap_err();
}
