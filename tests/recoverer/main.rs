//! The recoverer's scheduler, on a real database, in a time that passes when nothing else happens.

#[path = "../../examples/recoverer/scheduler.rs"]
mod scheduler;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::clock::Clock;
use relent::{Backoff, BackoffState, Jitter};
use scheduler::{Error, News, Numbered, Scheduler, Status, World};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(2), Duration::from_secs(512)).jitter(Jitter::Equal);

const EXACT: Backoff = POLICY.jitter(Jitter::None);

/// Tokio's time, as a time of day too.
#[derive(Clone, Copy)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + 20_000 * 24 * 3600 * SECOND + self.0.elapsed()
    }
}

/// Destinations that can be told to fail, and what happened to them.
#[derive(Clone)]
struct Peers(Arc<Mutex<Seen>>, Virtual);

#[derive(Default)]
struct Seen {
    /// Nothing arrives.
    dead: BTreeSet<String>,
    /// All arrives, and no answer.
    mute: BTreeSet<String>,
    latency: Duration,
    /// When whom was sent what.
    attempts: Vec<(Duration, String, i64)>,
    /// All that arrived, as it arrived.
    arrived: BTreeMap<String, Vec<Numbered>>,
    /// Of all destinations.
    news: Vec<String>,
    sending: BTreeSet<String>,
    /// What to do the next time that one is up, before it can do anything else.
    when_up: Option<Box<dyn FnOnce() + Send>>,
}

