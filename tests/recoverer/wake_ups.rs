//! Between down and up, and between asleep and awake, nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use relent::Backoff;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::rig::{EXACT, POLICY, Rig, SECOND};
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

/// The event comes after the queue was found empty, and before anybody waits for more.
#[tokio::test(start_paused = true)]
async fn no_event_is_overlooked_that_comes_as_it_gets_up() {
    let rig = Rig::new(&["a"], EXACT, 10);
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(SECOND).await;
    rig.revive("a");
    let scheduler = Arc::clone(rig.scheduler());
    let submit = move || scheduler.submit("a", &["1"]).unwrap();
    rig.peers.seen().upon = Some(("up", Box::new(submit)));
    rig.up("a").await;
    rig.got("a", 2);
    assert!(rig.peers.waits("a")[1] < SECOND, "it was sent at once");
}

/// The operator hears of the failure, and forces at once, when the loop has not yet begun to wait.
#[tokio::test(start_paused = true)]
async fn no_operator_is_overlooked_who_reacts_to_the_news() {
    let rig = Rig::new(&["a"], EXACT, 10);
    rig.peers.seen().latency = Duration::ZERO;
    rig.kill("a");
    let scheduler = Arc::clone(rig.scheduler());
    let force = move || scheduler.force("a").unwrap();
    rig.peers.seen().upon = Some(("dead", Box::new(force)));
    rig.submit("a", [0]);
    sleep(SECOND).await;
    assert_eq!(rig.peers.waits("a"), [Duration::ZERO]);
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
        // Down, with a wait of an hour, so that an event that is overlooked stays so.
        rig.backoff = Backoff::fixed(3600 * SECOND);
        rig.restart();
        rig.kill("a");
        rig.submit("a", [0]);
        let meet = async {
            while rig.peers.seen().news.is_empty() {
                yield_now().await;
            }
            rig.revive("a");
            rig.scheduler().force("a").unwrap();
            for event in 1..300 {
                rig.submit("a", [event]);
                for _ in 0..event % 7 {
                    yield_now().await;
                }
            }
            while !rig.is_up("a") {
                yield_now().await;
            }
        };
        let done = timeout(20 * SECOND, meet).await;
        done.expect("nothing was overlooked");
        rig.got("a", 300);
    });
}
