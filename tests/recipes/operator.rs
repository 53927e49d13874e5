//! The operator's controller, on a clock that the tests move and a real folder.

#[path = "../../examples/operator/controller.rs"]
mod controller;

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use controller::{Children, Error, Handler, Operator, Outcome, Report, files};
use relent::clock::ManualClock;
use relent::{Backoff, Decision, GiveUpReason, Jitter, Readiness};
use serde::ser::{Error as _, Serialize, Serializer};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

const EXACT: Backoff = Backoff::DEFAULT.jitter(Jitter::None);

/// What happens to all parents.
#[derive(Clone, Copy, Default, PartialEq)]
enum Trouble {
    #[default]
    None,
    Validate,
    Sync,
    Finalize,
    Status,
}

/// Says what it was told to say: an error, or a panic.
#[derive(Clone, Default)]
struct Scripted {
    trouble: Rc<Cell<Trouble>>,
    panics: Rc<Cell<bool>>,
}

impl Scripted {
    fn meet(&self, trouble: Trouble) -> Result<(), Error> {
        if self.trouble.get() != trouble {
            return Ok(());
        }
        assert!(!self.panics.get(), "a bug");
        Err("trouble".into())
    }
}

impl Handler for Scripted {
    type Valid = String;
    type Status = Told;

    fn validate(&self, _: &str, parent: &str) -> Result<String, Error> {
        self.meet(Trouble::Validate)?;
        Ok(parent.to_owned())
    }

    fn sync(&self, name: &str, valid: &mut String) -> Result<Children, Error> {
        self.meet(Trouble::Sync)?;
        Ok(Children::from([(format!("{name}.txt"), valid.clone())]))
    }

    fn finalize(&self, _: &str) -> Result<(), Error> {
        self.meet(Trouble::Finalize)
    }

    fn status(&self, _: &str, outcome: &Outcome) -> Told {
        let error = outcome.error().map(ToString::to_string);
        Told(match self.meet(Trouble::Status) {
            Ok(()) => Some((outcome.name(), error)),
            Err(_) => None,
        })
    }
}

/// A status, which serde may not be able to say.
struct Told(Option<(&'static str, Option<String>)>);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = self.0.as_ref();
        told.ok_or_else(|| S::Error::custom("unspeakable"))?
            .serialize(serializer)
    }
}

fn operator(
    home: &TempDir,
    handler: &Scripted,
    backoff: Backoff,
    resync: Option<Duration>,
    clock: &ManualClock,
) -> Operator<Scripted, ManualClock> {
    let (handler, clock) = (handler.clone(), clock.clone());
    Operator::new(home.path(), handler, backoff, resync, clock).unwrap()
}

struct Rig {
    home: TempDir,
    clock: ManualClock,
    handler: Scripted,
    operator: Operator<Scripted, ManualClock>,
}

impl Rig {
    /// An operator with one parent, `a`, whose first round is yet to come.
    fn new(backoff: Backoff, trouble: Trouble) -> Rig {
        let home = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let handler = Scripted::default();
        handler.trouble.set(trouble);
        let operator = operator(&home, &handler, backoff, Some(HOUR), &clock);
        let rig = Rig {
            home,
            clock,
            handler,
            operator,
        };
        rig.edit("a", "1");
        rig
    }

    /// Another operator, over what this one left.
    fn restarted(self, backoff: Backoff, resync: Option<Duration>) -> Rig {
        let operator = operator(&self.home, &self.handler, backoff, resync, &self.clock);
        Rig { operator, ..self }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn edit(&self, name: &str, text: &str) {
        fs::write(self.path(&format!("parents/{name}.json")), text).unwrap();
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.path(&format!("parents/{name}.json"))).unwrap();
    }

    fn set(&self, trouble: Trouble) {
        self.handler.trouble.set(trouble);
    }

    fn status(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("status/{name}.json"))).unwrap()
    }

    fn children(&self, name: &str) -> Vec<String> {
        files::names(&self.path(&format!("children/{name}")), "").unwrap()
    }

    #[track_caller]
    fn nothing(&mut self) {
        let reports = self.operator.tick().unwrap();
        assert!(reports.is_empty(), "{reports:?}");
    }

    /// The round of one parent, and no other.
    #[track_caller]
    fn one(&mut self) -> Report {
        let mut reports = self.operator.tick().unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// The same, once the next timer is due, and not a nanosecond before.
    #[track_caller]
    fn next(&mut self) -> Report {
        let due = self.operator.next_due().unwrap();
        self.clock
            .advance(due.saturating_sub(Duration::from_nanos(1)));
        self.nothing();
        self.clock.advance(Duration::from_nanos(1));
        self.one()
    }

    /// The delays after failures, of this round and the next.
    fn delays(&mut self, count: usize) -> Vec<Duration> {
        let mut report = self.one();
        let mut delays = Vec::new();
        while delays.len() < count {
            let delay = report.decision.and_then(Decision::delay);
            delays.push(delay.expect("a failure that is retried"));
            report = self.next();
        }
        delays
    }
}

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
        assert_eq!(report.outcome.error().is_some(), outcome.is_some());
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

    let plain = Rig::new(EXACT, Trouble::Sync).delays(9);
    assert_eq!(plain, Rig::new(EXACT, Trouble::Sync).delays(9));
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
    assert!(matches!(rig.next().outcome, Outcome::FinalizeSucceeded));
    assert!(!rig.path("children/a").exists());
    assert_eq!(rig.status("a"), r#"["finalize succeeded",null]"#);
    rig.clock.advance(HOUR);
    rig.nothing();
}

#[test]
fn a_failure_leaves_the_children_as_they_were() {
    for trouble in [Trouble::Validate, Trouble::Sync] {
        let mut rig = Rig::new(EXACT, Trouble::None);
        rig.one();
        rig.set(trouble);
        rig.edit("a", "2");
        assert!(rig.one().outcome.error().is_some());
        let child = fs::read_to_string(rig.path("children/a/a.txt"));
        assert_eq!(child.unwrap(), "1");
    }
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
fn a_folder_that_cannot_be_listed_deletes_nothing() {
    let mut rig = Rig::new(EXACT, Trouble::None);
    rig.one();
    fs::rename(rig.path("parents"), rig.path("elsewhere")).unwrap();
    assert!(rig.operator.tick().is_err());
    fs::rename(rig.path("elsewhere"), rig.path("parents")).unwrap();
    rig.nothing();
    assert_eq!(rig.children("a"), ["a.txt"]);
}
