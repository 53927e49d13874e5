//! The clients that people use: one that connects again, and that of a cluster, which sends a call
//! again if it gets no answer.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::{Client, cmd};
use relent::store::{DurableTracker, RedisStore};
use relent::{Backoff, Decision, Jitter};

use crate::servers::redis::{self as servers, Server};

const POLICY: Backoff =
    Backoff::exponential(Duration::from_secs(60), Duration::from_secs(3600)).jitter(Jitter::None);

/// Passes everything on; but once told to, cuts the connection instead of answering the next
/// script.
fn proxy(listener: TcpListener, server: u16, lose: Arc<AtomicBool>) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let is_cut = Arc::new(AtomicBool::new(false));
            let (lose, cut) = (Arc::clone(&lose), Arc::clone(&is_cut));
            let (asks, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                pass_on(asks, &server, |text| {
                    if text.windows(7).any(|word| word == b"EVALSHA") && lose.swap(false, SeqCst) {
                        cut.store(true, SeqCst);
                    }
                    true
                })
            });
            thread::spawn(move || pass_on(answers, &client, |_| !is_cut.load(SeqCst)));
        }
    });
}

fn pass_on(mut from: TcpStream, mut to: &TcpStream, goes_on: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut text = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut text).unwrap_or_default();
        if length == 0 || !goes_on(&text[..length]) {
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&text[..length])?;
    }
}

fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// A server that answers, told to use these ports. They were free a moment ago: if somebody else
/// was quicker, it is another server, on others.
async fn server_on_ports<const N: usize>(
    words: impl Fn([u16; N]) -> String,
) -> Option<(Server, [u16; N])> {
    for _ in 0..5 {
        // All at once, so that they differ.
        let listeners = [(); N].map(|()| listener());
        let ports = listeners.each_ref().map(port);
        drop(listeners);
        let words = words(ports);
        let server = Server::with(&words.split(' ').collect::<Vec<_>>())?;
        if server.answers().await.is_ok() {
            return Some((server, ports));
        }
    }
    panic!("no port stays free");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_cluster_that_answers_to_nobody_counts_once() {
    let front = listener();
    let announced = port(&front);
    let words = |[port, bus]: [u16; 2]| {
        format!(
            "--port {port} --cluster-enabled yes --cluster-port {bus} \
             --cluster-announce-ip 127.0.0.1 --cluster-announce-port {announced}"
        )
    };
    let Some((server, [port, _])) = server_on_ports(words).await else {
        return;
    };
    let mut connection = server.connection().await;
    let mut slots = cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16383);
    slots.exec_async(&mut connection).await.unwrap();
    loop {
        let mut info = cmd("CLUSTER");
        let info: String = info.arg("INFO").query_async(&mut connection).await.unwrap();
        if info.contains("cluster_state:ok") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let lose = Arc::new(AtomicBool::new(false));
    proxy(front, port, Arc::clone(&lose));
    let client = ClusterClient::builder(vec![format!("redis://127.0.0.1:{announced}")])
        .connection_timeout(servers::PATIENCE)
        .response_timeout(servers::PATIENCE)
        .build()
        .unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let tracker = DurableTracker::new(store, POLICY);
    each_counts_once(&tracker, &lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_connection_manager_whose_answers_are_lost_counts_once() {
    let front = listener();
    let announced = port(&front);
    let words = |[port]: [u16; 1]| format!("--port {port}");
    let Some((_server, [port])) = server_on_ports(words).await else {
        return;
    };
    let lose = Arc::new(AtomicBool::new(false));
    proxy(front, port, Arc::clone(&lose));
    let client = Client::open(format!("redis://127.0.0.1:{announced}")).unwrap();
    let connection = client.get_connection_manager_with_config(servers::patient_manager());
    let store = RedisStore::new(connection.await.unwrap());
    let tracker = DurableTracker::new(store, POLICY);
    each_counts_once(&tracker, &lose).await;
}

async fn each_counts_once<C>(tracker: &DurableTracker<RedisStore<C>>, lose: &AtomicBool)
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    for failures in 0..4 {
        lose.store(failures > 0, SeqCst);
        let told = tracker.record_failure("key", "broken").await.unwrap();
        let after = POLICY.initial * 2_u32.pow(failures);
        assert_eq!(told, Decision::Retry { after });
        assert!(!lose.load(SeqCst), "nothing was lost");
    }
    lose.store(true, SeqCst);
    let work = tracker.start("work").await.unwrap();
    assert_eq!(work.token(), 1);
    lose.store(true, SeqCst);
    work.finish().await.unwrap();
    lose.store(true, SeqCst);
    assert!(tracker.record_success("key").await.unwrap().is_some());
    assert_eq!(tracker.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_manager_comes_back_after_the_server_does() {
    let Some(server) = Server::new() else {
        return;
    };
    server.connection().await;
    let socket = servers::socket(server.directory());
    let client = Client::open(format!("unix://{}", socket.display())).unwrap();
    let config = servers::patient_manager().set_max_delay(Duration::from_millis(50));
    let connection = client
        .get_connection_manager_with_config(config)
        .await
        .unwrap();
    let tracker = DurableTracker::new(RedisStore::new(connection), POLICY);
    tracker.record_failure("key", "broken").await.unwrap();
    server.stop("KILL");
    tracker.record_failure("key", "lost").await.unwrap_err();
    server.start();
    server.connection().await;
    let mut told = tracker.record_failure("key", "broken").await;
    for _ in 0..100 {
        if told.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = tracker.record_failure("key", "broken").await;
    }
    let after = POLICY.initial * 2;
    assert_eq!(told.unwrap(), Decision::Retry { after });
}

/// In either protocol, and with a password.
#[tokio::test]
async fn a_client_may_speak_either_protocol() {
    let Some(server) = Server::with(&["--requirepass", "secret"]) else {
        return;
    };
    let socket = servers::socket(server.directory());
    for protocol in ["resp2", "resp3"] {
        let socket = socket.display();
        let address = format!("redis+unix://{socket}?protocol={protocol}&pass=secret");
        let client = Client::open(address).unwrap();
        let patient = servers::patient();
        let connect = || client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = connect().await;
        for _ in 0..1000 {
            if connection.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            connection = connect().await;
        }
        let store = RedisStore::new(connection.unwrap());
        let tracker = DurableTracker::new(store.namespace(protocol).unwrap(), POLICY);
        for failures in 0..3 {
            let told = tracker.record_failure("key", "broken").await.unwrap();
            let after = POLICY.initial * 2_u32.pow(failures);
            assert_eq!(told, Decision::Retry { after });
        }
        let batch = [("a", "x"), ("b", "x"), ("a", "x")];
        assert_eq!(tracker.record_failures(&batch).await.unwrap().len(), 3);
        assert_eq!(tracker.waiting(10).await.unwrap().len(), 3);
        assert_eq!(tracker.gave_up(10).await.unwrap(), []);
        tracker
            .start("fresh")
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
    }
}
