//! A file, and a value in Redis, of any bytes: refused and left as they are, or gone on from.

#![no_main]

#[path = "../../servers/between.rs"]
mod between;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use between::{Answers, Between, words};
use libfuzzer_sys::fuzz_target;
use redis::{Cmd, RedisResult, Value};
use relent::Backoff;
use relent::clock::ManualClock;
use relent::store::{DurableTracker, FileStore, Record, RedisStore, blocking};

const POLICY: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(600));

/// 2027.
const NOW: Duration = Duration::from_micros(1_800_000_000_123_456);

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    if which % 2 == 0 {
        file(bytes);
    } else {
        in_redis(bytes);
    }
});

fn sane(record: &Record) {
    let end = UNIX_EPOCH + Duration::from_nanos(i64::MAX as u64);
    let times = [record.first_failure, record.since, record.until];
    assert!(times.iter().all(|time| (UNIX_EPOCH..=end).contains(time)));
}

fn file(bytes: &[u8]) {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").expect("memory");
    }
    let path: PathBuf = DIRECTORY.with(|directory| directory.path().join("stored.json"));
    fs::write(&path, bytes).expect("written");
    let clock = ManualClock::new();
    clock.set_wall(UNIX_EPOCH + NOW);
    let Ok(store) = FileStore::with_clock(&path, clock.clone()) else {
        assert_eq!(fs::read(&path).expect("there"), bytes);
        return;
    };
    let tracker = blocking::DurableTracker::new(store, POLICY);
    let before = tracker.get("").expect("read");
    before.iter().for_each(sane);
    tracker.record_failure("", "broken").expect("recorded");
    let after = tracker.get("").expect("read").expect("recorded");
    drop(tracker);
    let store = FileStore::with_clock(&path, clock).expect("reads what it wrote");
    let again = blocking::DurableTracker::new(store, POLICY);
    assert_eq!(again.get("").expect("read").as_ref(), Some(&after));
    assert_eq!(after.state.failures, next(before));
    let _ = again.waiting(10).expect("listed");
}

fn next(before: Option<Record>) -> u32 {
    before.map_or(0, |before| before.state.failures).saturating_add(1)
}

fn in_redis(bytes: &[u8]) {
    let server = Server::default();
    *server.0.lock().expect("alone") = bytes.to_owned();
    let tracker = DurableTracker::new(RedisStore::new(Between(server.clone())), POLICY);
    let Ok(before) = ready(tracker.get("")) else {
        assert!(ready(tracker.record_failure("", "broken")).is_err());
        assert_eq!(*server.0.lock().expect("alone"), bytes);
        return;
    };
    before.iter().for_each(sane);
    ready(tracker.record_failure("", "broken")).expect("recorded");
    let after = ready(tracker.get("")).expect("read").expect("recorded");
    sane(&after);
    assert_eq!(after.state.failures, next(before));
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// The value of one key, changed as the script does it.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Vec<u8>>>);

impl Server {
    fn change(&self, words: &[Vec<u8>]) -> Value {
        // EVALSHA, the script, six keys and their number, the call's number, and a length.
        let mut words = words[11..].iter();
        let mut word = || words.next().expect("an argument");
        let now = NOW.as_micros() as u64;
        let number = |word: &[u8]| -> u64 {
            std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).expect("a number")
        };
        let (mut from, mut before) = (number(word()), number(word()));
        let (believed, mut verb) = (word(), word());
        if &verb[..] == b"within" {
            (from, before, verb) = (number(word()), number(word()), word());
        }
        let says = self.0.lock().expect("alone").clone();
        let answer = if says != *believed || now < from || now >= before {
            [b"-", &says[..]].concat()
        } else {
            match &verb[..] {
                b"put" | b"revive" => {
                    let mut text = vec![];
                    for n in 0..number(word()) {
                        let piece = word();
                        match piece[0] {
                            b'+' if n % 2 == 1 => {
                                text.extend((now + number(&piece[1..])).to_string().bytes());
                            }
                            b'#' if n % 2 == 1 => panic!("no lease is granted"),
                            _ => text.extend(piece),
                        }
                    }
                    *self.0.lock().expect("alone") = text;
                }
                b"keep" => {}
                other => panic!("a failure deletes nothing: {other:?}"),
            }
            b"+0".to_vec()
        };
        let time = [now / 1_000_000, now % 1_000_000].map(|part| part.to_string().into_bytes());
        let [seconds, micros] = time;
        Value::Array([seconds, micros, answer].map(Value::BulkString).to_vec())
    }
}

impl Answers for Server {
    async fn answer(&mut self, call: &Cmd) -> RedisResult<Value> {
        Ok(self.change(&words(call)))
    }
}
