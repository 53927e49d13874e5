//! What is particular to Redis.

use std::time::Duration;

use redis::cmd;
use relent::store::{AsyncStore, DurableTracker, Page, Problem, RedisError, RedisStore, Which};
use relent::{Backoff, Decision, Jitter};

use crate::servers::redis::{self as server, Server};

#[path = "redis/calls.rs"]
mod calls;
#[path = "redis/clients.rs"]
mod clients;
#[path = "redis/lists.rs"]
mod lists;

const POLICY: Backoff =
    Backoff::exponential(Duration::from_millis(50), Duration::from_secs(60)).jitter(Jitter::None);

type Connection = redis::aio::MultiplexedConnection;

async fn store(name: &str) -> Option<(Connection, RedisStore<Connection>)> {
    let connection = server::shared()?.connection().await;
    let store = RedisStore::new(connection.clone()).namespace(name).unwrap();
    Some((connection, store))
}

#[tokio::test]
async fn p5_what_cannot_be_read_is_named_and_left() {
    let Some((mut connection, store)) = store("bad").await else {
        return;
    };
    let tracker = DurableTracker::new(store, POLICY);
    tracker.record_failure("good", "broken").await.unwrap();
    let name = "{relent:bad}:key:bad";
    let good: String = cmd("GET")
        .arg("{relent:bad}:key:good")
        .query_async(&mut connection)
        .await
        .unwrap();
    let newer = good.replace("\"relent\":1", "\"relent\":2");
    let cases = [
        ("hello", "damaged"),
        ("", "damaged"),
        ("{}", "relent's"),
        ("{\"relent\":1}", "damaged"),
        (&good[..good.len() - 1], "damaged"),
        (&good.replace("failures", "failings"), "damaged"),
        (&newer, "newer"),
        ("{\"relent\":7,\"all\":\"else\"}", "newer"),
        ("{\"relent\":-1}", "damaged"),
    ];
    for (text, expected) in cases {
        cmd("SET")
            .arg(name)
            .arg(text)
            .exec_async(&mut connection)
            .await
            .unwrap();
        let Err(relent::store::Error::Store(error)) = tracker.record_failure("bad", "broken").await
        else {
            panic!("{text} was overlooked");
        };
        let said = error.to_string();
        assert!(
            said.contains(name) && said.contains(expected),
            "{text}: {said}"
        );
        tracker.start("bad").await.unwrap_err();
        tracker.get("bad").await.unwrap_err();
        let left: String = cmd("GET")
            .arg(name)
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(left, text);
    }
    cmd("SET")
        .arg(name)
        .arg(newer)
        .exec_async(&mut connection)
        .await
        .unwrap();
    let Err(relent::store::Error::Store(RedisError::Unreadable(unreadable))) =
        tracker.get("bad").await
    else {
        panic!("read what is newer");
    };
    assert_eq!(unreadable.problem, Problem::Newer { found: 2, known: 1 });
}

#[tokio::test]
async fn idle_streaks_expire_and_leave_the_lists() {
    let Some((mut connection, store)) = store("idle").await else {
        return;
    };
    let store = store.expire_idle(Duration::from_millis(100));
    let tracker = DurableTracker::new(store, POLICY);
    for n in 0..5 {
        tracker
            .record_failure(&format!("idle {n}"), "broken")
            .await
            .unwrap();
    }
    let never = Backoff::never_retry();
    let gave_up = tracker.record_failure_with("gave up", Some(&never), None, "broken");
    gave_up.await.unwrap();
    let slow = Backoff::fixed(Duration::from_secs(60));
    let waits = tracker.record_failure_with("waits", Some(&slow), None, "broken");
    waits.await.unwrap();
    let work = tracker.start("held").await.unwrap();
    tracker.record_failure("held", "broken").await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;

    assert_eq!(tracker.get("idle 3").await.unwrap(), None);
    assert_eq!(tracker.due(2).await.unwrap(), []);
    let listed: usize = cmd("ZCARD")
        .arg("{relent:idle}:due")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(listed, 2, "those that expired are in no list");
    for key in ["gave up", "waits", "held"] {
        assert!(tracker.get(key).await.unwrap().is_some(), "{key}");
    }
    work.finish().await.unwrap();
    let told = tracker.record_failure("idle 3", "broken").await.unwrap();
    assert_eq!(
        told,
        Decision::Retry {
            after: POLICY.initial
        }
    );
}