impl Peers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// The waits between one attempt at a destination and the next.
    fn waits(&self, of: &str) -> Vec<Duration> {
        let seen = self.seen();
        let times = seen.attempts.iter().filter(|(_, to, _)| to == of);
        let times: Vec<_> = times.map(|(at, ..)| *at).collect();
        times
            .windows(2)
            .map(|two| two[1].saturating_sub(two[0]))
            .collect()
    }

    /// The events that a destination got, each transaction once.
    fn events(&self, of: &str) -> Vec<String> {
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
        let is_up = seen.news.last().is_some_and(|news| news.starts_with("up"));
        let when_up = seen.when_up.take_if(|_| is_up);
        drop(seen);
        if let Some(when_up) = when_up {
            when_up();
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

struct Rig {
    folder: TempDir,
    clock: Virtual,
    peers: Peers,
    batch: u32,
    backoff: Backoff,
    names: Vec<&'static str>,
    scheduler: Option<Arc<Scheduler<Peers, Virtual>>>,
}

impl Rig {
    fn new(names: &[&'static str], backoff: Backoff, batch: u32) -> Rig {
        let clock = Virtual(Instant::now());
        let peers = Peers(Arc::default(), clock);
        peers.seen().latency = SECOND / 1000;
        let mut rig = Rig {
            // In memory, where there is such a thing: what a disk does is the store's own test.
            folder: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            clock,
            peers,
            batch,
            backoff,
            names: names.to_vec(),
            scheduler: None,
        };
        rig.restart();
        rig
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue.db")
    }

    /// Stops whatever is going on where it is, and opens the database again.
    fn restart(&mut self) {
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
        self.scheduler = Some(Arc::new(scheduler.unwrap()));
    }

    fn stop(&mut self) {
        self.scheduler = None;
    }

    fn scheduler(&self) -> &Scheduler<Peers, Virtual> {
        self.scheduler.as_ref().unwrap()
    }

    fn submit(&self, to: &str, events: impl IntoIterator<Item = usize>) {
        let events: Vec<_> = events.into_iter().map(|event| event.to_string()).collect();
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        self.scheduler().submit(to, &events).unwrap();
    }

    fn status(&self, name: &str) -> Status {
        self.scheduler().status(name).unwrap()
    }

    /// Whether a destination has got everything.
    fn is_up(&self, name: &str) -> bool {
        let healthy = Status {
            is_up: true,
            waiting: 0,
            streak: BackoffState::default(),
        };
        self.status(name) == healthy
    }

    fn kill(&self, name: &str) {
        self.peers.seen().dead.insert(name.to_owned());
    }

    fn revive(&self, name: &str) {
        self.peers.seen().dead.remove(name);
    }

    /// Waits until a destination has got everything.
    async fn up(&self, name: &str) {
        let up = async {
            while !self.is_up(name) {
                sleep(SECOND / 10).await;
            }
        };
        timeout(3600 * SECOND, up).await.expect("up within an hour");
    }

    #[track_caller]
    fn got(&self, name: &str, events: usize) {
        let expected: Vec<_> = (0..events).map(|event| event.to_string()).collect();
        assert_eq!(self.peers.events(name), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn all_is_delivered_at_once_in_order_and_numbered_by_destination() {
    let rig = Rig::new(&["a", "b"], POLICY, 100);
    for event in 0..50 {
        rig.submit("a", [event]);
        rig.submit("b", [event]);
        sleep(SECOND / 100).await;
    }
    rig.up("a").await;
    rig.up("b").await;
    rig.got("a", 50);
    rig.got("b", 50);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_another_is_sent_is_sent_together() {
    let rig = Rig::new(&["a"], POLICY, 100);
    rig.peers.seen().latency = SECOND;
    rig.submit("a", [0]);
    sleep(SECOND / 2).await;
    for event in 1..251 {
        rig.submit("a", [event]);
    }
    rig.up("a").await;
    rig.got("a", 251);
    let sizes: Vec<_> = rig.peers.seen().arrived["a"]
        .iter()
        .map(|numbered| numbered.events.len())
        .collect();
    assert_eq!(sizes, [1, 100, 100, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_after_2_4_8_up_to_512_seconds() {
    let rig = Rig::new(&["a"], EXACT, 100);
    rig.peers.seen().latency = Duration::ZERO;
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(3000 * SECOND).await;
    let waits: Vec<_> = rig.peers.waits("a").iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512]);
    let status = rig.status("a");
    assert_eq!((status.is_up, status.waiting), (false, 1));
    assert_eq!(status.streak.failures, 13);
}

#[tokio::test(start_paused = true)]
async fn traffic_that_comes_while_down_waits_in_its_place() {
    let rig = Rig::new(&["a", "b"], EXACT, 10);
    rig.kill("a");
    for event in 0..40 {
        rig.submit("a", [event]);
        rig.submit("b", [event]);
        sleep(SECOND).await;
    }
    rig.got("b", 40);
    rig.up("b").await;
    // Twice, and ever less: new events do not have it tried.
    assert_eq!(rig.peers.waits("a").len(), 5 - 1);
    rig.revive("a");
    rig.up("a").await;
    rig.got("a", 40);
    // The first was numbered alone. Of those that had to wait, ten went at a time.
    let sizes: Vec<_> = rig.peers.seen().arrived["a"]
        .iter()
        .map(|numbered| numbered.events.len())
        .collect();
    assert_eq!(sizes[..4], [1, 10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn each_success_resets_the_backoff_and_goes_on_at_once() {
    let rig = Rig::new(&["a"], EXACT, 1);
    rig.peers.seen().latency = Duration::ZERO;
    rig.kill("a");
    rig.submit("a", 0..5);
    sleep(29 * SECOND).await;
    rig.revive("a");
    rig.peers.seen().latency = SECOND;
    // The fifth attempt is at 30 s. It and the next succeed, the third fails.
    sleep(3 * SECOND + SECOND / 2).await;
    assert_eq!(rig.peers.seen().arrived["a"].len(), 2);
    let status = rig.status("a");
    assert_eq!(status.waiting, 3);
    assert!(!status.is_up, "until all is delivered");
    assert!(status.streak.is_healthy());
    rig.kill("a");
    sleep(SECOND).await;
    let waits: Vec<_> = rig.peers.waits("a").iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [2, 4, 8, 16, 1, 1]);
    let streak = rig.status("a").streak;
    assert_eq!(streak.interval, 2 * SECOND);
    rig.revive("a");
    rig.up("a").await;
    rig.got("a", 5);
}

#[tokio::test(start_paused = true)]
async fn it_is_up_once_and_only_when_nothing_is_left() {
    let rig = Rig::new(&["a"], EXACT, 2);
    rig.kill("a");
    rig.submit("a", 0..7);
    sleep(SECOND).await;
    rig.revive("a");
    rig.up("a").await;
    rig.submit("a", [7]);
    rig.up("a").await;
    let news = rig.peers.seen().news.clone();
    assert_eq!(news, ["dead, again in 2s", "up after 4"]);
}

#[tokio::test(start_paused = true)]
async fn no_event_is_overlooked_that_comes_as_it_gets_up() {
    let rig = Rig::new(&["a"], EXACT, 10);
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(SECOND).await;
    rig.revive("a");
    let scheduler = Arc::clone(rig.scheduler.as_ref().unwrap());
    rig.peers.seen().when_up = Some(Box::new(move || scheduler.submit("a", &["1"]).unwrap()));
    rig.up("a").await;
    rig.got("a", 2);
    assert!(rig.peers.waits("a")[1] < SECOND, "it was sent at once");
}

/// What arrives between the last transaction's answer and "up" is neither forgotten nor early.
#[test]
fn no_event_is_overlooked_however_the_last_success_and_a_new_event_meet() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut rig = Rig::new(&["a"], POLICY, 3);
        rig.peers.seen().latency = Duration::ZERO;
        // Down, with a wait of an hour: so whatever is overlooked stays so.
        rig.backoff = Backoff::fixed(3600 * SECOND);
        rig.restart();
        rig.kill("a");
        rig.submit("a", [0]);
        while rig.peers.seen().news.is_empty() {
            tokio::task::yield_now().await;
        }
        rig.revive("a");
        rig.scheduler().force("a").unwrap();
        for event in 1..300 {
            rig.submit("a", [event]);
            for _ in 0..event % 7 {
                tokio::task::yield_now().await;
            }
        }
        let all = async {
            while !rig.is_up("a") {
                tokio::task::yield_now().await;
            }
        };
        timeout(20 * SECOND, all)
            .await
            .expect("nothing was overlooked");
        rig.got("a", 300);
    });
}

#[tokio::test(start_paused = true)]
async fn a_repetition_has_the_same_number_and_the_same_events() {
    let mut rig = Rig::new(&["a"], EXACT, 10);
    rig.peers.seen().mute.insert("a".to_owned());
    for event in 0..30 {
        rig.submit("a", [event]);
        sleep(SECOND / 4).await;
    }
    rig.restart();
    rig.peers.seen().mute.clear();
    rig.up("a").await;
    rig.got("a", 30);
    let arrived = rig.peers.seen().arrived["a"].clone();
    let first: Vec<_> = arrived.iter().filter(|numbered| numbered.id == 1).collect();
    assert!(first.len() > 2, "it was repeated");
    assert!(first.iter().all(|numbered| *numbered == first[0]));
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_have_it_tried_now_which_is_no_reset() {
    let rig = Rig::new(&["a"], EXACT, 10);
    rig.peers.seen().latency = SECOND / 10;
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(31 * SECOND).await;
    // Four failures: the next attempt is 32 s after the fifth. A button is pressed a lot.
    let before = rig.peers.seen().attempts.len();
    for _ in 0..5 {
        rig.scheduler().force("a").unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(rig.peers.seen().attempts.len(), before + 1);
    let streak = rig.status("a").streak;
    assert_eq!((streak.failures, streak.interval), (6, 64 * SECOND));
    // Nor does it do anything while an attempt is under way, or while all is well.
    rig.revive("a");
    rig.scheduler().force("a").unwrap();
    sleep(SECOND / 20).await;
    rig.scheduler().force("a").unwrap();
    rig.up("a").await;
    rig.scheduler().force("a").unwrap();
    rig.submit("a", [1]);
    rig.up("a").await;
    rig.got("a", 2);
    assert_eq!(rig.peers.seen().attempts.len(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_the_wait_where_it_was() {
    let mut rig = Rig::new(&["a"], EXACT, 10);
    rig.peers.seen().latency = Duration::ZERO;
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(31 * SECOND).await;
    for _ in 0..10 {
        rig.restart();
        sleep(SECOND).await;
    }
    assert_eq!(
        rig.peers.waits("a").len(),
        4,
        "none of the restarts had it tried"
    );
    sleep(25 * SECOND).await;
    let waits: Vec<_> = rig.peers.waits("a").iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_they_do_not_come_in_step() {
    const NAMES: [&str; 20] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r",
        "s", "t",
    ];
    for away in [Duration::ZERO, 3600 * SECOND] {
        // Without jitter they failed in step.
        let backoff = if away.is_zero() { POLICY } else { EXACT };
        let mut rig = Rig::new(&NAMES, backoff, 10);
        for name in NAMES {
            rig.kill(name);
            rig.submit(name, [0]);
        }
        sleep(SECOND / 1000 * 2).await;
        rig.stop();
        sleep(away).await;
        let back = rig.clock.now();
        rig.peers.seen().attempts.clear();
        rig.restart();
        sleep(SECOND * 21 / 10).await;
        let seen = rig.peers.seen();
        let times: BTreeSet<_> = seen
            .attempts
            .iter()
            .map(|(at, ..)| at.as_millis() / 10)
            .collect();
        assert!(times.len() > 12, "{times:?}");
        let names: BTreeSet<_> = seen
            .attempts
            .iter()
            .map(|(_, name, _)| name.as_str())
            .collect();
        assert_eq!(names.len(), 20, "all of them within the first interval");
        assert!(seen.attempts.iter().all(|(at, ..)| *at >= back));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_while_up_is_sent_after_a_crash_too() {
    let mut rig = Rig::new(&["a"], POLICY, 10);
    rig.submit("a", [0]);
    rig.restart();
    rig.submit("a", [1]);
    sleep(SECOND / 2000).await;
    rig.restart(); // while it was being sent
    rig.up("a").await;
    rig.got("a", 2);
}

#[tokio::test(start_paused = true)]
async fn crashes_at_any_moment_lose_nothing_and_change_no_order() {
    let mut rig = Rig::new(&["a", "b"], POLICY, 3);
    rig.peers.seen().latency = SECOND / 10;
    for event in 0..200 {
        rig.submit("a", [event]);
        rig.submit("b", [event]);
        match event % 20 {
            5 => rig.kill("a"),
            9 => drop(rig.peers.seen().mute.insert("b".to_owned())),
            15 => rig.revive("a"),
            18 => rig.peers.seen().mute.clear(),
            _ => {}
        }
        sleep(SECOND * (event % 13) as u32 / 30).await;
        if event % 3 == 0 {
            rig.restart();
        }
    }
    rig.revive("a");
    rig.peers.seen().mute.clear();
    rig.up("a").await;
    rig.up("b").await;
    rig.got("a", 200);
    rig.got("b", 200);
}

#[test]
fn ten_thousand_transactions_drain_on_a_small_stack() {
    let drain = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let rig = Rig::new(&["a"], POLICY, 1);
            rig.kill("a");
            rig.submit("a", 0..10_000);
            sleep(SECOND).await;
            rig.revive("a");
            rig.peers.seen().latency = Duration::ZERO;
            rig.up("a").await;
            rig.got("a", 10_000);
        });
    };
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(drain).unwrap().join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_tried_again() {
    let rig = Rig::new(&["a"], POLICY, 10);
    rig.kill("a");
    rig.submit("a", [0]);
    let database = rusqlite::Connection::open(rig.path()).unwrap();
    database
        .execute_batch("ALTER TABLE destination RENAME TO gone")
        .unwrap();
    sleep(SECOND).await;
    rig.revive("a");
    sleep(60 * SECOND).await;
    let news = rig.peers.seen().news.clone();
    assert!(news.len() > 5);
    assert!(
        news.iter()
            .all(|news| news.starts_with("stuck, no such table"))
    );
    database
        .execute_batch("ALTER TABLE gone RENAME TO destination")
        .unwrap();
    rig.up("a").await;
    rig.got("a", 1);
}
