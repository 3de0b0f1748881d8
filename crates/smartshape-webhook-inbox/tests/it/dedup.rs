//! The deduplication store in the database, for processes that handle inline.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use smartshape_webhook::{
    ClaimState, DedupStore as _, Delivery, DeliveryKey, HandlerError, LeaseToken, Receiver, RequestHead,
    Secret,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::it::fixture::{Fixture as _, LONG, Server, on_postgres};
#[cfg(feature = "sqlite")]
use crate::it::fixture::{assert_error, file_inbox};
use crate::{Inbox, InboxErrorKind, PostgresDedupStore};

const SECRET: &str = "the secret of the replicas";

on_postgres! {
    database:
    dedup_store_gives_a_key_to_one_of_concurrent_claims
    dedup_store_obeys_only_the_holder_of_the_claim
    dedup_store_forgets_expired_claims_and_completions
    delivery_repeated_to_three_processes_is_handled_once
}

async fn store(server: &Server) -> PostgresDedupStore {
    server.inbox().await.dedup_store().unwrap()
}

fn key(number: u32) -> DeliveryKey {
    DeliveryKey::new(&number.to_string(), "file_uploaded", "o")
}

fn token(number: u128) -> LeaseToken {
    LeaseToken::new(u128::MAX - number)
}

async fn dedup_store_gives_a_key_to_one_of_concurrent_claims(server: &Server) {
    let stores = [store(server).await, store(server).await];
    let claim_all = async |key| {
        let claim = |number: usize| stores[number % 2].claim(key, token(number as u128), LONG);
        join_all((0..16).map(claim)).await
    };
    // On a busy machine the first connections take longer than a call may.
    let mut warm = 1000;
    while claim_all(key(warm)).await.iter().any(Result::is_err) {
        warm += 1;
    }
    for round in 0..10 {
        let states: Vec<_> = claim_all(key(round)).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(states.iter().filter(|state| **state == ClaimState::New).count(), 1, "{states:?}");
        assert!(!states.contains(&ClaimState::Done));
    }
}

async fn dedup_store_obeys_only_the_holder_of_the_claim(server: &Server) {
    let (one, two) = (store(server).await, store(server).await);
    let claim = async |number| two.claim(key(1), token(number), LONG).await.unwrap();
    assert_eq!(one.claim(key(1), token(1), LONG).await.unwrap(), ClaimState::New);
    // A stranger's calls change nothing.
    one.release(key(1), token(2)).await.unwrap();
    one.complete(key(1), token(2)).await.unwrap();
    assert_eq!(claim(2).await, ClaimState::InFlight);
    one.release(key(1), token(1)).await.unwrap();
    assert_eq!(claim(2).await, ClaimState::New);
    one.complete(key(1), token(1)).await.unwrap();
    assert_eq!(claim(3).await, ClaimState::InFlight, "a late holder completes no newer claim");
    two.complete(key(1), token(2)).await.unwrap();
    // A release after the completion undoes nothing.
    two.release(key(1), token(2)).await.unwrap();
    assert_eq!(claim(4).await, ClaimState::Done);
    assert_eq!(one.claim(key(2), token(5), LONG).await.unwrap(), ClaimState::New, "another delivery");
}

async fn dedup_store_forgets_expired_claims_and_completions(server: &Server) {
    let store = store(server).await;
    let claim = async |number, ttl| store.claim(key(1), token(number), ttl).await.unwrap();
    assert_eq!(claim(1, Duration::ZERO).await, ClaimState::New);
    assert_eq!(claim(2, LONG).await, ClaimState::New, "the first one has crashed");
    store.complete(key(1), token(2)).await.unwrap();
    assert_eq!(claim(3, LONG).await, ClaimState::Done);
    server.execute("UPDATE smartshape_inbox_dedup SET expires = now()").await;
    assert_eq!(claim(3, LONG).await, ClaimState::New);
    // A completion whose claim has expired and was deleted is recorded; and each one deletes two expired rows.
    server.execute("UPDATE smartshape_inbox_dedup SET expires = now()").await;
    for number in 2..9 {
        store.complete(key(number), token(1)).await.unwrap();
    }
    assert_eq!(server.number("SELECT count(*) FROM smartshape_inbox_dedup").await, 7);
    assert_eq!(store.claim(key(8), token(9), LONG).await.unwrap(), ClaimState::Done);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn dedup_store_needs_postgresql() {
    let (_folder, inbox) = file_inbox().await;
    assert_error(&inbox.dedup_store().unwrap_err(), InboxErrorKind::InvalidSettings, "");
}

/// One of several processes behind one port. Runs only as a process of the test below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica() {
    let (Ok(url), Ok(port)) = (std::env::var("REPLICA_URL"), std::env::var("REPLICA_PORT")) else { return };
    let store = Inbox::open(&url).await.unwrap().dedup_store().unwrap();
    let receiver = Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .dedup_store(store, Duration::from_secs(3))
        .build()
        .unwrap();
    let listener = reuse(port.parse().unwrap()).listen(64).unwrap();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(respond(connection, receiver.clone(), url.clone()));
    }
}

