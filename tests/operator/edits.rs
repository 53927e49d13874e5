//! Parents that are edited, and timers that this overtakes.

use relent::Backoff;

use crate::operator::Outcome;
use crate::rig::{Rig, SECOND, Trouble};

#[test]
fn an_edit_is_tried_at_once_and_its_failure_leaves_the_wait_as_it_was() {
    let mut rig = Rig::new(Backoff::fixed(SECOND * 10), Trouble::Sync);
    rig.one();
    for text in ["2", "3", "4"] {
        rig.clock.advance(SECOND * 2);
        rig.edit("a", text);
        let left = rig.one().again;
        assert_eq!(left, rig.operator.next_due());
    }
    assert_eq!(rig.operator.tracker.get("a").unwrap().state.failures, 1);
    assert_eq!(rig.operator.next_due(), Some(SECOND * 4));
    // Four timers are due now, of which three were overtaken.
    rig.clock.advance(SECOND * 4);
    rig.one();
    assert_eq!(rig.operator.tracker.get("a").unwrap().state.failures, 2);
}

#[test]
fn a_timer_overtaken_by_a_success_does_nothing() {
    let mut rig = Rig::new(Backoff::fixed(SECOND * 10), Trouble::Sync);
    rig.one();
    rig.set(Trouble::None);
    rig.edit("a", "2");
    assert_eq!(rig.one().recovery.unwrap().failures, 1);
    rig.clock.advance(SECOND * 10);
    rig.nothing();
    rig.clock.advance(SECOND * 3590);
    rig.one();
}

#[test]
fn a_timer_of_a_deleted_parent_does_nothing_to_a_new_one_of_its_name() {
    let mut rig = Rig::new(Backoff::fixed(SECOND * 10), Trouble::Sync);
    rig.one();
    rig.delete("a");
    assert!(matches!(rig.one().outcome, Outcome::FinalizeSucceeded));
    rig.edit("a", "1");
    rig.clock.advance(SECOND);
    rig.one();
    rig.clock.advance(SECOND * 9);
    rig.nothing();
    rig.clock.advance(SECOND);
    rig.one();
}
