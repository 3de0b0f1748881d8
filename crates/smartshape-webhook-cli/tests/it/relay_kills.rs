//! The relay and its target are killed; what was acknowledged reaches the target.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use smartshape_fake::EventPayload;
use smartshape_webhook::EventKind;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::relay::{Relay, send};
use crate::support::{Home, poll_until, within};

const ROUNDS: usize = 6;
const EVENTS_PER_ROUND: usize = 5;

/// Sockets of one address, of which those that listen get the connections: nobody else gets the port between two
/// targets.
fn sockets(count: usize) -> (String, Vec<TcpSocket>) {
    let mut address = "127.0.0.1:0".parse().unwrap();
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        address = socket.local_addr().unwrap();
        sockets.push(socket);
    }
    (format!("http://{address}/events"), sockets)
}

/// A target in a runtime of its own, whose end breaks all connections off.
fn target(socket: TcpSocket, received: &Arc<Mutex<HashSet<Bytes>>>) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let received = Arc::clone(received);
    runtime.spawn(async move {
        let app = Router::new().fallback(move |body: Bytes| {
            received.lock().unwrap().insert(body);
            async { StatusCode::OK }
        });
        axum::serve(socket.listen(64).unwrap(), app).await
    });
    runtime
}

#[tokio::test]
async fn killed_relay_and_target_lose_nothing_acknowledged() {
    let (home, received) = (Home::new(), Arc::default());
    let (url, sockets) = sockets(ROUNDS / 2 + 1);
    let (mut sockets, mut running) = (sockets.into_iter(), None);
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        // The target is killed after every other round, and is away for the next one.
        match running.take() {
            None => running = Some(target(sockets.next().unwrap(), &received)),
            Some(killed) => Runtime::shutdown_background(killed),
        }
        let relay = Relay::to(&home, &url).await;
        let mut sending = JoinSet::new();
        for number in 0..EVENTS_PER_ROUND {
            let (url, event) = (relay.url.clone(), EventPayload::sample(EventKind::ALL[number]));
            sending.spawn(async move { send(&url, &event).await.accepted().then(|| event.to_body()) });
        }
        // Some were acknowledged, while others are under way.
        for _ in 0..=round % 3 {
            acknowledged.extend(within(sending.join_next()).await.unwrap().unwrap());
        }
        relay.kill().await;
        while let Some(sent) = within(sending.join_next()).await {
            acknowledged.extend(sent.unwrap());
        }
    }
    let target = running.unwrap_or_else(|| target(sockets.next().unwrap(), &received));
    let relay = Relay::to(&home, &url).await;
    poll_until(async || acknowledged.is_subset(&received.lock().unwrap())).await;
    target.shutdown_background();
    assert!(acknowledged.len() >= ROUNDS, "{acknowledged:?}: {}", relay.log());
}