/// A socket at a port that several processes share.
fn reuse(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
    socket
}

/// Reads a delivery, and responds with the status and this process.
async fn respond(mut connection: TcpStream, receiver: Receiver, url: String) {
    let mut body = Vec::new();
    connection.read_to_end(&mut body).await.unwrap();
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let handler = move |delivery: Delivery| {
        let url = url.clone();
        async move {
            let mut connection = PgConnection::connect(&url).await?;
            let insert = "INSERT INTO handled (uuid, pid) VALUES ($1, $2)";
            sqlx::query(insert)
                .bind(delivery.uuid())
                .bind(i64::from(std::process::id()))
                .execute(&mut connection)
                .await?;
            let hangs = "SELECT count(*) FROM handled WHERE uuid = $1 AND uuid LIKE 'crash%'";
            if sqlx::query_scalar::<_, i64>(hangs).bind(delivery.uuid()).fetch_one(&mut connection).await?
                == 1
            {
                std::future::pending::<()>().await;
            }
            Ok::<(), HandlerError>(())
        }
    };
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    let response = receiver.serve(&head, body, Arc::new(handler)).await;
    let response = format!("{} {}", response.status(), std::process::id());
    connection.write_all(response.as_bytes()).await.unwrap();
}

fn spawn(url: &str, port: u16) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "it::dedup::replica", "--test-threads=1"])
        .envs([("REPLICA_URL", url), ("REPLICA_PORT", &port.to_string())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The status, and the process that responded; nothing when it was killed.
async fn send(port: u16, uuid: &str) -> Option<(u16, u32)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
    );
    connection.write_all(body.as_bytes()).await.ok()?;
    connection.shutdown().await.ok()?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await.ok()?;
    let (status, process) = response.split_once(' ')?;
    Some((status.parse().ok()?, process.parse().ok()?))
}

async fn handlers(server: &Server, uuid: &str) -> Vec<i64> {
    let mut connection = server.connect().await;
    let pids = format!("SELECT pid FROM handled WHERE uuid = '{uuid}'");
    sqlx::query_scalar(AssertSqlSafe(pids)).fetch_all(&mut connection).await.unwrap()
}

async fn delivery_repeated_to_three_processes_is_handled_once(server: &Server) {
    server.execute("CREATE TABLE handled (uuid text, pid bigint)").await;
    // Holds the port, and accepts nothing.
    let holder = reuse(0);
    let port = holder.local_addr().unwrap().port();
    let mut replicas: Vec<Child> = (0..3).map(|_| spawn(&server.url(), port)).collect();
    for number in 0..20 {
        let uuid = format!("uuid-{number}");
        let mut responded = std::collections::HashSet::new();
        while responded.len() < 3 {
            let responses = join_all((0..8).map(|_| send(port, &uuid))).await;
            for (status, process) in responses.into_iter().flatten() {
                assert_eq!(status, 200);
                responded.insert(process);
            }
        }
        assert_eq!(handlers(server, &uuid).await.len(), 1, "{uuid}");
    }
    // The claim of a process that is killed in the middle expires, and another process handles the delivery.
    let first = tokio::spawn(async move { send(port, "crash").await });
    let holder = loop {
        if let [process] = handlers(server, "crash").await[..] {
            break process;
        }
        tokio::task::yield_now().await;
    };
    let killed = replicas.iter_mut().find(|replica| replica.id().map(i64::from) == Some(holder)).unwrap();
    killed.kill().await.unwrap();
    assert_eq!(first.await.unwrap(), None);
    while send(port, "crash").await.is_none_or(|(status, _)| status != 200) {}
    let handled = handlers(server, "crash").await;
    assert_eq!((handled.len(), handled[0]), (2, holder));
    assert_ne!(handled[1], holder);
}
