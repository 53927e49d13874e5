//! One readable file.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use relent::clock::ManualClock;
use relent::store::blocking::{Block, DurableTracker, Store};
use relent::store::contract::{self, End, TransactionBench};
use relent::store::{
    AsyncTransactional, Change, Error, FileError, FileStore, FileTransaction, Inline, LeaseLost,
    Options, Problem, Record, Refusal, StartError, WorkError,
};
use relent::{Backoff, Decision, Jitter, Readiness};
use tempfile::tempdir;
use tokio::runtime::Handle;

use crate::faces::{self, Face, ready};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::exponential(SECOND, Duration::from_secs(60)).jitter(Jitter::None);

#[tokio::test]
async fn keeps_the_contract() {
    let directory = tempdir().unwrap();
    faces::contract(files(directory.path())).await;
}

/// Opens one file after the other.
fn files(directory: &Path) -> impl Fn(ManualClock) -> Files {
    let made = Cell::new(0);
    move |clock| {
        made.set(made.get() + 1);
        let path = directory.join(format!("{}.json", made.get()));
        FileStore::with_clock(path, clock).unwrap()
    }
}

type Files = FileStore<ManualClock>;

impl<A> TransactionBench for Face<'_, Files, A>
where
    A: for<'a> AsyncTransactional<Connection<'a> = &'a mut FileTransaction> + 'static,
{
    type Transaction = FileTransaction;

    async fn transaction(&self, store: &A, work: impl AsyncFnOnce(&mut FileTransaction) -> End) {
        let rolled_back = "rolled back";
        let done = (self.behind)(store).transaction(|transaction| match ready(work(transaction)) {
            End::Commit => Ok(()),
            End::RollBack => Err(FileError::Data {
                why: rolled_back.to_owned(),
            }),
        });
        match done {
            Err(FileError::Data { why }) if why == rolled_back => {}
            done => done.unwrap(),
        }
    }

    async fn update_in<R: Send + 'static>(
        &self,
        store: &A,
        transaction: &mut FileTransaction,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, A::Error> {
        store.update_in(transaction, key, change).await
    }

    async fn put_data(&self, transaction: &mut FileTransaction, data: u32) {
        transaction.put_data(&data).unwrap();
    }

    async fn data(&self, store: &A) -> u32 {
        (self.behind)(store).data().unwrap().unwrap_or_default()
    }
}

#[tokio::test]
async fn keeps_the_contract_of_transactions() {
    let directory = tempdir().unwrap();
    let make = files(directory.path());
    contract::all_in_transactions(&faces::native(&make)).await;
    // Async, and back.
    let blocked = Face::new(
        &make,
        |store| Inline(Block::new(Inline(store), Handle::current())),
        |shown| &shown.0.get_ref().0,
    );
    contract::all_in_transactions(&blocked).await;
}

/// A file with a little of everything.
fn written(path: &Path) -> Vec<u8> {
    let clock = ManualClock::new();
    clock.set(Duration::from_nanos(1_800_000_000_123_456_789));
    let store = FileStore::with_clock(path, clock).unwrap();
    let options = Options::new(POLICY).holder("worker-7");
    let tracker = DurableTracker::new(store, options);
    let told = tracker.record_failure("a \"key\"\n", "no answer");
    assert!(matches!(told, Ok(Decision::Retry { .. })));
    let limited = POLICY.give_up_after_failures(1);
    let gave_up = tracker.record_failure_with("gone", Some(&limited), None, "it is off");
    assert!(matches!(gave_up, Ok(Decision::GiveUp(_))));
    drop(tracker.start("held").unwrap());
    drop(tracker);
    fs::read(path).unwrap()
}

#[test]
fn p4_everything_is_there_after_opening_anew() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    written(&path);
    let clock = ManualClock::new();
    clock.set(Duration::from_nanos(1_800_000_000_123_456_789));
    let tracker = DurableTracker::new(FileStore::with_clock(&path, clock).unwrap(), POLICY);
    assert_eq!(
        tracker.check("a \"key\"\n").unwrap(),
        Readiness::Wait(SECOND)
    );
    assert!(matches!(
        tracker.check("gone").unwrap(),
        Readiness::GaveUp(_)
    ));
    let held = tracker.start("held").map(drop);
    assert!(matches!(held, Err(StartError::Refused(Refusal::Held { by, .. })) if by == "worker-7"));
    assert!(tracker.start("free").unwrap().token() > 1, "tokens go on");
}

