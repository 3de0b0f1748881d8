//! The part of SmartShape's web API that webhooks need, as its manual documents it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use smartshape_webhook::EventKind;

use super::account::{Account, Permission};
use super::error::{ApiError, json_response};
use super::state::{State, StoredAttribute};
use crate::payload::EventPayload;

type ApiResult = Result<Value, ApiError>;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/account/login", post(login))
        .route("/account/login/", post(login))
        .route("/account/session", post(session))
        .route("/account/session/", post(session))
        .route("/webhook", get(list).put(create))
        .route("/webhook/", get(list).put(create))
        .route("/webhook/{id}", delete(remove))
        .route("/webhook/{id}/", delete(remove))
        .route("/scene/attributes", post(scene_attributes))
        .route("/scene/attributes/{file}", post(scene_attributes_of))
        .route("/annotation/attributes/{file}", post(annotation_attributes))
}

/// Middleware around each call of the web API.
pub(crate) async fn inject(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(injection) = state.next_injection() else { return next.run(request).await };
    if injection.after_effect {
        next.run(request).await;
    }
    injection.response.into_response()
}

/// Unknown routes are 404 in the configured error format.
pub(crate) async fn not_found(Shared(state): Shared<Arc<State>>) -> Response {
    respond(&state, Err(ApiError::NotFound))
}

async fn login(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    let result = fields(&body).and_then(|fields| {
        let username = text(&fields, "username")?;
        let bearer = state.login(&username, &text(&fields, "password")?).ok_or(ApiError::Unauthorized)?;
        Ok(json!({
            "success": true, "email": username, "username": username, "cookies": format!("jsonwebtoken={bearer}")
        }))
    });
    respond(&state, result)
}

async fn session(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let result = bearer(&state, &headers).and_then(|account| {
        let session = state.open_session(&account.username).ok_or(ApiError::NoSeat)?;
        Ok(json!({"success": true, "jwt": session}))
    });
    respond(&state, result)
}

async fn create(Shared(state): Shared<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    let result = authorized(&state, &headers, Permission::WriteWebhook).and_then(|account| {
        let fields = fields(&body)?;
        let event: EventKind =
            text(&fields, "event")?.parse().map_err(|error| ApiError::Argument(format!("event: {error}")))?;
        let (url, secret) = (text(&fields, "url")?, text(&fields, "secretToken")?);
        let id = state.add_webhook(&account.username, event, url, secret).ok_or(ApiError::Full)?;
        Ok(json!({"data": {"type": "webhook", "attributes": {"__v": 0, "_id": id}}}))
    });
    respond(&state, result)
}

async fn list(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let result = authorized(&state, &headers, Permission::ReadWebhook).map(|account| {
        let webhooks = state.webhooks_of(&account.username).into_iter().map(|webhook| {
            let mut attributes = json!({"event": webhook.event.as_str()});
            if state.settings.list_shows_url {
                attributes["url"] = json!(webhook.url);
            }
            json!({"type": "webhook", "id": webhook.id, "attributes": attributes})
        });
        json!({"data": webhooks.collect::<Vec<_>>()})
    });
    respond(&state, result)
}

async fn remove(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let result = authorized(&state, &headers, Permission::WriteWebhook).and_then(|account| {
        let removed = state.delete_webhook(&account.username, &id);
        if removed { Ok(json!({"success": true})) } else { Err(ApiError::NotFound) }
    });
    respond(&state, result)
}

async fn scene_attributes(state: Shared<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    upsert(state, &headers, &body, None, true)
}

async fn scene_attributes_of(
    state: Shared<Arc<State>>,
    headers: HeaderMap,
    Path(file): Path<String>,
    body: Bytes,
) -> Response {
    upsert(state, &headers, &body, Some(file), true)
}

async fn annotation_attributes(
    state: Shared<Arc<State>>,
    headers: HeaderMap,
    Path(file): Path<String>,
    body: Bytes,
) -> Response {
    upsert(state, &headers, &body, Some(file), false)
}

/// SmartShape documents the body for annotations only: `{"attributes": {"<id>": {"name": value}}}`.
/// The fake takes the same for scenes.
fn upsert(
    Shared(state): Shared<Arc<State>>,
    headers: &HeaderMap,
    body: &Bytes,
    file: Option<String>,
    of_scene: bool,
) -> Response {
    let result = authorized(&state, headers, Permission::WriteAttributes).and_then(|account| {
        let fields = fields(body)?;
        let missing =
            || ApiError::Argument("attributes: {\"<id>\": {\"name\": value}} is missing".to_owned());
        let nodes = fields.get("attributes").and_then(Value::as_object).ok_or_else(missing)?;
        let mut attributes = Vec::new();
        for (node, named) in nodes {
            for (name, value) in named.as_object().ok_or_else(missing)? {
                let (file, node, name) = (file.clone(), node.clone(), name.clone());
                attributes.push(StoredAttribute { file, node, name, value: value.clone() });
            }
        }
        if !state.upsert(attributes) {
            return Err(ApiError::Full);
        }
        if of_scene {
            let data = json!({"user": {"email": account.username}, "nodeIdToAttributes": nodes});
            let event = EventPayload::sample(EventKind::AttributeUpdated).with_data(data);
            let event = if let Some(file) = file { event.with_file(file) } else { event };
            let state = Arc::clone(&state);
            // The call returns before the webhooks are called, like SmartShape's.
            let _detached = tokio::spawn(async move { state.send(&event, 1).await });
        }
        Ok(json!({"success": true}))
    });
    respond(&state, result)
}

fn authorized(state: &State, headers: &HeaderMap, permission: Permission) -> Result<Account, ApiError> {
    let account = bearer(state, headers)?;
    if state.settings.session_required {
        let session = headers.get("x-smartshape-session").and_then(|value| value.to_str().ok());
        if !session.is_some_and(|session| state.has_session(session, &account.username)) {
            return Err(ApiError::Unauthorized);
        }
    }
    if account.permissions.contains(&permission) { Ok(account) } else { Err(ApiError::Unauthorized) }
}

fn bearer(state: &State, headers: &HeaderMap) -> Result<Account, ApiError> {
    headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .and_then(|bearer| state.account(bearer))
        .ok_or(ApiError::Unauthorized)
}

fn fields(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice::<Value>(body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| ApiError::Argument("the body is not a JSON object".to_owned()))
}

fn text(fields: &Value, name: &str) -> Result<String, ApiError> {
    let text = fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| ApiError::Argument(format!("{name} is missing")))
}

fn respond(state: &State, result: ApiResult) -> Response {
    match result {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(failure) => failure.response(state.settings.error_format),
    }
}
