//! What is particular to PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relent::store::{
    DurableTracker, Error, Event, Options, PostgresError, PostgresStore, Problem, StartError,
    WorkError,
};
use relent::{Backoff, Decision, Jitter, Readiness};
use sqlx::PgPool;
use sqlx::postgres::PgRow;
use sqlx::{Row, query, query_scalar, raw_sql};

use crate::servers::postgres::{self as server, Server};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Backoff = Backoff::exponential(SECOND, Duration::from_secs(60)).jitter(Jitter::None);

/// A database with a table of the user's, and a tracker on it.
async fn machines() -> Option<(PgPool, DurableTracker<PostgresStore>)> {
    let pool = server::shared()?.database().await;
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let machine = "CREATE TABLE machine (id TEXT PRIMARY KEY, state TEXT NOT NULL)";
    raw_sql(machine).execute(&pool).await.unwrap();
    Some((pool, DurableTracker::new(store, POLICY)))
}

async fn states(pool: &PgPool) -> Vec<String> {
    let states = query_scalar("SELECT state FROM machine ORDER BY id");
    states.fetch_all(pool).await.unwrap()
}

const INSTALLED: &str = "INSERT INTO machine VALUES ($1, 'installed')";

#[tokio::test]
async fn p3_finish_is_committed_with_the_callers_data_or_not_at_all() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let work = tracker.start("m1").await.unwrap();
    for is_committed in [false, true] {
        let mut transaction = pool.begin().await.unwrap();
        query(INSTALLED)
            .bind("m1")
            .execute(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(work.finish_in(&mut transaction).await.unwrap(), None);
        if is_committed {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
            assert_eq!(states(&pool).await, [""; 0]);
            assert!(tracker.get("m1").await.unwrap().is_some());
        }
    }
    assert_eq!(states(&pool).await, ["installed"]);
    assert_eq!(tracker.get("m1").await.unwrap(), None);
    assert!(matches!(work.finish().await, Err(WorkError::Lost(_))));
}

#[tokio::test]
async fn p3_failures_and_successes_join_a_transaction_at_any_isolation() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    for (n, level) in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
        .iter()
        .enumerate()
    {
        let failures = u32::try_from(n).unwrap() + 1;
        assert!(tracker.record_failure("ended", "broken").await.is_ok());
        let work = tracker.start(&format!("m{n}")).await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        let level = format!("SET TRANSACTION ISOLATION LEVEL {level}");
        query(&level).execute(&mut *transaction).await.unwrap();
        assert!(work.fail_in(&mut transaction, "no disk").await.is_ok());
        let failed = tracker
            .record_failure_in(&mut transaction, "m", "no answer")
            .await;
        assert!(failed.is_ok());
        let ended = tracker
            .record_success_in(&mut transaction, "ended")
            .await
            .unwrap();
        assert_eq!(ended.map(|ended| ended.failures), Some(1));
        assert!(
            tracker.get("ended").await.unwrap().is_some(),
            "not committed"
        );
        transaction.commit().await.unwrap();
        assert_eq!(tracker.get("ended").await.unwrap(), None);
        let record = tracker.get(work.key()).await.unwrap().unwrap();
        assert_eq!((&*record.cause, record.lease), ("no disk", None));
        let record = tracker.get("m").await.unwrap().unwrap();
        assert_eq!(record.state.failures, failures);
    }
    let mut connection = pool.acquire().await.unwrap();
    let outside = tracker
        .record_failure_in(&mut connection, "m", "no transaction")
        .await;
    assert!(matches!(
        outside,
        Err(Error::Store(PostgresError::NoTransaction))
    ));
}

/// While a transaction has a key, others wait for it, and then see what it did.
#[tokio::test]
async fn p2_a_key_in_an_open_transaction_is_waited_for_or_passed_over() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let brief = Backoff::fixed(SECOND / 100);
    for key in ["a", "b"] {
        let failed = tracker
            .record_failure_with(key, Some(&brief), None, "")
            .await;
        assert!(failed.is_ok());
    }
    tokio::time::sleep(SECOND / 20).await;
    let mut transaction = pool.begin().await.unwrap();
    let failed = tracker
        .record_failure_in(&mut transaction, "a", "first")
        .await;
    assert!(failed.is_ok());
    let claimed = tracker.claim_due(10).await.unwrap();
    let keys: Vec<_> = claimed.iter().map(|work| work.key().to_owned()).collect();
    assert_eq!(keys, ["b"], "what somebody changes is passed over");
    let waits = tokio::spawn({
        let tracker = tracker.clone();
        async move { tracker.record_failure("a", "second").await }
    });
    tokio::time::sleep(SECOND / 10).await;
    assert!(!waits.is_finished());
    transaction.commit().await.unwrap();
    assert!(waits.await.unwrap().is_ok());
    let record = tracker.get("a").await.unwrap().unwrap();
    assert_eq!((record.state.failures, &*record.cause), (3, "second"));
}

