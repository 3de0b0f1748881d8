//! The console over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod access;
mod deliveries;
#[cfg(all(feature = "actix", feature = "warp"))]
mod frameworks;
mod pages;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use smartshape_webhook_inbox::{EventFilter, EventState, Inbox};
use smartshape_webhook_ui::{Access, Ui, Visitor};
use tempfile::TempDir;

/// An inbox in a folder that is deleted with the test.
struct Fixture {
    folder: TempDir,
    inbox: Inbox,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(folder.path().join("inbox.db").to_str().unwrap()).await.unwrap();
        Self { folder, inbox }
    }

    async fn store(&self, number: u32, file: &str, data: &str) -> Delivery {
        let file = serde_json::to_string(file).unwrap();
        let body = format!(
            r#"{{"file": {file}, "event": "file_uploaded", "data": {data}, "owner": "owner@example", "runTimestamp": 1, "uuid": "uuid-{number}"}}"#
        );
        let delivery = Delivery::for_test(body).unwrap();
        self.inbox.handle(delivery.clone()).await.unwrap();
        delivery
    }

    /// Makes every event a dead letter with this error.
    async fn fail(&self, error: &str) {
        let error = error.to_owned();
        let worker = self.inbox.worker(move |_: Delivery| {
            let error = HandlerError::permanent(error.clone());
            async move { Err(error) }
        });
        let worker = worker.spawn();
        while self.count(EventState::Waiting).await + self.count(EventState::Running).await > 0 {
            tokio::task::yield_now().await;
        }
        worker.shutdown().await.unwrap();
    }

    async fn count(&self, state: EventState) -> usize {
        self.inbox.list(EventFilter::default().state(state)).await.unwrap().len()
    }

    fn ui(&self, visitor: Visitor) -> Ui {
        Ui::inbox(self.inbox.clone(), Access::decide(move |_| visitor.clone()))
    }
}

async fn send(ui: &Ui, method: Method, query: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(format!("http://console.example/ops{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    ui.respond(head, Bytes::copy_from_slice(body.as_bytes())).await
}

async fn get(ui: &Ui, query: &str) -> (StatusCode, String) {
    let response = send(ui, Method::GET, query, &[], "").await;
    (response.status(), String::from_utf8(response.into_body().to_vec()).unwrap())
}

const OWN: &[(&str, &str)] = &[("sec-fetch-site", "same-origin")];

async fn post(ui: &Ui, headers: &[(&str, &str)], form: &str) -> StatusCode {
    send(ui, Method::POST, "", headers, form).await.status()
}

fn visitors() -> [Visitor; 5] {
    [
        Visitor::nobody(),
        Visitor::observer("o"),
        Visitor::reader("r"),
        Visitor::operator("op"),
        Visitor::owner("ow"),
    ]
}
