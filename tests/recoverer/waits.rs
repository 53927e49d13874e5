//! How long a destination waits, and what ends it.

use std::time::Duration;

use tokio::time::sleep;

use crate::rig::{EXACT, POLICY, Rig, SECOND};
#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_after_2_4_8_up_to_512_seconds() {
    let rig = Rig::new(&["a"], EXACT, 100);
    rig.peers.seen().latency = Duration::ZERO;
    rig.kill("a");
    rig.submit("a", [0]);
    sleep(3000 * SECOND).await;
    let waits: Vec<_> = rig.peers.waits("a").iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512]);
    let (standing, streak) = rig.status("a");
    assert_eq!((standing.is_up, standing.waiting), (false, 1));
    assert_eq!(streak.failures, 13);
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
    let (standing, streak) = rig.status("a");
    assert_eq!(standing.waiting, 3);
    assert!(!standing.is_up, "until all is delivered");
    assert!(streak.is_healthy());
    rig.kill("a");
    sleep(SECOND).await;
    let waits: Vec<_> = rig.peers.waits("a").iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [2, 4, 8, 16, 1, 1]);
    let (_, streak) = rig.status("a");
    assert_eq!(streak.interval, 2 * SECOND);
    rig.revive("a");
    rig.up("a").await;
    rig.got("a", 5);
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
    let (_, streak) = rig.status("a");
    assert_eq!((streak.failures, streak.interval), (6, 64 * SECOND));
    // Nor does the button do anything while an attempt is under way, or while all is well.
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

/// Has the database fail, until it is mended.
fn broken(rig: &Rig) -> impl FnOnce() {
    let database = rusqlite::Connection::open(rig.path()).unwrap();
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    database
        .execute_batch(&rename("destination", "gone"))
        .unwrap();
    move || {
        database
            .execute_batch(&rename("gone", "destination"))
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_tried_again() {
    let rig = Rig::new(&["a"], POLICY, 10);
    for event in 0..3 {
        rig.peers.seen().news.clear();
        rig.submit("a", [event]);
        let mend = broken(&rig);
        sleep(60 * SECOND).await;
        let news = rig.peers.seen().news.clone();
        assert!(news.len() > 5, "{news:?}");
        assert!(
            news.iter()
                .all(|news| news.starts_with("stuck, no such table"))
        );
        // The wait starts anew, whatever it had grown to the last time.
        assert!(
            news[0].ends_with("ms") || news[0].ends_with("µs"),
            "{news:?}"
        );
        mend();
        rig.up("a").await;
    }
    rig.got("a", 3);
}

#[tokio::test(start_paused = true)]
async fn what_arrived_is_not_sent_again_because_the_database_fails() {
    let rig = Rig::new(&["a"], POLICY, 10);
    rig.peers.seen().latency = SECOND;
    rig.submit("a", [0]);
    sleep(SECOND / 2).await;
    let mend = broken(&rig);
    sleep(60 * SECOND).await;
    assert!(rig.peers.seen().news.len() > 5);
    mend();
    rig.up("a").await;
    assert_eq!(rig.peers.seen().attempts.len(), 1);
}