/// Even where nobody ever lists.
#[tokio::test]
async fn idle_streaks_leave_the_lists_as_others_are_written() {
    let Some((mut connection, store)) = store("churn").await else {
        return;
    };
    let soon = Backoff::fixed(Duration::from_millis(1));
    let tracker = DurableTracker::new(store.expire_idle(Duration::ZERO), soon);
    for n in 0..2000 {
        let told = tracker.record_failure(&n.to_string(), "broken").await;
        told.unwrap();
    }
    for list in ["due", "written"] {
        let mut listed = cmd("ZCARD");
        listed.arg(format!("{{relent:churn}}:{list}"));
        let listed: usize = listed.query_async(&mut connection).await.unwrap();
        assert!(listed < 100, "{list}: {listed}");
    }
}

/// Neither a name nor a namespace can be made to look like another.
#[tokio::test]
async fn namespaces_are_apart() {
    let Some((_, store)) = store("apart").await else {
        return;
    };
    let mut trackers = vec![];
    for name in ["a", "a}:key:x", "a}:", "{a}", "a%7D:", "%", ""] {
        let store = store.namespace(name).unwrap();
        trackers.push(DurableTracker::new(store, POLICY));
    }
    for tracker in &trackers {
        for key in ["x", "due", "x}:due"] {
            assert_eq!(tracker.get(key).await.unwrap(), None);
            tracker.record_failure(key, "broken").await.unwrap();
        }
    }
}

#[tokio::test]
async fn p4_a_killed_server_with_appendfsync_always_loses_nothing_and_scripts_are_loaded_anew() {
    let Some(server) = Server::new() else {
        return;
    };
    let tracker = async || DurableTracker::new(RedisStore::new(server.connection().await), POLICY);
    let before = tracker().await;
    let mut tokens = vec![];
    for n in 0..3 {
        let work = before.start(&format!("{n}")).await.unwrap();
        tokens.push(work.token());
        work.fail("broken").await.unwrap();
    }
    server.stop("KILL");
    before.record_failure("0", "lost").await.unwrap_err();
    server.start();
    let after = tracker().await;
    for n in 0..3 {
        let record = after.get(&format!("{n}")).await.unwrap().unwrap();
        assert_eq!(record.state.failures, 1);
    }
    let work = after.start("another").await.unwrap();
    assert!(Some(&work.token()) > tokens.iter().max());
    // A server can forget its scripts at any time.
    let mut connection = server.connection().await;
    cmd("SCRIPT")
        .arg("FLUSH")
        .exec_async(&mut connection)
        .await
        .unwrap();
    work.finish().await.unwrap();
}

/// More than a handle remembers: it takes the keys that it has forgotten for new ones, and the
/// server corrects it.
#[tokio::test]
async fn what_was_forgotten_is_asked_for() {
    let Some((_, store)) = store("large").await else {
        return;
    };
    let tracker = DurableTracker::new(store, POLICY);
    let cause = "long ".repeat(50_000);
    for streak in 0..3 {
        for n in 0..20 {
            let told = tracker.record_failure(&format!("{n}"), &cause).await;
            let after = POLICY.initial * 2_u32.pow(streak);
            assert_eq!(told.unwrap(), Decision::Retry { after });
        }
    }
}

/// A value that somebody else writes, or deletes, is noticed by handles that remember another one.
#[tokio::test]
async fn what_was_changed_by_hand_is_seen() {
    let Some((mut connection, store)) = store("by hand").await else {
        return;
    };
    let tracker = DurableTracker::new(store, POLICY);
    let mut name = cmd("SET");
    let name = name.arg("{relent:by hand}:key:key");
    tracker.record_failure("key", "broken").await.unwrap();
    tracker.record_failure("key", "broken").await.unwrap();
    let edited = "{\"relent\":1,\"first_failure\":0,\"since\":0,\"until\":0,\"failures\":7,\
                  \"interval_ns\":1600000000}";
    name.arg(edited).exec_async(&mut connection).await.unwrap();
    let told = tracker.record_failure("key", "broken").await.unwrap();
    let after = Duration::from_millis(3200);
    assert_eq!(told, Decision::Retry { after });
    cmd("DEL")
        .arg("{relent:by hand}:key:key")
        .exec_async(&mut connection)
        .await
        .unwrap();
    let told = tracker.record_failure("key", "broken").await.unwrap();
    let after = POLICY.initial;
    assert_eq!(told, Decision::Retry { after });
}

