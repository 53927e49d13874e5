//! Parents that are deleted, while the operator runs or while it does not.

use std::fs;

use crate::operator::Outcome;
use crate::rig::{EXACT, HOUR, Rig, SECOND, Trouble};

#[test]
fn deleting_a_parent_forgets_its_state() {
    let mut rig = Rig::new(EXACT.give_up_after_failures(5), Trouble::Sync);
    rig.delays(4);
    assert_eq!(rig.operator.tracker.len(), 1);
    rig.delete("a");
    assert!(matches!(rig.one().outcome, Outcome::FinalizeSucceeded));
    assert!(rig.operator.tracker.is_empty());
    rig.edit("a", "1");
    assert_eq!(rig.one().again, Some(SECOND / 2));
}

#[test]
fn what_failed_in_syncing_does_not_slow_finalizing() {
    let mut rig = Rig::new(EXACT, Trouble::Sync);
    rig.delays(9);
    rig.set(Trouble::Finalize);
    rig.delete("a");
    assert_eq!(rig.one().again, Some(SECOND / 2));
}

#[test]
fn children_stay_until_their_parent_is_finalized() {
    let mut rig = Rig::new(EXACT, Trouble::None);
    rig.one();
    rig.set(Trouble::Finalize);
    rig.delete("a");
    rig.delays(3);
    assert_eq!(rig.children("a"), ["a.txt"]);
    rig.set(Trouble::None);
    let report = rig.next();
    assert!(matches!(report.outcome, Outcome::FinalizeSucceeded));
    assert_eq!(report.again, None);
    assert!(!rig.path("children/a").exists());
    assert_eq!(rig.status("a"), r#"["finalize succeeded",null]"#);
    rig.clock.advance(HOUR);
    rig.nothing();
}

#[test]
fn a_parent_deleted_while_nobody_looked_is_finalized() {
    // Killed after it was rendered, and again after it was told that it was finalized.
    for told in [false, true] {
        let mut rig = Rig::new(EXACT, Trouble::None);
        rig.one();
        rig.delete("a");
        if told {
            fs::remove_file(rig.path("children/a/a.txt")).unwrap();
        }
        let mut rig = rig.restarted(EXACT, None);
        assert!(matches!(rig.one().outcome, Outcome::FinalizeSucceeded));
        assert!(!rig.path("children/a").exists());
        rig.nothing();
    }
}

#[test]
fn what_failed_halfway_is_finalized_too_when_nobody_looked() {
    let mut rig = Rig::new(EXACT, Trouble::Sync);
    assert!(matches!(rig.one().outcome, Outcome::SyncFailed(_)));
    rig.delete("a");
    let mut rig = rig.restarted(EXACT, None);
    assert!(matches!(rig.one().outcome, Outcome::FinalizeSucceeded));
}

#[test]
fn a_folder_that_cannot_be_listed_deletes_nothing() {
    let mut rig = Rig::new(EXACT, Trouble::None);
    rig.one();
    fs::rename(rig.path("parents"), rig.path("elsewhere")).unwrap();
    rig.operator.tick().unwrap_err();
    fs::rename(rig.path("elsewhere"), rig.path("parents")).unwrap();
    rig.nothing();
    assert_eq!(rig.children("a"), ["a.txt"]);
}
