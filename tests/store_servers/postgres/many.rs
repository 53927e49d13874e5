//! Many at once, and a server that restarts under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use relent::Backoff;
use relent::store::{AsyncStore, Change, DurableTracker, PostgresStore, Record, StartError};

use sqlx::{ConnectOptions, query, query_scalar, raw_sql};

use super::{SECOND, machines};
use crate::servers::postgres::Server;

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

/// The pool does not check its connections, and so learns by a call that one is gone.
#[tokio::test]
async fn after_a_restart_each_connection_fails_one_call() {
    let Some(server) = Server::new(&["fsync=off"]) else {
        return;
    };
    let pool = server.database().await;
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let tracker = DurableTracker::new(store, Backoff::DEFAULT);
    let three = [
        pool.acquire().await,
        pool.acquire().await,
        pool.acquire().await,
    ];
    assert!(three.iter().all(Result::is_ok));
    drop(three);
    tokio::time::sleep(SECOND / 5).await;
    assert_eq!(pool.num_idle(), 3);
    server.stop("INT");
    server.start();
    server.wait().await;
    let mut failed = 0;
    for _ in 0..10 {
        failed += u32::from(tracker.record_failure("key", "broken").await.is_err());
    }
    assert!(failed <= 3, "{failed}");
    let record = tracker.get("key").await.unwrap().unwrap();
    assert_eq!(record.state.failures, 10 - failed);
}

/// Whatever the order of their keys; and nothing is lost.
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

/// One batch deletes what another has counted, and is told how much that was: nothing is lost, and
/// nothing is counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_write_and_delete_at_once_count_everything_once() {
    const KEYS: u32 = 12;
    let Some((_, tracker)) = machines().await else {
        return;
    };
    tracker.record_failure("model", "broken").await.unwrap();
    let first = tracker.get("model").await.unwrap().unwrap();
    let workers = (0..3).map(|worker| {
        let (tracker, first) = (tracker.clone(), first.clone());
        tokio::spawn(async move {
            let (mut written, mut deleted) = (0, 0);
            for round in 0..10 {
                let numbers = (0..KEYS).map(|n| (n * 7 + worker * 5 + round) % KEYS);
                let keys: Vec<_> = numbers.map(|n| n.to_string()).collect();
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                let first = first.clone();
                let turn = move |n: usize, kept: Option<&Record>, _| {
                    if n % 3 == 0 {
                        return Change::delete(kept.map_or(0, |kept| kept.state.failures));
                    }
                    let mut record = first.clone();
                    record.state.failures += kept.map_or(0, |kept| kept.state.failures);
                    Change::put(record, 0)
                };
                let answers = tracker.store().update_all(&keys, turn).await.unwrap();
                written += KEYS - KEYS.div_ceil(3);
                deleted += answers.into_iter().sum::<u32>();
            }
            (written, deleted)
        })
    });
    let (mut written, mut deleted) = (0, 0);
    for worker in workers.collect::<Vec<_>>() {
        let told = worker.await.unwrap();
        (written, deleted) = (written + told.0, deleted + told.1);
    }
    let due = tracker.due(100).await.unwrap();
    let waiting = tracker.waiting(100).await.unwrap();
    let left = due.iter().chain(&waiting);
    let left = left.filter(|listed| listed.key != "model");
    let left: u32 = left.map(|listed| listed.record.state.failures).sum();
    assert!(deleted > 0);
    assert_eq!(written, deleted + left);
}

