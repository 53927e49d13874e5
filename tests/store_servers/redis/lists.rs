//! Listings: in order, a bounded part of the server's time at once, and read only.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Script, cmd};
use relent::store::{
    AsyncStore, DurableTracker, Error, Fault, Listed, Page, RedisError, RedisStore, Which,
    WriteBehind,
};
use relent::{Backoff, BackoffTracker, Jitter};

use super::{Connection, store};
use crate::servers::redis::Server;

const AT_ONCE: Backoff = Backoff::fixed(Duration::from_nanos(1)).jitter(Jitter::None);
const SLOWLY: Backoff = Backoff::fixed(Duration::from_secs(600)).jitter(Jitter::None);

/// Records failures at times this many seconds ahead of now, one microsecond after the other.
async fn fill(connection: &mut Connection, namespace: &str, keys: u64, ahead: i64) {
    let fill = "
        local time = redis.call('TIME')
        local prefix, now = '{relent:' .. ARGV[1] .. '}:', (time[1] + ARGV[3]) * 1000000
        for n = 1, ARGV[2] do
            local since = string.format('%.0f', now + n)
            local due = string.format('%.0f', now + n + 60000000)
            local key = string.format('%s %05d', ARGV[3], n)
            redis.call('SET', prefix .. 'key:' .. key, '{\"relent\":1,\"first_failure\":' .. since
                .. ',\"since\":' .. since .. ',\"until\":' .. due
                .. ',\"failures\":1,\"interval_ns\":60000000000}')
            redis.call('ZADD', prefix .. 'due', due, key)
            redis.call('ZADD', prefix .. 'written', since, key)
        end";
    let fill = Script::new(fill);
    let mut fill = fill.prepare_invoke();
    fill.key("fill").arg(namespace).arg(keys).arg(ahead);
    let () = fill.invoke_async(connection).await.unwrap();
}

async fn pages(
    store: &RedisStore<Connection>,
    which: Which,
    limit: usize,
) -> Result<Vec<Listed>, RedisError> {
    let mut page = Page::first(which, limit);
    let mut all = vec![];
    loop {
        let listed = store.list(&page).await?;
        assert!(listed.len() <= limit);
        let Some(last) = listed.last() else {
            return Ok(all);
        };
        page = page.after(last);
        all.extend(listed);
    }
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.key.as_str()).collect()
}

/// How often the server has carried out these commands.
async fn calls(connection: &mut Connection, commands: &[&str]) -> u64 {
    let mut stats = cmd("INFO");
    let stats: String = stats
        .arg("commandstats")
        .query_async(connection)
        .await
        .unwrap();
    let calls = |command| {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")[..]));
        let number = line.and_then(|line| line.split(',').next()?.parse::<u64>().ok());
        number.unwrap_or_default()
    };
    commands.iter().map(calls).sum()
}

#[tokio::test]
async fn after_a_clock_was_set_back_a_listing_looks_at_few_keys_at_a_time() {
    const KEYS: u64 = 5000;
    let Some(server) = Server::new() else {
        return;
    };
    let mut connection = server.connection().await;
    let store = RedisStore::new(connection.clone())
        .namespace("back")
        .unwrap();
    fill(&mut connection, "back", KEYS, 3600).await;

    let looks = ["get", "zscore"];
    let before = calls(&mut connection, &looks).await;
    let listed = store.list(&Page::first(Which::Due, 1)).await.unwrap();
    assert_eq!(keys(&listed), ["3600 00001"]);
    let after = calls(&mut connection, &looks).await;
    assert!(after - before < 100, "{} looks for one key", after - before);

    let tracker = DurableTracker::new(store.clone(), AT_ONCE);
    assert!(tracker.claim_due(10).await.unwrap().is_empty());
    assert_eq!(tracker.waiting(100).await.unwrap().len(), 10, "set right");

    let all = pages(&store, Which::Due, 999).await.unwrap();
    let expected: Vec<_> = (11..=KEYS).map(|n| format!("3600 {n:05}")).collect();
    assert_eq!(keys(&all), expected);
}