#[test]
fn p4_a_batch_is_there_after_opening_anew() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let failures = [("a", "one"), ("b", "two"), ("a", "three")];
    let open = || DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
    open().record_failures(&failures).unwrap();
    let failed = |key| {
        let record = open().get(key).unwrap().unwrap();
        (record.state.failures, record.cause)
    };
    assert_eq!(failed("a"), (2, "three".to_owned()));
    assert_eq!(failed("b"), (1, "two".to_owned()));
    // One that changes nothing writes nothing.
    let other = directory.path().join("other.json");
    let store = FileStore::open(&other).unwrap();
    let kept = store.update_all(&["a", "c"], |nth, _, _| Change::keep(nth));
    assert_eq!(kept.unwrap(), [0, 1]);
    assert!(path.exists() && !other.exists());
}

#[test]
fn it_is_a_document_that_people_can_read() {
    let directory = tempdir().unwrap();
    let text = String::from_utf8(written(&directory.path().join("backoff.json"))).unwrap();
    let expected = r#"{
  "relent": 1,
  "checksum": "CHECKSUM",
  "content": {
    "last_token": 1,
    "records": {
      "a \"key\"\n": {
        "failures": 1,
        "interval": "1s",
        "first_failure": "2027-01-15T08:00:00.123456789Z",
        "since": "2027-01-15T08:00:00.123456789Z",
        "until": "2027-01-15T08:00:01.123456789Z",
        "gave_up": null,
        "cause": "no answer",
        "lease": null
      },
      "gone": {
        "failures": 1,
        "interval": "1s",
        "first_failure": "2027-01-15T08:00:00.123456789Z",
        "since": "2027-01-15T08:00:00.123456789Z",
        "until": "2027-01-15T08:00:00.123456789Z",
        "gave_up": "failures",
        "cause": "it is off",
        "lease": null
      },
      "held": {
        "failures": 0,
        "interval": "0s",
        "first_failure": "2027-01-15T08:00:00.123456789Z",
        "since": "2027-01-15T08:00:00.123456789Z",
        "until": "2027-01-15T08:00:00.123456789Z",
        "gave_up": null,
        "cause": "",
        "lease": {
          "token": 1,
          "holder": "worker-7",
          "since": "2027-01-15T08:00:00.123456789Z",
          "until": "2027-01-15T08:00:30.123456789Z"
        }
      }
    }
  }
}
"#;
    let checksum = text.split('"').nth(5).unwrap();
    assert_eq!(text, expected.replace("CHECKSUM", checksum));
}

#[track_caller]
fn problem(path: &Path, bytes: &[u8]) -> Option<Problem> {
    fs::write(path, bytes).unwrap();
    let opened = FileStore::open(path);
    assert_eq!(fs::read(path).unwrap(), bytes, "the file was changed");
    match opened {
        Ok(_) => None,
        Err(FileError::Unreadable(unreadable)) => {
            let said = unreadable.to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
            Some(unreadable.problem)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn p5_every_flipped_bit_is_found() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let store = FileStore::open(&path).unwrap();
    drop(DurableTracker::new(store, POLICY).start("key").unwrap());
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let found = problem(&path, &bad);
            assert!(
                found.is_some(),
                "bit {bit} of byte {at}, {:?}",
                char::from(good[at])
            );
        }
    }
}

#[test]
fn p5_every_truncation_is_found() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let good = written(&path);
    // Without the last byte, a newline, it is whole.
    for length in 0..good.len() - 1 {
        let found = problem(&path, &good[..length]);
        assert!(
            matches!(found, Some(Problem::Damaged(_))),
            "{length} bytes: {found:?}"
        );
    }
}

#[test]
fn p5_what_is_not_ours_is_refused() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let foreign = |found: Option<Problem>| matches!(found, Some(Problem::Foreign(_)));
    let damaged = |found: Option<Problem>| matches!(found, Some(Problem::Damaged(_)));
    assert!(foreign(problem(
        &path,
        b"{\"name\": \"other\", \"version\": 1}"
    )));
    assert!(damaged(problem(&path, b"\x7fELF")));
    assert!(damaged(problem(&path, b"[]")));
    assert!(damaged(problem(&path, b"{\"relent\": \"1\"}")));
    assert!(damaged(problem(&path, b"{\"relent\": 1}")));
    let newer = problem(&path, b"{\"relent\": 2, \"content\": {\"shards\": []}}");
    assert_eq!(newer, Some(Problem::Newer { found: 2, known: 1 }));
}

