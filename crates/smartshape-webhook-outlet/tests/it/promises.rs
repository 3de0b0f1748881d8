//! What every outlet promises: each promise is one function, and a test for each outlet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use smartshape_webhook::{Handler, HandlerErrorKind};
use smartshape_webhook_outlet::{CloudEvent, HttpOutlet, JetStreamOutlet};

use crate::http::{local, serve};
use crate::nats::Nats;
use crate::{BODY, body_of, delivery};

macro_rules! for_each_outlet {
    ($($promise:ident)*) => {
        mod http {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise::<super::Endpoint>().await;
            })*
        }

        mod nats {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise::<super::Nats>().await;
            })*
        }
    };
}

for_each_outlet! {
    body_and_attributes_are_exact
    hostile_texts_stay_in_their_headers
    lost_peer_is_a_failure_until_it_returns
}

/// An event as the other side has it.
struct Received {
    headers: HashMap<String, String>,
    body: Bytes,
}

/// The other side of an outlet.
trait Peer: Sized {
    type Outlet: Handler;

    /// `None` where it cannot be had.
    async fn start() -> Option<Self>;
    async fn outlet(&self) -> Self::Outlet;
    async fn received(&self) -> Vec<Received>;
    /// From now on it takes no event.
    fn stop(&mut self);
    fn restart(&mut self);
}

async fn body_and_attributes_are_exact<P: Peer>() {
    let Some(peer) = P::start().await else { return };
    peer.outlet().await.handle(delivery(BODY)).await.unwrap();
    let received = peer.received().await;
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, BODY.as_bytes());
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", &delivery(BODY).key().to_string()),
        ("ce-source", "smartshape:test@smartshape.io"),
        ("ce-type", "file_uploaded"),
        ("ce-subject", "gr%C3%B6%C3%9Fe"),
        ("ce-time", "2019-01-21T08:59:31.539Z"),
    ] {
        assert_eq!(received[0].headers[name], value, "{name}");
    }
}

async fn hostile_texts_stay_in_their_headers<P: Peer>() {
    let Some(peer) = P::start().await else { return };
    let outlet = peer.outlet().await;
    let texts = [
        (r"a\r\nwebhook-id: b", "a%0D%0Awebhook-id:%20b"),
        (r#"\"%41\u0000"#, "%22%2541%00"),
        ("\u{1F512}", "%F0%9F%94%92"),
    ];
    let body = |text: &str| {
        BODY.replace("gr\\u00f6\\u00dfe", text).replace("file_uploaded", text).replace("test@", text)
    };
    for (text, _) in texts {
        outlet.handle(delivery(&body(text))).await.unwrap();
    }
    for (received, (text, encoded)) in peer.received().await.iter().zip(texts) {
        assert_eq!(received.body, body(text).as_bytes());
        assert_eq!(received.headers["ce-subject"], encoded);
        assert_eq!(received.headers["ce-type"], encoded);
        assert_eq!(received.headers["ce-id"], CloudEvent::from(&delivery(&body(text))).id, "{text}");
        assert!(received.headers["ce-source"].starts_with("smartshape:"));
    }
}

async fn lost_peer_is_a_failure_until_it_returns<P: Peer>() {
    let Some(mut peer) = P::start().await else { return };
    let outlet = peer.outlet().await;
    let mut sent: Vec<_> = (0..10).map(|number| body_of(&number.to_string())).collect();
    for (index, body) in sent.iter().enumerate() {
        if index == 5 {
            peer.stop();
            let error = outlet.handle(delivery(body)).await.unwrap_err();
            assert_eq!(error.kind(), HandlerErrorKind::Retry);
            peer.restart();
        }
        while let Err(error) = outlet.handle(delivery(body)).await {
            assert_eq!(error.kind(), HandlerErrorKind::Retry);
        }
    }
    // What was given up may have arrived since, but no event is there twice.
    let mut received: Vec<_> = peer.received().await.into_iter().map(|event| event.body).collect();
    received.sort();
    sent.sort();
    assert_eq!(received, sent);
}

struct Endpoint {
    url: String,
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    is_up: Arc<AtomicBool>,
}

impl Peer for Endpoint {
    type Outlet = HttpOutlet;

    async fn start() -> Option<Self> {
        let (requests, is_up) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let (received, takes) = (Arc::clone(&requests), Arc::clone(&is_up));
        let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
            if !takes.load(Ordering::Relaxed) {
                return StatusCode::BAD_GATEWAY;
            }
            received.lock().unwrap().push((headers, body));
            StatusCode::OK
        });
        Some(Self { url: serve(app).await, requests, is_up })
    }

    async fn outlet(&self) -> HttpOutlet {
        local(&self.url).build().unwrap()
    }

    async fn received(&self) -> Vec<Received> {
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let requests = self.requests.lock().unwrap();
        let all = requests.iter().map(|(headers, body)| Received {
            headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.clone(),
        });
        all.collect()
    }

    fn stop(&mut self) {
        self.is_up.store(false, Ordering::Relaxed);
    }

    fn restart(&mut self) {
        self.is_up.store(true, Ordering::Relaxed);
    }
}

impl Peer for Nats {
    type Outlet = JetStreamOutlet;

    async fn start() -> Option<Self> {
        Self::start(1, "").await
    }

    async fn outlet(&self) -> JetStreamOutlet {
        self.builder().timeout(Duration::from_secs(1)).open().await.unwrap()
    }

    async fn received(&self) -> Vec<Received> {
        let all = self.messages().await.into_iter().map(|message| {
            let headers = message.headers.as_ref().unwrap();
            let headers = headers.iter().map(|(name, values)| (name.to_string(), values[0].to_string()));
            Received { headers: headers.collect(), body: message.payload.clone() }
        });
        all.collect()
    }

    fn stop(&mut self) {
        self.servers.kill(0).unwrap();
    }

    fn restart(&mut self) {
        self.servers.restart().unwrap();
    }
}
