//! A scheduler on a real database, in a time that passes when nothing else happens, and
//! destinations that fail as they are told to.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::clock::Clock;
use relent::{Backoff, BackoffState, Jitter};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::recoverer::outbox::{Numbered, Standing};
use crate::recoverer::{Error, News, Scheduler, World};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(2), Duration::from_secs(512)).jitter(Jitter::Equal);

pub(crate) const EXACT: Backoff = POLICY.jitter(Jitter::None);

/// Tokio's time, as a time of day too.
#[derive(Clone, Copy)]
pub(crate) struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + 20_000 * 24 * 3600 * SECOND + self.0.elapsed()
    }
}

pub(crate) type Act = Box<dyn FnOnce() + Send>;

/// Destinations that can be told to fail, and what happened to them.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Mutex<Seen>>, Virtual);

#[derive(Default)]
pub(crate) struct Seen {
    /// Nothing arrives.
    pub(crate) dead: BTreeSet<String>,
    /// All arrives, and no answer.
    pub(crate) mute: BTreeSet<String>,
    pub(crate) latency: Duration,
    /// When each transaction was sent, and to whom.
    pub(crate) attempts: Vec<(Duration, String, i64)>,
    /// All that arrived, as it arrived.
    pub(crate) arrived: BTreeMap<String, Vec<Numbered>>,
    /// Of all destinations.
    pub(crate) news: Vec<String>,
    sending: BTreeSet<String>,
    /// What to do at the next news that begins with this, before anything else can happen.
    pub(crate) upon: Option<(&'static str, Act)>,
}

impl Peers {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// The waits between one attempt at a destination and the next.
    pub(crate) fn waits(&self, of: &str) -> Vec<Duration> {
        let seen = self.seen();
        let times = seen.attempts.iter().filter(|(_, to, _)| to == of);
        let times: Vec<_> = times.map(|(at, ..)| *at).collect();
        times
            .windows(2)
            .map(|two| two[1].saturating_sub(two[0]))
            .collect()
    }

    /// The events that a destination got, each transaction once.
    pub(crate) fn events(&self, of: &str) -> Vec<String> {
        let mut last = 0;
        let mut events = Vec::new();
        for numbered in self.seen().arrived.get(of).into_iter().flatten() {
            assert!(
                [last, last + 1].contains(&numbered.id),
                "in order, none left out"
            );
            if numbered.id > last {
                events.extend(numbered.events.iter().cloned());
            }
            last = numbered.id;
        }
        events
    }
}

impl World for Peers {
    async fn send(&self, to: &str, events: &Numbered) -> Result<(), Error> {
        let latency = {
            let mut seen = self.seen();
            seen.attempts.push((self.1.now(), to.to_owned(), events.id));
            assert!(seen.sending.insert(to.to_owned()), "one at a time");
            seen.latency
        };
        let guard = Sending(self, to);
        sleep(latency).await;
        drop(guard);
        let mut seen = self.seen();
        if seen.dead.contains(to) {
            return Err("dead".into());
        }
        seen.arrived
            .entry(to.to_owned())
            .or_default()
            .push(events.clone());
        if seen.mute.contains(to) {
            return Err("mute".into());
        }
        Ok(())
    }

    fn hear(&self, of: &str, news: News) {
        let mut seen = self.seen();
        let arrived = seen.arrived.get(of).map_or(0, Vec::len);
        seen.news.push(match news {
            News::Failed(error, delay) => format!("{error}, again in {delay:?}"),
            News::Up => format!("up after {arrived}"),
            News::Stuck(error, delay) => format!("stuck, {error}, again in {delay:?}"),
        });
        let last = seen.news.last().cloned().unwrap_or_default();
        let upon = seen.upon.take_if(|(news, _)| last.starts_with(*news));
        drop(seen);
        if let Some((_, act)) = upon {
            act();
        }
    }
}

/// Ends also if the sending is cancelled.
struct Sending<'a>(&'a Peers, &'a str);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.seen().sending.remove(self.1);
    }
}

pub(crate) struct Rig {
    folder: TempDir,
    pub(crate) clock: Virtual,
    pub(crate) peers: Peers,
    batch: u32,
    pub(crate) backoff: Backoff,
    names: Vec<&'static str>,
    scheduler: Option<Arc<Scheduler<Peers, Virtual>>>,
    sending: JoinSet<Result<Infallible, Error>>,
}

impl Rig {
    pub(crate) fn new(names: &[&'static str], backoff: Backoff, batch: u32) -> Rig {
        let clock = Virtual(Instant::now());
        let peers = Peers(Arc::default(), clock);
        peers.seen().latency = SECOND / 1000;
        let mut rig = Rig {
            // On a disk in memory, if there is one: what a real disk does, the tests of the store
            // show.
            folder: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            clock,
            peers,
            batch,
            backoff,
            names: names.to_vec(),
            scheduler: None,
            sending: JoinSet::new(),
        };
        rig.restart();
        rig
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("queue.db")
    }

    /// Stops whatever is going on where it is, and opens the database again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let (path, peers) = (self.path(), self.peers.clone());
        let scheduler = Scheduler::open(
            &path,
            peers,
            &self.names,
            self.batch,
            self.backoff,
            self.clock,
        );
        let scheduler = scheduler.unwrap();
        self.sending = scheduler.start();
        self.scheduler = Some(scheduler);
    }

    pub(crate) fn stop(&mut self) {
        self.scheduler = None;
        self.sending = JoinSet::new();
    }

    pub(crate) fn scheduler(&self) -> &Arc<Scheduler<Peers, Virtual>> {
        self.scheduler.as_ref().unwrap()
    }

    pub(crate) fn submit(&self, to: &str, events: impl IntoIterator<Item = usize>) {
        let events: Vec<_> = events.into_iter().map(|event| event.to_string()).collect();
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        self.scheduler().submit(to, &events).unwrap();
    }

    pub(crate) fn status(&self, name: &str) -> (Standing, BackoffState) {
        self.scheduler().status(name).unwrap()
    }

    /// Whether a destination has got everything.
    pub(crate) fn is_up(&self, name: &str) -> bool {
        let done = Standing {
            is_up: true,
            waiting: 0,
        };
        self.status(name) == (done, BackoffState::default())
    }

    pub(crate) fn kill(&self, name: &str) {
        self.peers.seen().dead.insert(name.to_owned());
    }

    pub(crate) fn revive(&self, name: &str) {
        self.peers.seen().dead.remove(name);
    }

    /// Waits until a destination has got everything.
    pub(crate) async fn up(&self, name: &str) {
        let up = async {
            while !self.is_up(name) {
                sleep(SECOND / 10).await;
            }
        };
        timeout(3600 * SECOND, up).await.expect("up within an hour");
    }

    #[track_caller]
    pub(crate) fn got(&self, name: &str, events: usize) {
        let expected: Vec<_> = (0..events).map(|event| event.to_string()).collect();
        assert_eq!(self.peers.events(name), expected);
    }
}
