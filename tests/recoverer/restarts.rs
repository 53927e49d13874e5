//! Crashes, and what is found after them.

use std::collections::BTreeSet;
use std::time::Duration;

use relent::clock::Clock;
use tokio::time::sleep;

use crate::rig::{EXACT, POLICY, Rig, SECOND};
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
