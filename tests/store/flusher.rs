//! What flushes a tracker by itself.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use relent::clock::ManualClock;
use relent::store::blocking::{Flusher, WriteBehind};
use relent::store::{self, Inline};

use crate::behind::{SECOND, clock, tracker};
use crate::flaky::{Away, Flaky};

/// How long a flusher waits between its first few flushes; `each` is done before each of them.
fn pauses<S: store::AsyncStore + 'static>(
    behind: &Arc<store::WriteBehind<S, ManualClock>>,
    mut each: impl FnMut(usize) + Send + 'static,
) -> Vec<Duration> {
    let (pauses, told) = mpsc::channel();
    let mut left = 12_usize;
    let sleep = move |pause| {
        pauses.send(pause).unwrap();
        left -= 1;
        each(left);
        std::future::poll_fn(move |_| {
            if left > 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    };
    let flusher = behind.flush_every_with(SECOND, sleep, |_| ());
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(flusher).poll(&mut context).is_pending());
    told.iter().collect()
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_damaged_row_delays_no_other_key() {
    use relent::store::SqliteStore;

    let clock = clock(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("behind.db");
    let store = SqliteStore::open(&path).unwrap().with_clock(clock.clone());
    let behind = store::WriteBehind::open(Inline(store), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let _ = behind.tracker().record_failure("damaged");
    assert_eq!(behind.flush().await.unwrap(), 1);
    let damage = "UPDATE relent SET failures = -1";
    let other = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(other.execute(damage, []).unwrap(), 1);
    let _ = behind.tracker().record_failure("damaged");
    // Both while other keys fail and while they do not.
    let failing = Arc::clone(&behind);
    let pauses = pauses(&behind, move |n| {
        if n < 6 {
            let _ = failing.tracker().record_failure(&n.to_string());
        }
    });
    assert_eq!(pauses, [SECOND; 12]);
    let rows = "SELECT count(*) FROM relent WHERE failures = 1";
    let rows = other.query_row(rows, [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.unwrap(), 5);
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_ever_more_slowly() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    flaky.away.store(true, SeqCst);
    let _ = behind.tracker().record_failure("key");
    let pauses = pauses(&behind, |_| ());
    let longest = pauses.iter().copied().max().unwrap();
    assert!(pauses[1] < SECOND, "soon at first: {pauses:?}");
    assert!(longest > 2 * SECOND && longest <= 16 * SECOND, "{pauses:?}");
}

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn a_flusher_flushes_by_itself_and_through_errors() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let (errors, told) = mpsc::channel();
    flaky.away.store(true, SeqCst);
    let flusher = behind.flush_every(Duration::ZERO, move |error| {
        errors.send(error.to_string()).unwrap();
    });
    let flusher = flusher.unwrap();
    behind.tracker().record_failure("key");
    for _ in 0..3 {
        assert_eq!(told.recv_timeout(NEVER).unwrap(), "away");
    }
    flaky.away.store(false, SeqCst);
    while flaky.store.is_empty() {
        std::thread::yield_now();
    }
    flusher.close().unwrap();
}

#[test]
fn a_flusher_flushes_at_its_end() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let flusher = || behind.flush_every(NEVER, |_| ()).unwrap();

    let dropped = flusher();
    behind.tracker().record_failure("a");
    drop(dropped);
    assert_eq!(flaky.store.len(), 1);

    let closed = flusher();
    behind.tracker().record_failure("b");
    assert_eq!(closed.close().unwrap(), 1);
    assert_eq!(flaky.store.len(), 2);

    let closed = flusher();
    behind.tracker().record_failure("c");
    flaky.away.store(true, SeqCst);
    assert_eq!(closed.close().unwrap_err().to_string(), "away");
    flaky.away.store(false, SeqCst);
    assert_eq!(behind.flush().unwrap(), 1, "what was not written is kept");
}

#[test]
fn an_error_of_the_last_flush_is_told_once() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let (errors, told) = mpsc::channel();
    let flusher = || {
        let errors = errors.clone();
        let on_error = move |error: &Away| errors.send(error.to_string()).unwrap();
        behind.flush_every(NEVER, on_error).unwrap()
    };
    behind.tracker().record_failure("key");
    flaky.away.store(true, SeqCst);
    drop(flusher());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["away"]);
    flusher().close().unwrap_err();
    assert_eq!(told.try_iter().count(), 0, "who closes it is answered");
}

#[test]
fn a_flusher_outlives_a_panic_and_hands_it_on_when_closed() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = Arc::new(WriteBehind::open(flaky.clone(), tracker(&clock)).unwrap());
    let flusher = || {
        let on_error = |_: &Away| panic!("told of an error");
        behind.flush_every(Duration::ZERO, on_error).unwrap()
    };
    let panics_through = |key: &str, end: fn(Flusher<Away>)| {
        flaky.away.store(true, SeqCst);
        let flusher = flusher();
        behind.tracker().record_failure(key);
        let calls = flaky.calls.load(SeqCst);
        let began = Instant::now();
        while flaky.calls.load(SeqCst) < calls + 3 {
            assert!(began.elapsed() < 20 * SECOND, "the flusher has ended");
            std::thread::yield_now();
        }
        flaky.away.store(false, SeqCst);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| end(flusher)));
        let payload = ended.err()?;
        payload
            .downcast_ref::<&str>()
            .map(|said| (*said).to_owned())
    };
    let closed = panics_through("a", |flusher| drop(flusher.close()));
    assert_eq!(closed.as_deref(), Some("told of an error"));
    assert_eq!(flaky.store.len(), 1, "the last flush was made");
    let dropped = panics_through("b", drop);
    assert_eq!(dropped, None);
    assert_eq!(flaky.store.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_async_flusher_outlives_a_panic_too() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let flusher = behind.flush_every(SECOND, |_| panic!("told of an error"));
    let flusher = tokio::spawn(flusher);
    behind.tracker().record_failure("a");
    flaky.away.store(true, SeqCst);
    tokio::time::sleep(SECOND * 60).await;
    flaky.away.store(false, SeqCst);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(flaky.store.len(), 1);
    assert!(!flusher.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_async_flusher_does_the_same_until_it_is_dropped() {
    let clock = clock(1_000_000);
    let flaky = Flaky::new(&clock);
    let behind = store::WriteBehind::open(Inline(flaky.clone()), tracker(&clock)).await;
    let behind = Arc::new(behind.unwrap());
    let (errors, told) = mpsc::channel();
    let on_error = move |error: &_| errors.send(format!("{error}")).unwrap();
    let flusher = tokio::spawn(behind.flush_every(SECOND, on_error));

    behind.tracker().record_failure("a");
    tokio::time::sleep(SECOND * 9 / 10).await;
    assert_eq!(flaky.store.len(), 0, "before its time");
    tokio::time::sleep(SECOND / 5).await;
    assert_eq!(flaky.store.len(), 1);

    flaky.away.store(true, SeqCst);
    behind.tracker().record_failure("b");
    tokio::time::sleep(SECOND * 600).await;
    let errors = told.try_iter().count();
    // Each wait is as likely short as long: half of at most 16 s, and some of the first are
    // shorter.
    assert!((50..150).contains(&errors), "{errors}");
    flaky.away.store(false, SeqCst);
    tokio::time::sleep(SECOND * 16).await;
    assert_eq!(flaky.store.len(), 2);

    flusher.abort();
    behind.tracker().record_failure("c");
    tokio::time::sleep(SECOND * 600).await;
    assert_eq!(flaky.store.len(), 2, "dropped");
    assert_eq!(behind.flush().await.unwrap(), 1);
}
