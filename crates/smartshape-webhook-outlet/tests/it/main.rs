//! The outlet to a URL, over real sockets.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod http;
mod verification;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use smartshape_webhook::Delivery;
use tokio::net::TcpListener;

/// 24 bytes in base64. It protects nothing.
const SECRET: &str = "whsec_c2lnbnMgdGVzdHMgYW5kIG5vdGhpbmcgZWxzZSE=";
const BODY: &str = r#"{"file": "gr\u00f6\u00dfe", "event": "file_uploaded", "data": {"a":  1.0e0},
    "owner": "test@smartshape.io", "runTimestamp": 1548061171539, "uuid": "43a57abb"}"#;

type Requests = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An endpoint that responds to each request with the next of these responses, and with the last one from then on.
async fn endpoint<R: IntoResponse + Clone + Send + Sync + 'static>(responses: Vec<R>) -> (String, Requests) {
    let requests = Requests::default();
    let received = Arc::clone(&requests);
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        let mut requests = received.lock().unwrap();
        let response = responses[requests.len().min(responses.len() - 1)].clone();
        requests.push((headers, body));
        async move { response }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, requests)
}

/// The request by which an outlet passes [`BODY`] on.
async fn request() -> (HeaderMap, Bytes) {
    let (url, requests) = endpoint(vec![StatusCode::OK]).await;
    http::post(&url, BODY).await.unwrap();
    requests.lock().unwrap().remove(0)
}

fn delivery(body: &str) -> Delivery {
    Delivery::for_test(body.to_owned()).unwrap()
}