#[tokio::test]
async fn p3_a_finish_whose_connection_is_cut_can_still_be_failed() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let work = tracker.start("m1").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let process: i32 = query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    query(INSTALLED)
        .bind("m1")
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert!(work.finish_in(&mut transaction).await.is_ok());
    let cut = query("SELECT pg_terminate_backend($1)").bind(process);
    cut.execute(&pool).await.unwrap();
    assert!(transaction.commit().await.is_err());
    assert_eq!(states(&pool).await, [""; 0]);
    assert!(work.fail("could not commit").await.is_ok());
    let record = tracker.get("m1").await.unwrap().unwrap();
    assert_eq!(
        (record.state.failures, &*record.cause),
        (1, "could not commit")
    );
}

/// In a transaction the time does not stand still: a lease can run out in it.
#[tokio::test]
async fn p1_a_lease_runs_out_in_the_middle_of_a_transaction() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let options = Options::new(POLICY).time_to_live(SECOND / 5);
    let tracker = DurableTracker::new(tracker.store().clone(), options);
    let mut transaction = pool.begin().await.unwrap();
    query("SELECT now()")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let work = tracker.start("m1").await.unwrap();
    tokio::time::sleep(SECOND / 4).await;
    let late = work.finish_in(&mut transaction).await;
    assert!(matches!(late, Err(WorkError::Lost(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_server_that_restarts_under_load_loses_nothing_acknowledged() {
    let Some(server) = Server::new(&["fsync=off"]) else {
        return;
    };
    let pool = server.database().await;
    let store = PostgresStore::new(pool);
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, Backoff::fixed(Duration::ZERO));
    let is_over = Arc::new(AtomicBool::new(false));
    let workers = (0..8).map(|n| {
        let (tracker, is_over) = (tracker.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let key = format!("{n}");
            let (mut acknowledged, mut unknown) = (0, 0);
            while !is_over.load(Relaxed) {
                match tracker.record_failure(&key, "broken").await {
                    Ok(_) => acknowledged += 1,
                    Err(_) => unknown += 1,
                }
            }
            (key, acknowledged, unknown)
        })
    });
    let workers: Vec<_> = workers.collect();
    for signal in ["QUIT", "INT", "QUIT"] {
        tokio::time::sleep(SECOND / 2).await;
        server.stop(signal);
        server.start();
        server.wait().await;
    }
    tokio::time::sleep(SECOND / 2).await;
    is_over.store(true, Relaxed);
    let (mut all, mut errors) = (0, 0);
    for worker in workers {
        let (key, acknowledged, unknown) = worker.await.unwrap();
        let record = tracker.get(&key).await.unwrap().unwrap();
        let counted = record.state.failures;
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&counted),
            "{acknowledged} acknowledged, {unknown} unknown, {counted} counted"
        );
        all += acknowledged;
        errors += unknown;
    }
    eprintln!("{all} acknowledged and {errors} failed over three restarts");
    assert!(all > 0 && errors > 0);
}

#[tokio::test]
async fn the_anti_join_finds_what_can_be_taken() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    for id in ["fresh", "failed", "gone", "held", "over", "ünïcode"] {
        query(INSTALLED).bind(id).execute(&pool).await.unwrap();
    }
    let brief = Backoff::fixed(Duration::from_micros(1));
    let never = Backoff::never_retry();
    for (key, policy) in [("over", &brief), ("failed", &POLICY), ("gone", &never)] {
        let failed = tracker
            .record_failure_with(key, Some(policy), None, "")
            .await;
        assert!(failed.is_ok());
    }
    let _held = tracker.start("held").await.unwrap();
    let eligible: Vec<String> = query_scalar(
        "SELECT machine.id FROM machine
         LEFT JOIN relent ON relent.namespace = '' AND relent.key = machine.id
            AND relent.due > now()
         WHERE relent.key IS NULL ORDER BY machine.id COLLATE \"C\"",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(eligible, ["fresh", "over", "ünïcode"]);
}

