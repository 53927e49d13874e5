//! What comes of a round: the children, the status, and the streak.

use std::fs;
use std::time::Duration;

use crate::operator::Outcome;
use crate::rig::{EXACT, HOUR, Rig, SECOND, Trouble};

#[test]
fn success_renders_tells_and_looks_again_regularly() {
    let mut rig = Rig::new(EXACT, Trouble::None);
    for text in ["1", "2"] {
        rig.edit("a", text);
        let report = rig.one();
        assert!(matches!(report.outcome, Outcome::SyncSucceeded));
        assert_eq!((report.decision, report.again), (None, Some(HOUR)));
        assert_eq!(
            fs::read_to_string(rig.path("children/a/a.txt")).unwrap(),
            text
        );
        assert_eq!(rig.status("a"), r#"["sync succeeded",null]"#);
    }
    rig.nothing();
    assert!(matches!(rig.next().outcome, Outcome::SyncSucceeded));
    assert!(rig.operator.tracker.is_empty());
}

#[test]
fn every_failure_is_told_and_backs_off_panics_too() {
    let error = (false, "trouble");
    let panic = (true, "panicked: a bug");
    for (panics, text) in [error, panic] {
        for (trouble, outcome) in [
            (Trouble::Validate, "validation failed"),
            (Trouble::Sync, "sync failed"),
            (Trouble::Finalize, "finalize failed"),
        ] {
            let mut rig = Rig::new(EXACT, trouble);
            rig.handler.panics.set(panics);
            if trouble == Trouble::Finalize {
                rig.one();
                rig.delete("a");
            }
            assert_eq!(rig.delays(3), [500, 750, 1125].map(Duration::from_millis));
            assert_eq!(rig.status("a"), format!("[{outcome:?},{text:?}]"));

            rig.set(Trouble::None);
            let recovery = rig.next().recovery.unwrap();
            assert_eq!(recovery.failures, 4);
            assert!(rig.operator.tracker.is_empty());
            assert!(rig.status("a").contains("succeeded"));
        }
    }
}

#[test]
fn a_status_that_cannot_be_told_is_a_failure() {
    for panics in [false, true] {
        let mut rig = Rig::new(EXACT, Trouble::Status);
        rig.handler.panics.set(panics);
        assert_eq!(rig.delays(3), [500, 750, 1125].map(Duration::from_millis));
        assert_eq!(rig.children("a"), ["a.txt"], "rendered all the same");
        rig.set(Trouble::None);
        assert_eq!(rig.next().recovery.unwrap().failures, 4);
    }
}

#[test]
fn an_update_that_fails_is_a_failure() {
    // A folder where the status should be, a file where the children should be.
    for (path, outcome) in [("status/a.json", None), ("children/a", Some("sync failed"))] {
        let mut rig = Rig::new(EXACT, Trouble::None);
        match outcome {
            None => fs::create_dir(rig.path(path)).unwrap(),
            Some(_) => fs::write(rig.path(path), "").unwrap(),
        }
        let report = rig.one();
        assert_eq!(report.untold.is_some(), outcome.is_none());
        assert_eq!(report.outcome.parts().1.is_some(), outcome.is_some());
        assert_eq!(report.again, Some(SECOND / 2));
        assert_eq!(rig.next().again, Some(SECOND * 3 / 4));
        match outcome {
            None => fs::remove_dir(rig.path(path)).unwrap(),
            Some(_) => fs::remove_file(rig.path(path)).unwrap(),
        }
        assert_eq!(rig.next().recovery.unwrap().failures, 2);
    }
}

#[test]
fn a_failure_leaves_the_children_as_they_were() {
    for trouble in [Trouble::Validate, Trouble::Sync] {
        let mut rig = Rig::new(EXACT, Trouble::None);
        rig.one();
        rig.set(trouble);
        rig.edit("a", "2");
        assert!(rig.one().outcome.parts().1.is_some());
        let child = fs::read_to_string(rig.path("children/a/a.txt"));
        assert_eq!(child.unwrap(), "1");
    }
}
