//! Routes under `/fake/`, which SmartShape does not have: they trigger events and list deliveries.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use serde_json::{Value, json};
use smartshape_webhook::EventKind;

use super::error::ApiError;
use super::state::State;
use crate::payload::EventPayload;
use crate::sender::DeliveryOutcome;

const MAX_COPIES: usize = 1000;
/// Maximum number of deliveries of a call, each of which takes about 5 KB until it has ended.
const MAX_DELIVERIES: usize = 100_000;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/fake", get(about))
        .route("/fake/", get(about))
        .route("/fake/events/{event}", post(send))
        .route("/fake/deliveries", get(deliveries))
        .route("/fake/attributes", get(attributes))
}

/// Rejects requests of web pages. These routes need no login, so a page that a developer visits could otherwise have
/// events signed with the registered secrets, or read deliveries through a host name of its own (DNS rebinding).
pub(crate) async fn reject_web_pages(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let of_a_page =
        headers.contains_key(ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    if of_a_page || !(state.settings.sender.allow_remote || is_for_this_machine(headers)) {
        return ApiError::WebPage.into_response();
    }
    next.run(request).await
}

fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

async fn about() -> Json<Value> {
    Json(json!({
        "fake": true,
        "about": "A fake SmartShape. These routes are not SmartShape's.",
        "POST /fake/events/<event>": "sends the sample event, or the body as its data, to every webhook of that event; ?copies=N ?delay_ms=N ?exact=true",
        "GET /fake/deliveries": "the deliveries and their responses",
        "GET /fake/attributes": "the attributes that were upserted",
    }))
}

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    copies: usize,
    delay_ms: u64,
    exact: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { copies: 1, delay_ms: 0, exact: false }
    }
}

async fn send(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let Query(options) = options.map_err(|error| ApiError::Argument(error.body_text()))?;
    let event = payload(&name, &options, &body)?;
    tokio::time::sleep(Duration::from_millis(options.delay_ms)).await;
    let webhooks = state.webhooks().iter().filter(|webhook| webhook.event.as_str() == name).count();
    if webhooks * options.copies > MAX_DELIVERIES {
        return Err(ApiError::Argument(format!(
            "{webhooks} webhooks with {} copies each are more than {MAX_DELIVERIES} deliveries",
            options.copies
        )));
    }
    Ok(outcomes_json(&state.send(&event, options.copies).await))
}

fn payload(name: &str, options: &Options, body: &Bytes) -> Result<EventPayload, ApiError> {
    let kind: EventKind = name.parse().map_err(|error| ApiError::Argument(format!("{name}: {error}")))?;
    if !(1..=MAX_COPIES).contains(&options.copies) {
        return Err(ApiError::Argument(format!("copies goes from 1 to {MAX_COPIES}")));
    }
    if options.exact {
        return Ok(EventPayload::exact_sample(kind));
    }
    let sample = EventPayload::sample(kind);
    if body.is_empty() {
        return Ok(sample);
    }
    let text =
        std::str::from_utf8(body).map_err(|_| ApiError::Argument("the body is not UTF-8".to_owned()))?;
    sample.with_raw_data(text).map_err(|error| ApiError::Argument(format!("the body is not JSON: {error}")))
}

async fn deliveries(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    outcomes_json(&state.deliveries())
}

async fn attributes(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let attributes = state.attributes().into_iter().map(|attribute| {
        json!({"file": attribute.file, "node": attribute.node, "name": attribute.name, "value": attribute.value})
    });
    Json(json!({"attributes": attributes.collect::<Vec<_>>()}))
}

fn outcomes_json(outcomes: &[DeliveryOutcome]) -> Json<Value> {
    Json(json!({"deliveries": outcomes.iter().map(DeliveryOutcome::to_json).collect::<Vec<_>>()}))
}