#[tokio::test]
async fn history_tells_in_order_and_is_pruned() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let options = Options::new(POLICY).time_to_live(SECOND);
    let tracker = DurableTracker::new(tracker.store().clone().with_history(), options);
    tracker.start("key").await.unwrap().cancel().await.unwrap();
    let brief = Backoff::fixed(Duration::from_millis(1));
    let work = tracker.start("key").await.unwrap();
    assert!(work.fail_with(Some(&brief), None, "no disk").await.is_ok());
    tokio::time::sleep(SECOND / 100).await;
    drop(tracker.claim_due(10).await.unwrap());
    tokio::time::sleep(SECOND).await;
    assert!(matches!(
        tracker.start("key").await,
        Err(StartError::Refused(_))
    ));
    assert!(tracker.forget("key").await.unwrap());
    assert!(tracker.start("other").await.unwrap().finish().await.is_ok());
    assert!(tracker.start("key").await.unwrap().finish().await.is_ok());

    let entries = tracker.store().history("key", 100).await.unwrap();
    let told: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| (entry.event, entry.cause.as_deref()))
        .collect();
    let expected = [
        (Event::Started, None),
        (Event::Canceled, None),
        (Event::Started, None),
        (Event::Failed, Some("no disk")),
        (Event::Started, None),
        (Event::Expired, Some("lease expired")),
        (Event::Forgotten, None),
        (Event::Started, None),
        (Event::Finished, None),
    ];
    assert_eq!(told, expected);
    assert!(entries.iter().rev().is_sorted_by_key(|entry| entry.at));
    assert_eq!(
        tracker.store().history("key", 2).await.unwrap(),
        entries[..2]
    );
    assert_eq!(
        tracker.store().prune_history(entries[4].at).await.unwrap(),
        4
    );
    assert_eq!(
        tracker.store().history("key", 100).await.unwrap(),
        entries[..5]
    );
    assert_eq!(
        tracker
            .store()
            .prune_history(SystemTime::now() + SECOND)
            .await
            .unwrap(),
        7
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_at_once_and_again_is_harmless() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    let unready = DurableTracker::new(PostgresStore::new(pool.clone()), POLICY);
    let error = unready.record_failure("key", "broken").await;
    assert!(
        matches!(error, Err(Error::Store(PostgresError::NotMigrated))),
        "{error:?}"
    );
    let migrations = (0..8).map(|_| {
        let store = PostgresStore::new(pool.clone());
        tokio::spawn(async move { store.migrate().await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    assert!(unready.record_failure("key", "broken").await.is_ok());
    unready.store().migrate().await.unwrap();
    assert!(unready.get("key").await.unwrap().is_some());
}

/// The table as version 1 made it, word for word, as far as it holds anything.
const VERSION_1: &str = "
CREATE TABLE relent_meta (only_row INT NOT NULL PRIMARY KEY, version BIGINT NOT NULL);
INSERT INTO relent_meta VALUES (1, 1);
CREATE SEQUENCE relent_tokens START 42;
CREATE SEQUENCE relent_latest;
CREATE TABLE relent (
    namespace TEXT NOT NULL, key TEXT NOT NULL, version SMALLINT NOT NULL DEFAULT 1,
    revision BIGINT NOT NULL, failures BIGINT NOT NULL, interval_ns BIGINT,
    first_failure TIMESTAMPTZ NOT NULL, since TIMESTAMPTZ NOT NULL, until TIMESTAMPTZ NOT NULL,
    due TIMESTAMPTZ NOT NULL, gave_up TEXT, cause TEXT NOT NULL,
    token BIGINT, holder TEXT, lease_since TIMESTAMPTZ, lease_until TIMESTAMPTZ,
    PRIMARY KEY (key, namespace)
);
INSERT INTO relent VALUES
    ('', 'key', 1, 1, 9, NULL, 'epoch', 'epoch', 'epoch', 'epoch', NULL, 'old'),
    ('', 'kept', 1, 2, 2, 2000000000, 'epoch', 'epoch', 'epoch', 'epoch', NULL, 'old');
";

#[tokio::test]
async fn p5_a_table_of_the_first_migration_without_intervals_goes_on() {
    let Some(server) = server::shared() else {
        return;
    };
    let pool = server.database().await;
    raw_sql(VERSION_1).execute(&pool).await.unwrap();
    let store = PostgresStore::new(pool).with_history();
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, POLICY);
    assert_eq!(tracker.due(10).await.unwrap().len(), 2);
    assert_eq!(tracker.check("key").await.unwrap(), Readiness::Ready);
    assert_eq!(tracker.start("another").await.unwrap().token(), 42);
    let told = tracker.record_failure("key", "again").await.unwrap();
    assert_eq!(told, Decision::Retry { after: SECOND }, "a clean slate");
    let told = tracker.record_failure("kept", "again").await.unwrap();
    assert_eq!(told, Decision::Retry { after: 4 * SECOND });
    assert_eq!(tracker.store().history("key", 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn p5_tables_that_are_not_ours_are_refused_and_left() {
    let Some(server) = server::shared() else {
        return;
    };
    let refused = async |sql: &str| {
        let pool = server.database().await;
        raw_sql(sql).execute(&pool).await.unwrap();
        let tables =
            "SELECT string_agg(table_name || column_name, ',') FROM information_schema.columns
                      WHERE table_schema = 'public'";
        let before: String = query_scalar(tables).fetch_one(&pool).await.unwrap();
        let refused = PostgresStore::new(pool.clone()).migrate().await;
        let Err(PostgresError::Unreadable(unreadable)) = refused else {
            panic!("{sql}: {refused:?}");
        };
        assert!(
            unreadable.to_string().contains("relent_meta"),
            "{unreadable}"
        );
        let after: String = query_scalar(tables).fetch_one(&pool).await.unwrap();
        assert_eq!(after, before);
        unreadable.problem
    };
    let foreign = refused("CREATE TABLE relent (a INT)").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("CREATE TABLE relent_meta (a INT)").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let foreign = refused("CREATE TABLE relent_meta AS SELECT 1 AS only_row, 'x' AS version").await;
    assert!(matches!(foreign, Problem::Foreign(_)));
    let newer = "CREATE TABLE relent_meta AS SELECT 1 AS only_row, 3::BIGINT AS version";
    assert_eq!(refused(newer).await, Problem::Newer { found: 3, known: 2 });
    let damaged = "CREATE TABLE relent_meta AS SELECT 1 AS only_row, -3::BIGINT AS version";
    assert!(matches!(refused(damaged).await, Problem::Damaged(_)));
}

#[tokio::test]
async fn p5_a_row_that_cannot_be_read_is_named_and_left() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let drop_checks = "
        DO $$ DECLARE name TEXT; BEGIN
            FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'relent'::REGCLASS AND contype = 'c'
            LOOP EXECUTE 'ALTER TABLE relent DROP CONSTRAINT ' || quote_ident(name); END LOOP;
        END $$";
    let cases = [
        ("failures = -1", true),
        ("failures = 4294967296", true),
        ("interval_ns = -1", true),
        ("first_failure = TIMESTAMPTZ '1969-12-31Z'", true),
        ("until = '-infinity'", true),
        ("token = 1", true),
        (
            "token = -1, holder = '', lease_since = now(), lease_until = now()",
            true,
        ),
        ("until = 'infinity'", false),
        ("gave_up = 'bored'", false),
        ("version = 2", false),
    ];
    for is_checked in [true, false] {
        if !is_checked {
            raw_sql(drop_checks).execute(&pool).await.unwrap();
        }
        for (damage, has_check) in cases {
            assert!(tracker.record_failure("the key", "broken").await.is_ok());
            let damaged = format!("UPDATE relent SET {damage}");
            let damaged = query(&damaged).execute(&pool).await;
            assert_eq!(damaged.is_err(), is_checked && has_check, "{damage}");
            if damaged.is_ok() {
                is_refused(&pool, &tracker, damage).await;
            }
            query("DELETE FROM relent").execute(&pool).await.unwrap();
        }
    }
}

async fn is_refused(pool: &PgPool, tracker: &DurableTracker<PostgresStore>, damage: &str) {
    let row = async || {
        let row: PgRow = query("SELECT relent::TEXT AS row FROM relent")
            .fetch_one(pool)
            .await
            .unwrap();
        row.get::<String, _>("row")
    };
    let before = row().await;
    let Err(error) = tracker.record_failure("the key", "broken").await else {
        panic!("{damage} was overlooked");
    };
    let said = error.to_string();
    assert!(
        said.contains("\"the key\"") && said.contains("nothing was changed"),
        "{said}"
    );
    assert!(tracker.start("the key").await.is_err());
    assert!(tracker.get("the key").await.is_err());
    let batch = [("fine", ""), ("the key", "")];
    assert!(tracker.record_failures(&batch).await.is_err());
    assert_eq!(tracker.get("fine").await.unwrap(), None, "half a batch");
    assert_eq!(row().await, before);
}

#[tokio::test]
async fn b8_the_longest_interval_and_the_end_of_time_survive() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let eternal = Backoff::fixed(Duration::MAX);
    for _ in 0..2 {
        let failed = tracker
            .record_failure_with("key", Some(&eternal), None, "")
            .await;
        assert!(failed.is_ok());
        let record = tracker.get("key").await.unwrap().unwrap();
        assert_eq!(record.state.interval, Duration::from_nanos(u64::MAX));
        assert_eq!(
            record.until,
            UNIX_EPOCH + Duration::from_nanos(i64::MAX as u64)
        );
        assert_eq!(tracker.waiting(10).await.unwrap().len(), 1);
    }
    let options = Options::new(POLICY).time_to_live(Duration::MAX);
    let tracker = DurableTracker::new(tracker.store().clone(), options);
    let brief = Backoff::fixed(Duration::from_micros(1));
    let failed = tracker
        .record_failure_with("held", Some(&brief), None, "")
        .await;
    assert!(failed.is_ok());
    let work = tracker.claim_due(1).await.unwrap().remove(0);
    let kept = tracker.get("held").await.unwrap();
    assert_eq!(
        kept.as_ref(),
        Some(work.record()),
        "the statement and the step agree"
    );
}

/// A statement takes what is due; what it wrote is what the step says.
#[tokio::test]
async fn claims_leave_what_the_step_says() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let brief = Backoff::fixed(Duration::from_micros(1));
    for n in 0..20 {
        let key = n.to_string();
        let failed = tracker
            .record_failure_with(&key, Some(&brief), None, "broken")
            .await;
        assert!(failed.is_ok());
    }
    let works = tracker.claim_due(100).await.unwrap();
    assert_eq!(works.len(), 20);
    for work in works {
        let kept = tracker.get(work.key()).await.unwrap();
        assert_eq!(kept.as_ref(), Some(work.record()));
    }
}

/// Nor do they lose anything, whatever the order of their keys.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_overlap_do_not_stand_in_each_others_way() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let workers = (0..6).map(|worker| {
        let tracker = tracker.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let keys: Vec<_> = (0..30)
                    .map(|n| ((n * 7 + worker * 11 + round) % 40).to_string())
                    .collect();
                let batch: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
                assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 30);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let all = tracker.waiting(100).await.unwrap();
    let counted: u32 = all.iter().map(|listed| listed.record.state.failures).sum();
    assert_eq!(counted, 6 * 20 * 30);
}

/// A new row's token is drawn before the row is in its place. Where others draw in between, it gets
/// another; and its holder is told which.
#[tokio::test(flavor = "multi_thread")]
async fn p2_tokens_of_new_rows_are_told_as_they_are_kept() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let workers = (0..8).map(|worker| {
        let tracker = tracker.clone();
        tokio::spawn(async move {
            let mut tokens = vec![];
            for n in 0..40 {
                let work = tracker.start(&format!("{worker} {n}")).await.unwrap();
                let kept = tracker.get(work.key()).await.unwrap();
                assert_eq!(kept.as_ref(), Some(work.record()));
                tokens.push(work.token());
            }
            assert!(tokens.is_sorted());
            tokens
        })
    });
    let mut all = vec![];
    for worker in workers.collect::<Vec<_>>() {
        all.extend(worker.await.unwrap());
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8 * 40);
}

/// Whoever was given a new row's lease keeps it, whatever others do to the row meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn p2_leases_of_new_rows_outlive_what_others_record() {
    let Some((_, tracker)) = machines().await else {
        return;
    };
    let at_once = Backoff::fixed(Duration::from_nanos(1));
    let workers = (0..8).map(|worker| {
        let tracker = DurableTracker::new(tracker.store().clone(), at_once);
        tokio::spawn(async move {
            let mut finished = 0;
            for n in 0..200 {
                let key = ((n + worker) % 3).to_string();
                if worker % 2 == 0 {
                    assert!(tracker.record_failure(&key, "broken").await.is_ok());
                } else if let Ok(work) = tracker.start(&key).await {
                    assert!(work.finish().await.is_ok(), "lost");
                    finished += 1;
                }
            }
            finished
        })
    });
    let mut finished = 0;
    for worker in workers.collect::<Vec<_>>() {
        finished += worker.await.unwrap();
    }
    assert!(finished > 0);
    for key in ["0", "1", "2"] {
        let record = tracker.get(key).await.unwrap();
        assert_eq!(
            record.and_then(|record| record.lease),
            None,
            "a lease of nobody's"
        );
    }
}
