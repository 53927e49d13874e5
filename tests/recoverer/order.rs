//! What is sent, in which order, and in lots of which size.

use std::thread;
use std::time::Duration;

use tokio::time::sleep;

use crate::rig::{EXACT, POLICY, Rig, SECOND};
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
