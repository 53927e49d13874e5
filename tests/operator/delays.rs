//! How long a failing parent waits, and when it is given up.

use std::time::Duration;

use relent::{Backoff, Decision, GiveUpReason, Readiness};

use crate::rig::{EXACT, HOUR, Rig, SECOND, Trouble};

#[test]
fn the_interval_grows_by_half_up_to_ten_minutes() {
    let delays = Rig::new(EXACT, Trouble::Sync).delays(25);
    for (n, delay) in (0..).zip(delays) {
        let expected = (0.5 * 1.5_f64.powi(n)).min(600.0);
        let off = (delay.as_secs_f64() - expected).abs();
        assert!(off < 1e-6, "{n}: {delay:?}, not {expected}");
    }
}

#[test]
fn jitter_is_half_of_the_interval_either_way_and_never_beyond_the_maximum() {
    let exact = Rig::new(EXACT, Trouble::Sync).delays(30);
    let (mut above, mut below) = (0, 0);
    let streaks: Vec<_> = (0..20)
        .map(|_| Rig::new(Backoff::DEFAULT, Trouble::Sync).delays(30))
        .collect();
    for (delay, &interval) in streaks.iter().flat_map(|streak| streak.iter().zip(&exact)) {
        let longest = (interval * 3 / 2).min(Duration::from_secs(600));
        assert!((interval / 2..=longest).contains(delay), "{delay:?}");
        above += usize::from(*delay > interval);
        below += usize::from(*delay < interval);
    }
    assert!(above > 100 && below > 100, "{above} {below}");
    assert!(streaks.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn presets() {
    let fixed = Rig::new(Backoff::fixed(SECOND * 7), Trouble::Sync).delays(9);
    assert_eq!(fixed, [SECOND * 7; 9]);

    let mut rig = Rig::new(Backoff::never_retry(), Trouble::Sync);
    for _ in 0..3 {
        let report = rig.one();
        let gave_up = Decision::GiveUp(GiveUpReason::Failures);
        assert_eq!(report.decision, Some(gave_up));
        rig.clock.advance(HOUR);
    }

    let plain = Rig::new(EXACT, Trouble::Sync).delays(5);
    let micros = [500_000, 750_000, 1_125_000, 1_687_500, 2_531_250];
    assert_eq!(plain, micros.map(Duration::from_micros));
}

#[test]
fn success_resets() {
    let mut rig = Rig::new(EXACT, Trouble::Sync);
    rig.delays(5);
    rig.set(Trouble::None);
    rig.next();
    rig.set(Trouble::Sync);
    assert_eq!(rig.next().again, Some(SECOND / 2));
}

#[test]
fn parents_are_independent() {
    let mut rig = Rig::new(EXACT, Trouble::Sync);
    rig.delays(5);
    rig.edit("b", "1");
    let report = rig.one();
    assert_eq!(
        (report.name.as_str(), report.again),
        ("b", Some(SECOND / 2))
    );
    assert_eq!(rig.next().name, "b", "while a waits longer");
}

#[test]
fn after_giving_up_it_is_looked_at_regularly() {
    let patience = SECOND * 2;
    for (backoff, reason, failures) in [
        (EXACT.give_up_after_failures(4), GiveUpReason::Failures, 4),
        // 0.5 s, 1.25 s, and the next would begin after 2.375 s.
        (EXACT.give_up_after(patience), GiveUpReason::Elapsed, 3),
    ] {
        let mut rig = Rig::new(backoff, Trouble::Sync);
        rig.delays(failures - 1);
        let gave_up = Decision::GiveUp(reason);
        for _ in 0..3 {
            let streak = rig.operator.tracker.get("a").unwrap();
            assert_eq!(streak.readiness, Readiness::GaveUp(reason));
            assert_eq!(rig.operator.next_due(), Some(HOUR));
            let report = rig.next();
            assert_eq!((report.decision, report.again), (Some(gave_up), Some(HOUR)));
        }
        rig.set(Trouble::None);
        assert!(rig.next().recovery.is_some());
        rig.set(Trouble::Sync);
        assert_eq!(rig.next().again, Some(SECOND / 2));
    }
}

#[test]
fn without_a_regular_look_giving_up_is_the_end_until_an_edit() {
    let rig = Rig::new(EXACT, Trouble::Sync);
    let mut rig = rig.restarted(Backoff::never_retry(), None);
    assert_eq!(rig.one().again, None);
    rig.clock.advance(HOUR * 20);
    rig.nothing();
    rig.set(Trouble::None);
    rig.edit("a", "2");
    assert_eq!(rig.one().recovery.unwrap().failures, 1);
}