/// Whether the keys from the future are few among many, or many among few.
#[tokio::test]
async fn those_from_the_future_are_listed_as_due_in_their_order() {
    let Some((mut connection, store)) = store("future").await else {
        return;
    };
    for few in [100, 1500] {
        fill(&mut connection, "future", 30, -3600).await;
        fill(&mut connection, "future", 1200, 0).await;
        fill(&mut connection, "future", few, 3600).await;
        for limit in [7, 1000, 5000] {
            let due = pages(&store, Which::Due, limit).await.unwrap();
            let expected = (1..=30).map(|n| format!("-3600 {n:05}"));
            let expected = expected.chain((1..=few).map(|n| format!("3600 {n:05}")));
            assert_eq!(keys(&due), expected.collect::<Vec<_>>(), "{few} by {limit}");
            let waiting = pages(&store, Which::Waiting, limit).await.unwrap();
            let expected = (1..=1200).map(|n| format!("0 {n:05}"));
            assert_eq!(
                keys(&waiting),
                expected.collect::<Vec<_>>(),
                "{few} by {limit}"
            );
        }
    }
}

/// Many keys that are due in the same microsecond, of which some come and go between two pages.
#[tokio::test]
async fn keys_that_are_due_at_once_are_listed_once_each_by_their_bytes() {
    let Some((mut connection, store)) = store("ties").await else {
        return;
    };
    let tracker = DurableTracker::new(store.clone(), SLOWLY);
    let mut names: Vec<_> = (0..990).map(|n| format!("{}ß {n}", n % 7)).collect();
    names.extend(
        [
            "",
            "a",
            "A",
            "ä",
            "Z",
            "é",
            "\u{10ffff}",
            "a b",
            "a-b",
            "ab",
        ]
        .map(String::from),
    );
    let failures: Vec<_> = names.iter().map(|key| (key.as_str(), "broken")).collect();
    // A first call, which tells the handle the time.
    tracker.record_failure("other", "broken").await.unwrap();
    tracker.record_success("other").await.unwrap();
    assert_eq!(
        tracker.record_failures(&failures).await.unwrap().len(),
        1000
    );
    names.sort_unstable();
    let mut scores = cmd("ZRANGE");
    scores
        .arg("{relent:ties}:due")
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES");
    let scores: Vec<(String, f64)> = scores.query_async(&mut connection).await.unwrap();
    assert!(
        scores
            .iter()
            .all(|it| it.1.to_bits() == scores[0].1.to_bits())
    );
    for limit in [1, 13, 400, 1000] {
        let all = pages(&store, Which::Waiting, limit).await.unwrap();
        assert_eq!(keys(&all), names, "by {limit}");
    }

    let first = store.list(&Page::first(Which::Waiting, 10)).await.unwrap();
    let page = Page::first(Which::Waiting, 10).after(&first[9]);
    tracker.record_success(&first[9].key).await.unwrap();
    let second = store.list(&page).await.unwrap();
    assert_eq!(keys(&second), &names[10..20]);
}