#[test]
fn p5_a_record_without_an_interval_is_a_clean_slate() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    for interval in ["", "\"interval\": null,"] {
        let text = format!(
            r#"{{"relent": 1, "content": {{"last_token": 7, "records": {{"key": {{
                "failures": 9, {interval} "first_failure": "2001-01-01T00:00:00Z",
                "since": "2001-01-01T00:00:00Z", "until": "2001-01-01T00:00:00Z"}}}}}}}}"#
        );
        fs::write(&path, text).unwrap();
        let tracker = DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
        assert_eq!(tracker.check("key").unwrap(), Readiness::Ready);
        let told = tracker.record_failure("key", "again").unwrap();
        assert_eq!(told, Decision::Retry { after: SECOND });
        assert_eq!(tracker.start("other").unwrap().token(), 8);
    }
}

#[test]
fn a_second_opening_is_refused_until_the_first_is_dropped() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let first = FileStore::open(&path).unwrap();
    assert!(matches!(
        FileStore::open(&path),
        Err(FileError::Locked { .. })
    ));
    drop(first);
    drop(FileStore::open(&path).unwrap());
    assert!(
        directory.path().join("backoff.json.lock").exists(),
        "never removed"
    );
}

#[cfg(unix)]
#[test]
fn links_are_refused_and_not_followed() {
    use std::os::unix::fs::symlink;

    let directory = tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["backoff.json", "backoff.json.lock"] {
        let path = directory.path().join(name);
        symlink(&victim, &path).unwrap();
        let opened = FileStore::open(directory.path().join("backoff.json"));
        assert!(matches!(opened, Err(FileError::Symlink { path: link }) if link == path));
        fs::remove_file(path).unwrap();
        let _ = fs::remove_file(directory.path().join("backoff.json.lock"));
    }
    symlink(&victim, directory.path().join("backoff.json.tmp")).unwrap();
    let store = FileStore::open(directory.path().join("backoff.json")).unwrap();
    let told = DurableTracker::new(store, POLICY).record_failure("key", "broken");
    told.unwrap();
    assert_eq!(fs::read(victim).unwrap(), b"precious");
}

#[test]
fn p5_what_is_not_a_regular_file_is_refused() {
    let directory = tempdir().unwrap();
    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let mut refused = vec![folder];
    #[cfg(unix)]
    {
        // To read a pipe would be to wait for a writer.
        let pipe = directory.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        refused.push(pipe);
    }
    for path in refused {
        let Err(FileError::Unreadable(unreadable)) = FileStore::open(&path) else {
            panic!("{} was opened", path.display());
        };
        assert!(matches!(unreadable.problem, Problem::Foreign(_)));
    }
}

#[test]
fn p5_a_directory_that_is_missing_is_not_taken_for_an_empty_document() {
    let directory = tempdir().unwrap();
    let opened = FileStore::open(directory.path().join("missing").join("backoff.json"));
    assert!(matches!(opened, Err(FileError::Io { .. })), "{opened:?}");
}

#[test]
fn a_write_that_fails_is_not_remembered() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let tracker = DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
    let decision = tracker.record_failure("key", "first").unwrap();
    assert_eq!(decision, Decision::Retry { after: SECOND });
    // Nothing can be renamed over a directory that is not empty.
    let aside = directory.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("full"), "").unwrap();
    tracker.record_failure("key", "second").unwrap_err();
    let left = directory.path().join("backoff.json.tmp");
    assert!(!left.exists(), "it takes room, where there may be none");
    fs::remove_dir_all(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(tracker.get("key").unwrap().unwrap().cause, "first");
    let decision = tracker.record_failure("key", "second").unwrap();
    assert_eq!(decision, Decision::Retry { after: 2 * SECOND });
}

#[test]
fn r2_a_batch_that_panics_leaves_nothing() {
    let directory = tempdir().unwrap();
    let store = FileStore::open(directory.path().join("backoff.json")).unwrap();
    faces::panics_at_the_second_of_two(&store);
    let tracker = DurableTracker::new(store, POLICY);
    assert_eq!(tracker.get("a").unwrap(), None);
    tracker.record_failure("a", "broken").unwrap();
}