/// So many keys that there are more chunks of them than there may be conflicts; in each chunk the
/// handle guesses wrong.
#[tokio::test]
async fn a_batch_of_any_size_is_no_contention() {
    const KEYS: usize = 70 * RedisStore::<Connection>::BATCH;
    let Some((mut connection, store)) = store("many").await else {
        return;
    };
    let fill = "for n = ARGV[2], ARGV[3] - 1 do
            redis.call('SET', '{relent:many}:key:' .. n, ARGV[1])
        end";
    let record = "{\"relent\":1,\"first_failure\":0,\"since\":0,\"until\":0,\"failures\":1,\
                  \"interval_ns\":50000000}";
    for n in (0..KEYS).step_by(1000) {
        let mut filled = cmd("EVAL");
        filled.arg(fill).arg(0).arg(record).arg(n).arg(n + 1000);
        filled.exec_async(&mut connection).await.unwrap();
    }
    let keys: Vec<_> = (0..KEYS).map(|n| n.to_string()).collect();
    let failures: Vec<_> = keys.iter().map(|key| (key.as_str(), "broken")).collect();
    let tracker = DurableTracker::new(store, POLICY);
    let told = tracker.record_failures(&failures).await.unwrap();
    let after = 2 * POLICY.initial;
    assert_eq!(told, vec![Decision::Retry { after }; KEYS]);
}

#[tokio::test]
async fn those_deleted_by_hand_hide_nothing_that_gave_up() {
    let Some((mut connection, store)) = store("gone").await else {
        return;
    };
    let tracker = DurableTracker::new(store, Backoff::never_retry());
    let keys = ["a", "b", "c", "d", "e", "f"];
    tracker
        .record_failures(&keys.map(|key| (key, "broken")))
        .await
        .unwrap();
    let names = ["b", "c", "d"].map(|key| format!("{{relent:gone}}:key:{key}"));
    let mut delete = cmd("DEL");
    delete
        .arg(&names)
        .exec_async(&mut connection)
        .await
        .unwrap();
    let store = tracker.store();
    let mut page = Page::first(Which::GaveUp, 2);
    let mut listed = vec![];
    while let Some(last) = store.list(&page).await.unwrap().last() {
        page = page.after(last);
        listed.push(last.key.clone());
    }
    assert_eq!(listed, ["e", "f"], "the last of each page");
    for list in ["gave-up", "written"] {
        let mut left = cmd("ZCARD");
        left.arg(format!("{{relent:gone}}:{list}"));
        let left: usize = left.query_async(&mut connection).await.unwrap();
        assert_eq!(left, 3, "{list}");
    }
}

/// Neither a record nor a list that is of another type lets a script end halfway.
#[tokio::test]
async fn p5_what_is_of_another_type_tears_no_batch() {
    let Some((mut connection, store)) = store("foreign").await else {
        return;
    };
    let tracker = DurableTracker::new(store, POLICY);
    // The handle has heard the time: from now on it guesses.
    tracker.record_failure("another", "broken").await.unwrap();
    let keys = ["a", "k", "z"];
    let batch = keys.map(|key| (key, "broken"));
    for foreign in ["key:k", "due", "written", "gave-up", "token"] {
        let name = |name: &str| format!("{{relent:foreign}}:{name}");
        let lists = ["due", "written", "gave-up", "token"].map(name);
        cmd("DEL")
            .arg(&lists)
            .exec_async(&mut connection)
            .await
            .unwrap();
        let mut push = cmd("RPUSH");
        push.arg(name(foreign)).arg("theirs");
        push.exec_async(&mut connection).await.unwrap();

        let said = if foreign == "token" {
            tracker.start("k").await.unwrap_err().to_string()
        } else {
            tracker
                .record_failures(&batch)
                .await
                .unwrap_err()
                .to_string()
        };
        let expected = if foreign == "key:k" {
            &name(foreign)
        } else {
            "WRONGTYPE"
        };
        assert!(said.contains(expected), "{foreign}: {said}");
        let theirs: usize = cmd("LLEN")
            .arg(name(foreign))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(theirs, 1, "{foreign} is left as it is");
        cmd("DEL")
            .arg(name(foreign))
            .exec_async(&mut connection)
            .await
            .unwrap();
        for key in keys {
            let is_kept = tracker.get(key).await.unwrap().is_some();
            let mut listed = cmd("ZSCORE");
            listed.arg(name("due")).arg(key);
            let listed: Option<f64> = listed.query_async(&mut connection).await.unwrap();
            assert_eq!(is_kept, listed.is_some(), "{foreign}: {key} is torn");
            tracker.forget(key).await.unwrap();
        }
    }
}

