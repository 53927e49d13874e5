//! What a subscriber sees of a loop.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relent::clock::ManualClock;
use relent::{Backoff, CancelToken, RetryBudget};

use crate::colours::drive;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber::with_default};

/// Writes each event on a line: its level, its fields, its message last.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "relent::retry"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level();
        let Line { message, fields } = line;
        self.0
            .lock()
            .unwrap()
            .push(format!("{level} {message}:{fields}"));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => write!(self.fields, " {name}={value:?}").unwrap(),
        }
    }
}

const POLICY: Backoff = Backoff::fixed(Duration::from_millis(250)).give_up_after_failures(3);

/// The events of a loop that fails `fails` times, with the budget that `limit` leaves.
fn events(fails: u32, limit: impl FnOnce(&RetryBudget)) -> Vec<String> {
    let lines = Lines::default();
    let budget = RetryBudget::new(10, 0.0);
    limit(&budget);
    let clock = ManualClock::new();
    let mut attempts = 0;
    with_default(lines.clone(), || {
        let _ = POLICY
            .retry(|| {
                attempts += 1;
                if attempts > fails {
                    Ok(())
                } else {
                    Err(attempts)
                }
            })
            .when(|&attempt| attempt < 10)
            .clock(&clock)
            .sleep(|delay| clock.advance(delay))
            .budget(&budget)
            .call();
    });
    let events = lines.0.lock().unwrap();
    events.clone()
}

const FIRST: &str = "DEBUG attempt failed, will be retried: failures=1 delay_ms=250 elapsed_ms=0";
const SECOND: &str =
    "DEBUG attempt failed, will be retried: failures=2 delay_ms=250 elapsed_ms=250";

#[test]
fn success_at_once_tells_nothing() {
    assert_eq!(events(0, |_| {}), [""; 0]);
}

#[test]
fn a_recovery_is_told() {
    let recovered = "INFO recovered: failures=2 elapsed_ms=500 reason=succeeded";
    assert_eq!(events(2, |_| {}), [FIRST, SECOND, recovered]);
}

#[test]
fn giving_up_is_told() {
    let last = "DEBUG attempt failed: failures=3 elapsed_ms=500 reason=too many failures";
    let gave_up = "WARN gave up: failures=3 elapsed_ms=500 reason=too many failures";
    assert_eq!(events(9, |_| {}), [FIRST, SECOND, last, gave_up]);
}

#[test]
fn a_refusal_is_told() {
    let last = "DEBUG attempt failed: failures=1 elapsed_ms=0 reason=retry budget spent";
    let gave_up = "WARN gave up: failures=1 elapsed_ms=0 reason=retry budget spent";
    assert_eq!(
        events(9, |budget| while budget.withdraw() {}),
        [last, gave_up]
    );
}

/// No warning, as nobody gave up: there was nothing to retry.
#[test]
fn an_error_that_is_not_retryable_is_a_failed_attempt_and_no_warning() {
    let refused = |failures: u32| {
        let lines = Lines::default();
        let mut attempts = 0;
        with_default(lines.clone(), || {
            let _ = POLICY
                .retry(|| {
                    attempts += 1;
                    Err::<(), _>(attempts)
                })
                .when(|&attempt| attempt < failures)
                .clock(ManualClock::new())
                .sleep(|_| {})
                .call();
        });
        let events = lines.0.lock().unwrap();
        events.clone()
    };
    let last = "DEBUG attempt failed: failures=1 elapsed_ms=0 reason=not retryable";
    assert_eq!(refused(1), [last]);
    let last = "DEBUG attempt failed: failures=2 elapsed_ms=0 reason=not retryable";
    assert_eq!(refused(2), [FIRST, last]);
}

#[test]
fn a_cancelled_wait_is_told() {
    let lines = Lines::default();
    let token = CancelToken::new();
    token.cancel();
    with_default(lines.clone(), || {
        let _ = POLICY.retry(|| Err::<(), _>(())).cancel_on(&token).call();
    });
    let events = lines.0.lock().unwrap();
    assert_eq!(events[0], FIRST);
    assert_eq!(events.len(), 2);
    assert!(
        events[1].starts_with("WARN gave up: failures=1"),
        "{}",
        events[1]
    );
    assert!(events[1].ends_with("reason=cancelled"), "{}", events[1]);
}

#[test]
fn a_future_tells_the_same() {
    let lines = Lines::default();
    let mut attempts = 0;
    with_default(lines.clone(), || {
        drive(
            POLICY
                .retry_async(|| {
                    attempts += 1;
                    std::future::ready(if attempts > 1 { Ok(()) } else { Err(()) })
                })
                .clock(ManualClock::new())
                .sleep(|_| std::future::ready(())),
        )
    })
    .unwrap();
    let recovered = "INFO recovered: failures=1 elapsed_ms=0 reason=succeeded";
    assert_eq!(*lines.0.lock().unwrap(), [FIRST, recovered]);
}