#[test]
fn p3_records_and_own_data_are_written_together_or_not_at_all() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("journal.json");
    let tracker = DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
    assert_eq!(tracker.store().data::<Vec<String>>().unwrap(), None);

    let both = |step: &str, end: Result<(), FileError>| {
        tracker.store().transaction(|transaction| {
            transaction.put_data(&[step])?;
            tracker
                .record_failure_in(transaction, "key", step)
                .map(drop)?;
            end.map_err(Error::Store)
        })
    };
    let refused = || FileError::Data { why: "no".into() };
    let state = || {
        let data: Option<Vec<String>> = tracker.store().data().unwrap();
        let failures = tracker.get("key").unwrap().map(|key| key.state.failures);
        (data.unwrap_or_default().join(", "), failures)
    };
    both("first", Err(refused())).unwrap_err();
    assert_eq!(state(), (String::new(), None));
    assert!(!path.exists());
    both("second", Ok(())).unwrap();
    assert_eq!(state(), ("second".to_owned(), Some(1)));
    both("third", Err(refused())).unwrap_err();
    assert_eq!(state(), ("second".to_owned(), Some(1)));

    // Other changes leave the data alone, and so does another process.
    tracker.record_failure("other", "broken").unwrap();
    assert_eq!(state().0, "second");
    drop(tracker);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.data::<Vec<String>>().unwrap().unwrap(), ["second"]);
    let other = store.data::<u64>();
    assert!(matches!(other, Err(FileError::Unreadable(unreadable))
        if matches!(&unreadable.problem, Problem::Damaged(why) if why.contains("its data"))));
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    let put = store.transaction(|transaction| transaction.put_data(&no_json));
    assert!(matches!(put, Err(FileError::Data { .. })));
}

#[test]
fn own_data_is_the_same_after_opening_anew() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("journal.json");
    // Golden steps through all bits, so through floats of all sizes.
    let bits = (1..3000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let floats = bits.map(f64::from_bits).filter(|float| float.is_finite());
    let data = (floats.collect::<Vec<_>>(), [u64::MAX], [i64::MIN]);
    let put = FileStore::open(&path).unwrap();
    put.transaction(|transaction| transaction.put_data(&data))
        .unwrap();
    assert_eq!(put.data().unwrap().as_ref(), Some(&data));
    drop(put);
    for _ in 0..2 {
        let tracker = DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
        assert_eq!(tracker.store().data().unwrap().as_ref(), Some(&data));
        tracker.record_failure("key", "broken").unwrap();
    }
}

#[test]
fn own_data_that_is_nothing_was_put_nevertheless() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("journal.json");
    let nothing: Option<u32> = None;
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.data::<Option<u32>>().unwrap(), None);
    store
        .transaction(|transaction| transaction.put_data(&nothing))
        .unwrap();
    assert_eq!(store.data().unwrap(), Some(nothing));
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.data().unwrap(), Some(nothing));
}

#[test]
fn p3_a_step_of_a_journal_ends_the_work_it_belongs_to() {
    let directory = tempdir().unwrap();
    let store = FileStore::open(directory.path().join("journal.json")).unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    let started: Result<_, StartError<FileError>> = tracker.store().transaction(|transaction| {
        transaction.put_data(&["begun"])?;
        tracker.start_in(transaction, "disk-7")
    });
    let work = tracker.committed(started.unwrap());
    let ended: Result<_, WorkError<FileError>> = tracker.store().transaction(|transaction| {
        transaction.put_data(&["begun", "done"])?;
        work.finish_in(transaction)
    });
    ended.unwrap();
    assert_eq!(tracker.get("disk-7").unwrap(), None);
    let data: Vec<String> = tracker.store().data().unwrap().unwrap();
    assert_eq!(data, ["begun", "done"]);

    let again: Result<_, WorkError<FileError>> = tracker.store().transaction(|transaction| {
        transaction.put_data(&["done twice"])?;
        work.fail_in(transaction, "too late")
    });
    assert!(matches!(again, Err(WorkError::Lost(LeaseLost::Ended))));
    let data: Vec<String> = tracker.store().data().unwrap().unwrap();
    assert_eq!(data, ["begun", "done"]);
}

#[test]
fn h_a_hint_lifts_the_wait_of_work_that_fails_within_a_transaction() {
    let directory = tempdir().unwrap();
    let store = FileStore::open(directory.path().join("journal.json")).unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    let work = tracker.start("disk-7").unwrap();
    let hint = Some(30 * SECOND);
    let told: Result<_, WorkError<FileError>> = tracker.store().transaction(|transaction| {
        transaction.put_data(&["asked to wait"])?;
        work.fail_with_in(transaction, Some(&POLICY), hint, "too many requests")
    });
    let told = told.unwrap().delay().unwrap();
    assert!(told >= 30 * SECOND, "{told:?}");
    let ready = tracker.check("disk-7").unwrap();
    assert!(
        matches!(ready, Readiness::Wait(left) if left > 20 * SECOND),
        "{ready:?}"
    );
    assert!(tracker.store().data::<Vec<String>>().unwrap().is_some());
}