/// Tried on a replica, and where there is no more memory.
#[tokio::test]
async fn listings_are_read_only() {
    let Some(server) = Server::new() else {
        return;
    };
    let mut connection = server.connection().await;
    let store = RedisStore::new(connection.clone());
    let tracker = DurableTracker::new(store.clone(), AT_ONCE);
    for n in 0..5 {
        tracker
            .record_failure(&format!("due {n}"), "broken")
            .await
            .unwrap();
        for (name, backoff) in [("waits", SLOWLY), ("gave up", Backoff::never_retry())] {
            let name = format!("{name} {n}");
            let recorded = tracker.record_failure_with(&name, Some(&backoff), None, "broken");
            recorded.await.unwrap();
        }
    }
    let mut delete = cmd("DEL");
    let gone = ["due 1", "waits 1", "gave up 1"].map(|key| format!("{{relent:}}:key:{key}"));
    delete.arg(&gone);
    delete.exec_async(&mut connection).await.unwrap();
    let words: [&[&str]; 2] = [
        &["REPLICAOF", "127.0.0.1", "1"],
        &["CONFIG", "SET", "maxmemory", "1"],
    ];
    for words in words {
        let mut set = cmd(words[0]);
        set.arg(&words[1..])
            .exec_async(&mut connection)
            .await
            .unwrap();
        for which in [Which::Due, Which::Waiting, Which::GaveUp] {
            let all = pages(&store, which, 2).await.unwrap();
            assert_eq!(all.len(), 4, "{which:?}: {words:?}");
        }
        assert!(tracker.get("due 3").await.unwrap().is_some());
        let refused = tracker.record_failure("due 3", "broken").await;
        let Err(Error::Store(refused)) = refused else {
            panic!("{refused:?}");
        };
        // Where there is no memory, some keys can still be deleted.
        let is_a_replica = words[0] == "REPLICAOF";
        assert_eq!(
            store.fault(&refused) == Fault::Store,
            is_a_replica,
            "{refused}"
        );
        let mut back = cmd("REPLICAOF");
        back.arg("NO")
            .arg("ONE")
            .exec_async(&mut connection)
            .await
            .unwrap();
    }
    assert!(tracker.record_success("due 3").await.unwrap().is_some());
}

/// What cannot be read is in no other key's way, and is reported where nothing else is left.
#[tokio::test]
async fn p5_what_cannot_be_read_hides_nothing_else() {
    let Some((mut connection, store)) = store("hides").await else {
        return;
    };
    let newer = "{\"relent\":2,\"all\":\"else\"}";
    let name = |key: &str| format!("{{relent:hides}}:key:{key}");
    let tracker = DurableTracker::new(store.clone(), AT_ONCE);
    let good: Vec<_> = (0..20).map(|n| format!("good {n:02}")).collect();
    for (n, good) in good.iter().enumerate() {
        tracker.record_failure(good, "broken").await.unwrap();
        tracker
            .record_failure(&format!("bad {n}"), "broken")
            .await
            .unwrap();
        let mut set = cmd("SET");
        set.arg(name(&format!("bad {n}"))).arg(newer);
        set.exec_async(&mut connection).await.unwrap();
    }
    for limit in [1, 3, 100] {
        let listed = pages(&store, Which::Due, limit).await.unwrap();
        assert_eq!(keys(&listed), good, "by {limit}");
    }
    assert_eq!(store.unreadable(7).await.unwrap().len(), 7);
    let all = store.unreadable(100).await.unwrap();
    let all: BTreeSet<_> = all.into_iter().map(|unreadable| unreadable.place).collect();
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|place| place.contains(&name("bad "))));
    let mut works = vec![];
    while works.len() < 20 {
        let some = tracker.claim_due(7).await.unwrap();
        assert_eq!(some.len(), 7.min(20 - works.len()));
        works.extend(some);
    }
    assert_eq!(tracker.waiting(100).await.unwrap().len(), 20);
    for said in [
        tracker.due(10).await.unwrap_err().to_string(),
        tracker.claim_due(10).await.unwrap_err().to_string(),
    ] {
        assert!(
            said.contains(&name("bad 0")) && said.contains("newer"),
            "{said}"
        );
    }
    // A tracker in front of the store passes them over, although nothing else is due.
    let behind = WriteBehind::open(store.clone(), BackoffTracker::new(AT_ONCE)).await;
    assert_eq!(behind.unwrap().tracker().len(), 20);
    for n in 0..20 {
        let mut get = cmd("GET");
        let kept: String = get
            .arg(name(&format!("bad {n}")))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(kept, newer);
    }
}
