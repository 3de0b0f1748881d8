//! The part of SmartShape's web API that webhooks need, as its manual documents it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::HeaderMap;
use serde_json::{Value, json};
use smartshape_webhook::EventKind;

use super::account::{Account, Permission};
use super::error::ApiError;
use super::state::{State, StoredAttribute};
use crate::payload::EventPayload;

type ApiResult = Result<Json<Value>, ApiError>;

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
        .route("/scene/attributes/{file}", post(scene_attributes))
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

/// Middleware that puts errors into the configured format.
pub(crate) async fn format_errors(Shared(state): Shared<Arc<State>>, response: Response) -> Response {
    match response.extensions().get::<ApiError>() {
        Some(error) => error.to_response(state.settings.error_format),
        None => response,
    }
}

pub(crate) async fn not_found() -> ApiError {
    ApiError::NotFound
}

async fn login(Shared(state): Shared<Arc<State>>, body: Bytes) -> ApiResult {
    let fields = fields(&body)?;
    let username = text(&fields, "username")?;
    let bearer = state.login(&username, &text(&fields, "password")?).ok_or(ApiError::Unauthorized)?;
    Ok(Json(json!({
        "success": true, "email": username, "username": username, "cookies": format!("jsonwebtoken={bearer}")
    })))
}

async fn session(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> ApiResult {
    let account = bearer(&state, &headers)?;
    let session = state.open_session(&account.username).ok_or(ApiError::NoSeat)?;
    Ok(Json(json!({"success": true, "jwt": session})))
}

async fn create(Shared(state): Shared<Arc<State>>, headers: HeaderMap, body: Bytes) -> ApiResult {
    let account = authorized(&state, &headers, Permission::WriteWebhook)?;
    let fields = fields(&body)?;
    let event: EventKind =
        text(&fields, "event")?.parse().map_err(|error| ApiError::Argument(format!("event: {error}")))?;
    let (url, secret) = (text(&fields, "url")?, text(&fields, "secretToken")?);
    let id = state.add_webhook(&account.username, event, url, secret).ok_or(ApiError::Full)?;
    Ok(Json(json!({"data": {"type": "webhook", "attributes": {"__v": 0, "_id": id}}})))
}

async fn list(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> ApiResult {
    let account = authorized(&state, &headers, Permission::ReadWebhook)?;
    let own = state.webhooks().into_iter().filter(|webhook| webhook.owner == account.username);
    let webhooks = own.map(|webhook| {
        let mut attributes = json!({"event": webhook.event.as_str()});
        if state.settings.list_shows_url {
            attributes["url"] = json!(webhook.url);
        }
        json!({"type": "webhook", "id": webhook.id, "attributes": attributes})
    });
    Ok(Json(json!({"data": webhooks.collect::<Vec<_>>()})))
}

async fn remove(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> ApiResult {
    let account = authorized(&state, &headers, Permission::WriteWebhook)?;
    let removed = state.delete_webhook(&account.username, &id);
    if removed { Ok(success()) } else { Err(ApiError::NotFound) }
}

async fn scene_attributes(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    file: Option<Path<String>>,
    body: Bytes,
) -> ApiResult {
    let file = file.map(|Path(file)| file);
    let (account, nodes) = upsert(&state, &headers, &body, file.as_deref())?;
    let data = json!({"user": {"email": account.username}, "nodeIdToAttributes": nodes});
    let event = EventPayload::sample(EventKind::AttributeUpdated).with_data(data);
    let event = if let Some(file) = file { event.with_file(file) } else { event };
    // The call returns before the webhooks are called, like SmartShape's.
    let _detached = tokio::spawn(async move { state.send(&event, 1).await });
    Ok(success())
}

async fn annotation_attributes(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Path(file): Path<String>,
    body: Bytes,
) -> ApiResult {
    upsert(&state, &headers, &body, Some(&file))?;
    Ok(success())
}

/// Stores attributes. Returns them by node, and whose call it is.
///
/// SmartShape documents the body for annotations only: `{"attributes": {"<id>": {"name": value}}}`.
/// The fake takes the same for scenes.
fn upsert(
    state: &State,
    headers: &HeaderMap,
    body: &Bytes,
    file: Option<&str>,
) -> Result<(Account, Value), ApiError> {
    let account = authorized(state, headers, Permission::WriteAttributes)?;
    let mut fields = fields(body)?;
    let missing = || ApiError::Argument("attributes: {\"<id>\": {\"name\": value}} is missing".to_owned());
    let mut attributes = Vec::new();
    for (node, named) in fields["attributes"].as_object().ok_or_else(missing)? {
        for (name, value) in named.as_object().ok_or_else(missing)? {
            let (file, node, name) = (file.map(str::to_owned), node.clone(), name.clone());
            attributes.push(StoredAttribute { file, node, name, value: value.clone() });
        }
    }
    if !state.upsert(attributes) {
        return Err(ApiError::Full);
    }
    Ok((account, fields["attributes"].take()))
}

fn success() -> Json<Value> {
    Json(json!({"success": true}))
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