#[test]
fn p2_a_document_without_another_token_to_give_is_refused() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let text = |last: u64, token: u64| {
        format!(
            r#"{{"relent": 1, "content": {{"last_token": {last}, "records": {{"key": {{
                "first_failure": "2001-01-01T00:00:00Z", "since": "2001-01-01T00:00:00Z",
                "until": "2001-01-01T00:00:00Z", "lease": {{"token": {token}, "holder": "",
                "since": "2001-01-01T00:00:00Z", "until": "2001-01-01T00:00:00Z"}}}}}}}}}}"#
        )
    };
    for (last, token) in [(u64::MAX, 1), ((1 << 63) - 1, 1), (4, 5)] {
        let found = problem(&path, text(last, token).as_bytes());
        assert!(
            matches!(&found, Some(Problem::Damaged(why)) if why.contains("last_token")),
            "{last}, {token}: {found:?}"
        );
    }
    fs::write(&path, text((1 << 63) - 2, 5)).unwrap();
    let tracker = DurableTracker::new(FileStore::open(&path).unwrap(), POLICY);
    assert_eq!(tracker.start("other").unwrap().token(), (1 << 63) - 1);
}

/// Runs a part of a test in a process of its own, in a directory.
fn child(task: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "file::in_a_child", "--test-threads=1"])
        .current_dir(directory)
        .env(TASK, task)
        .stdout(Stdio::null());
    command
}

const TASK: &str = "RELENT_FILE_TASK";

#[test]
fn in_a_child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let opened = FileStore::open("backoff.json").map(|store| DurableTracker::new(store, POLICY));
    match task.as_str() {
        "move" => {
            let tracker = opened.unwrap();
            std::env::set_current_dir("elsewhere").unwrap();
            tracker.record_failure("key", "broken").unwrap();
        }
        "fail" => {
            opened.unwrap().record_failure("key", "broken").unwrap();
        }
        "be refused" => {
            let failed = opened.map_err(Error::Store);
            let failed = failed.and_then(|tracker| tracker.record_failure("key", "broken"));
            assert!(matches!(failed, Err(Error::Store(FileError::Owner { .. }))));
        }
        _ => panic!("{task}"),
    }
}

#[test]
fn a_relative_path_stays_where_it_was_when_the_directory_changes() {
    let directory = tempdir().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let status = child("move", directory.path()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    let path = directory.path().join("backoff.json");
    let tracker = DurableTracker::new(FileStore::open(path).unwrap(), POLICY);
    assert!(tracker.get("key").unwrap().is_some());
    assert!(matches!(FileStore::open(""), Err(FileError::Io { .. })));
}

#[cfg(unix)]
#[test]
fn the_file_keeps_its_owner_or_is_not_written() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65534;

    let directory = tempdir().unwrap();
    let directory = directory.path();
    let path = directory.join("backoff.json");
    written(&path);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    fs::remove_file(directory.join("backoff.json.lock")).unwrap();
    if chown(&path, Some(NOBODY), Some(NOBODY)).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    assert!(child("fail", directory).status().unwrap().success());
    for name in ["backoff.json", "backoff.json.lock"] {
        let now = fs::metadata(directory.join(name)).unwrap();
        assert_eq!((now.uid(), now.gid()), (NOBODY, NOBODY), "{name}");
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);

    // A user who may write to the directory, but does not own the file.
    let before = fs::read(&path).unwrap();
    fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
    for name in ["backoff.json", "backoff.json.lock"] {
        fs::set_permissions(directory.join(name), PermissionsExt::from_mode(0o666)).unwrap();
    }
    let copy = directory.join("test");
    // Not by this process: one that another thread spawns meanwhile would have it open to write,
    // and a file that is open to write cannot be run.
    let mut copying = Command::new("cp");
    copying.arg(std::env::current_exe().unwrap()).arg(&copy);
    assert!(copying.status().unwrap().success());
    let mut refused = Command::new(copy);
    refused.args(["--exact", "file::in_a_child", "--test-threads=1"]);
    refused.current_dir(directory).env(TASK, "be refused");
    refused
        .uid(NOBODY - 1)
        .gid(NOBODY - 1)
        .stdout(Stdio::null());
    assert!(refused.status().unwrap().success());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!directory.join("backoff.json.tmp").exists());

    // Nor does a lock file stay that would lock out the owner of the file.
    let lock = directory.join("backoff.json.lock");
    fs::remove_file(&lock).unwrap();
    assert!(refused.status().unwrap().success());
    assert!(!lock.exists());
}

#[cfg(unix)]
#[test]
fn dropped_it_is_free_at_once_while_other_threads_spawn_processes() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    let directory = tempdir().unwrap();
    let path = directory.path().join("backoff.json");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let opened = (0..300).try_for_each(|_| FileStore::open(&path).map(drop));
        done.store(true, Relaxed);
        opened.unwrap();
    });
}
