//! An operation that needs `&mut`: what it is lent comes back, however an attempt ends.

use std::future::{pending, ready};
use std::pin::pin;
use std::time::Duration;

use relent::retry::Lent;
use relent::{Backoff, StopReason};

use crate::colours::{drive, no_wait, pend_once, poll_once};

const AT_ONCE: Backoff = Backoff::fixed(Duration::ZERO).give_up_after_failures(3);

/// Can do one thing at a time, and fails twice.
#[derive(Debug, Default)]
struct Connection {
    asked: u32,
}

impl Connection {
    async fn ask(&mut self, question: &str) -> Result<usize, u32> {
        self.asked += 1;
        pend_once().await;
        if self.asked > 2 {
            Ok(question.len())
        } else {
            Err(self.asked)
        }
    }
}

#[test]
fn is_back_when_an_attempt_failed() {
    let mut connection = Connection::default();
    let retry = AT_ONCE.retry_async_with(&mut connection, |mut connection| async move {
        let length = connection.ask("why").await?;
        Ok::<_, u32>(length + 1)
    });
    assert_eq!(drive(retry.sleep(no_wait)), Ok(4));
    assert_eq!(connection.asked, 3);
}

#[test]
fn is_back_when_its_time_ran_out() {
    let mut begun = 0;
    let retry = AT_ONCE.retry_async_with(&mut begun, |mut begun: Lent<&mut i32>| async move {
        **begun += 1;
        pending::<Result<(), &str>>().await
    });
    let retry = retry.sleep(no_wait).timeout(Duration::ZERO, || "late");
    assert_eq!(drive(retry), Err("late"));
    assert_eq!(begun, 3);
}

#[test]
fn may_be_the_thing_itself_and_ends_with_the_loop() {
    struct Ends<'a>(&'a std::cell::Cell<u32>);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let ended = std::cell::Cell::new(0);
    let mut retry = Box::pin(
        AT_ONCE
            .retry_async_with(Ends(&ended), |ends| {
                drop(ends);
                ready(Err::<(), _>(()))
            })
            .sleep(no_wait),
    );
    assert!(poll_once(retry.as_mut()).is_ready());
    assert_eq!(ended.get(), 0);
    drop(retry);
    assert_eq!(ended.get(), 1);
}

#[test]
fn may_leave_with_the_last_result() {
    let retry = AT_ONCE.retry_async_with(String::from("it"), |it| ready(Ok::<_, ()>(it)));
    let it = drive(retry.sleep(no_wait)).unwrap();
    assert_eq!(format!("{it:?} {}", it.len()), "\"it\" 2");
}

/// An error that holds it is dropped before the next attempt, also where a loop keeps its errors.
#[test]
fn may_be_held_by_an_error() {
    let retry = || {
        let retry = AT_ONCE.retry_async_with(1, |it| ready(Err::<(), _>(it)));
        retry.sleep(no_wait)
    };
    assert_eq!(drive(retry()).map_err(|it| *it), Err(1));
    let outcome = drive(retry().cancel_on(pending()).outcome());
    assert_eq!((outcome.attempts, *outcome.result.unwrap_err()), (3, 1));
    let outcome = drive(retry().cancel_on(ready(())).outcome());
    assert_eq!((outcome.attempts, outcome.stop), (1, StopReason::Cancelled));
}

#[test]
#[should_panic(expected = "the one before still has what it was lent")]
fn is_missed_when_it_was_sent_elsewhere() {
    let mut elsewhere = vec![];
    let retry = AT_ONCE.retry_async_with((), |it| {
        elsewhere.push(it);
        ready(Err::<(), _>(()))
    });
    let _ = poll_once(pin!(retry.sleep(no_wait)).as_mut());
}

#[test]
fn allocates_once_and_on_the_way_nothing() {
    let mut attempts = 0;
    let allocated = allocation_counter::measure(|| {
        let retry = AT_ONCE.retry_async_with(&mut attempts, |mut attempts: Lent<&mut i32>| {
            **attempts += 1;
            ready(if **attempts < 3 { Err(()) } else { Ok(()) })
        });
        drive(retry.sleep(no_wait)).unwrap();
    });
    assert_eq!((attempts, allocated.count_total), (3, 1));
}

/// What must compile inside `tokio::spawn`, with nothing annotated.
#[cfg(feature = "tokio")]
mod spawned {
    use super::{AT_ONCE, Connection};

    struct Service {
        connection: Connection,
    }

    impl Service {
        async fn ask(&mut self, question: &str) -> Result<usize, u32> {
            AT_ONCE
                .retry_async_with(&mut self.connection, async |mut connection| {
                    connection.ask(question).await
                })
                .when(|&failed| failed < 9)
                .await
        }
    }

    async fn ask(connection: &mut Connection, question: &str) -> Result<usize, u32> {
        let limit = std::time::Duration::from_secs(5);
        AT_ONCE
            .retry_async_with(connection, |mut connection| async move {
                connection.ask(question).await
            })
            .timeout(limit, || 0)
            .await
    }

    #[tokio::test]
    async fn every_form_runs_in_a_spawned_task() {
        let local = tokio::spawn(async {
            let mut connection = Connection::default();
            let question = String::from("why");
            AT_ONCE
                .retry_async_with(&mut connection, async |mut connection| {
                    connection.ask(&question).await
                })
                .await
        });
        let field = tokio::spawn(async {
            let connection = Connection::default();
            Service { connection }.ask("why").await
        });
        let argument = tokio::spawn(async { ask(&mut Connection::default(), "why").await });
        let itself = tokio::spawn(
            AT_ONCE.retry_async_with(Connection::default(), |mut connection| async move {
                connection.ask("why").await
            }),
        );
        let several = tokio::spawn(async {
            let (mut connection, mut asked) = (Connection::default(), 0);
            let retry =
                AT_ONCE.retry_async_with((&mut connection, &mut asked), async |mut lent| {
                    *lent.1 += 1;
                    lent.0.ask("why").await
                });
            let outcome = retry.outcome().await;
            assert_eq!(asked, 3);
            outcome.result
        });
        for task in [local, field, argument, itself, several] {
            assert_eq!(task.await.unwrap(), Ok(3));
        }
    }
}