/// All others are changed, and are not lost with it, in a batch as well as in a claim.
#[tokio::test]
async fn p5_what_cannot_be_read_keeps_no_other_of_a_batch_from_being_changed() {
    let Some((mut connection, store)) = store("batch of one bad").await else {
        return;
    };
    let bad = "{relent:batch of one bad}:key:k";
    let mut set = cmd("SET");
    let set = set.arg(bad).arg("{\"relent\":2}");
    set.exec_async(&mut connection).await.unwrap();
    let warm = DurableTracker::new(store.clone(), POLICY);
    for failures in 1..4 {
        let cold = DurableTracker::new(store.namespace("batch of one bad").unwrap(), POLICY);
        let tracker = if failures == 2 { &cold } else { &warm };
        let failed = tracker.record_failures(&[("a", "broken"), ("k", "broken"), ("z", "broken")]);
        let said = failed.await.unwrap_err().to_string();
        assert!(said.contains(bad) && said.contains("newer"), "{said}");
        for key in ["a", "z"] {
            let record = warm.get(key).await.unwrap().unwrap();
            assert_eq!(record.state.failures, failures, "{key}");
        }
    }
    let kept: String = cmd("GET")
        .arg(bad)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, "{\"relent\":2}");
}

/// Every verb, by a user who has the documented rights and no others.
#[tokio::test]
async fn a_user_needs_no_more_than_the_documented_rights() {
    const RIGHTS: &str = "on >secret ~{relent:* +@read +@write +@scripting +time";
    let Some(server) = server::shared() else {
        return;
    };
    let mut connection = server.connection().await;
    let mut user = cmd("ACL");
    user.arg("SETUSER")
        .arg("worker")
        .arg(RIGHTS.split(' ').collect::<Vec<_>>());
    user.exec_async(&mut connection).await.unwrap();
    let auth = cmd("AUTH").arg("worker").arg("secret").to_owned();
    auth.exec_async(&mut connection).await.unwrap();
    let refused = cmd("GET")
        .arg("another's")
        .exec_async(&mut connection)
        .await;
    assert!(refused.is_err(), "it may do anything");

    let store = RedisStore::new(connection).namespace("rights").unwrap();
    let store = store.expire_idle(Duration::from_secs(60));
    let tracker = DurableTracker::new(store, Backoff::fixed(Duration::from_micros(1)));
    let batch = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "x")];
    assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 4);
    let never = Some(&Backoff::never_retry());
    let failed = tracker.record_failure_with("d", never, None, "x").await;
    failed.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(tracker.due(10).await.unwrap().len(), 3);
    assert_eq!(tracker.waiting(10).await.unwrap().len(), 0);
    assert_eq!(tracker.gave_up(10).await.unwrap().len(), 1);
    let works = tracker.claim_due(2).await.unwrap();
    tracker.beat().await.unwrap();
    works[0].fail("x").await.unwrap();
    works[1].finish().await.unwrap();
    tracker
        .start("fresh")
        .await
        .unwrap()
        .cancel()
        .await
        .unwrap();
    assert!(tracker.forget("d").await.unwrap());
    tracker.record_success("c").await.unwrap();
    assert_eq!(tracker.store().unreadable(10).await.unwrap(), []);
}