/// Every batch locks its rows in the same order, even those that are not there yet: so no two wait
/// for each other, and the database never has to choose whose work to throw away.
#[tokio::test(flavor = "multi_thread")]
async fn batches_over_the_same_new_keys_never_wait_in_a_circle() {
    const KEYS: usize = 8;
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    tracker.record_failure("model", "broken").await.unwrap();
    let model = tracker.get("model").await.unwrap().unwrap();
    let workers = (0..8).map(|worker| {
        let (tracker, model) = (tracker.clone(), model.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let keys = (0..KEYS).map(|n| ((n * 3 + worker + round) % KEYS).to_string());
                let keys: Vec<_> = keys.collect();
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                let model = model.clone();
                // All fail; all succeed; or some of each, and some are left as they are.
                let turn = move |n: usize, _: Option<&Record>, _| match (worker + round) % 4 {
                    0 | 1 => Change::put(model.clone(), ()),
                    2 => Change::delete(()),
                    _ => match n % 3 {
                        0 => Change::delete(()),
                        1 => Change::put(model.clone(), ()),
                        _ => Change::keep(()),
                    },
                };
                tracker.store().update_all(&keys, turn).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let places = "SELECT count(*) FROM relent WHERE cause = ''";
    let places: i64 = query_scalar(places).fetch_one(&pool).await.unwrap();
    assert_eq!(places, 0, "rows that only held a place");
    let options = pool.connect_options();
    pool.close().await;
    tokio::time::sleep(SECOND / 2).await;
    let circles = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let circles: i64 = query_scalar(circles)
        .fetch_one(&mut options.connect().await.unwrap())
        .await
        .unwrap();
    assert_eq!(circles, 0);
}

/// What is due is found without reading what waits, whoever writes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn claims_and_lists_at_once_do_not_read_what_waits() {
    const WAITING: i64 = 20_000;
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let fill = "
        INSERT INTO relent (namespace, key, revision, failures, interval_ns, first_failure, since,
            until, due, cause)
        SELECT '', 'waits ' || n, n, 1, 1, now(), now(), time, time, 'broken'
        FROM (SELECT n, now() + INTERVAL '1 hour' AS time FROM generate_series(1, $1) AS n) AS new";
    query(fill).bind(WAITING).execute(&pool).await.unwrap();
    raw_sql("ANALYZE relent").execute(&pool).await.unwrap();
    let at_once = Backoff::fixed(Duration::from_nanos(1));
    let workers = (0..8).map(|worker| {
        let tracker = DurableTracker::new(tracker.store().clone(), at_once);
        tokio::spawn(async move {
            for n in 0..40 {
                let key = format!("{worker} {n}");
                tracker.record_failure(&key, "broken").await.unwrap();
                for work in tracker.claim_due(2).await.unwrap() {
                    work.finish().await.unwrap();
                }
                assert!(tracker.due(2).await.unwrap().len() <= 2);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    // Connections tell what they read when they end.
    let options = pool.connect_options();
    pool.close().await;
    tokio::time::sleep(SECOND / 2).await;
    let read: i64 = query_scalar(
        "SELECT (seq_tup_read + idx_tup_fetch)::BIGINT FROM pg_stat_user_tables
         WHERE relname = 'relent'",
    )
    .fetch_one(&mut options.connect().await.unwrap())
    .await
    .unwrap();
    assert!((1000..WAITING).contains(&read), "{read}");
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

/// Nobody else knows of the lease by then, so it gets its second token however often the database
/// has to be asked; but no transaction of the caller's is held up, nor is an error that stays.
#[tokio::test]
async fn p2_a_second_token_is_asked_for_until_the_database_gives_it() {
    let Some((pool, tracker)) = machines().await else {
        return;
    };
    let refusing = "
        CREATE SEQUENCE tries;
        CREATE FUNCTION draw() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('relent_tokens'); RETURN NEW; END $$;
        CREATE TRIGGER draw BEFORE INSERT ON relent FOR EACH ROW EXECUTE FUNCTION draw();
        CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.key = 'never' THEN RAISE 'no'; END IF;
            IF nextval('tries') % 4 > 0 THEN RAISE '40001' USING ERRCODE = '40001'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON relent FOR EACH ROW EXECUTE FUNCTION refuse()";
    raw_sql(refusing).execute(&pool).await.unwrap();
    let work = tracker.start("key").await.unwrap();
    let kept = tracker.get("key").await.unwrap();
    assert_eq!(kept.as_ref(), Some(work.record()));
    let last: i64 = query_scalar("SELECT last_value FROM relent_tokens")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(work.token(), last.unsigned_abs());

    let refused = tokio::time::timeout(5 * SECOND, tracker.start("never")).await;
    refused.unwrap().unwrap_err();
    let mut theirs = pool.begin().await.unwrap();
    let Err(StartError::Store(refused)) = tracker.start_in(&mut theirs, "within").await else {
        panic!("the database was asked again");
    };
    assert!(refused.to_string().contains("40001"), "{refused}");
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
                    tracker.record_failure(&key, "broken").await.unwrap();
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
