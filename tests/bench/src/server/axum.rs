//! Servers on axum, and those that are compared on axum only.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::middleware::map_request;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use smartshape_webhook::TOKEN_HEADER;
use smartshape_webhook_tower::{ClientAddr, endpoint};
use tokio::net::TcpListener;

use super::{Kind, SECRET, SUCCESS, Spec, handler, receiver};
use crate::Result;

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Result<()> {
    let routes = Router::new();
    let routes = match spec.kind {
        Kind::Bare => routes.route("/callback", post(|_: Bytes| async { success() })),
        Kind::Rejecting => routes.route("/callback", post(|_: Request| async { StatusCode::UNAUTHORIZED })),
        Kind::Receiver => routes.route_service("/callback", endpoint(receiver(spec)?, handler)),
        Kind::Naive => routes.route("/callback", post(naive)),
        Kind::Forwarder { target } => {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let forward = async move |body: Bytes| {
                let request = Request::post(format!("http://{target}/events")).body(Full::new(body));
                match client.request(request.map_err(|_| StatusCode::BAD_REQUEST)?).await {
                    // The body is empty.
                    Ok(response) => Ok(response.status()),
                    Err(_) => Err(StatusCode::BAD_GATEWAY),
                }
            };
            routes.route("/callback", post(forward))
        }
    };
    let routes = routes.route("/health", get(|| async { "ok" })).layer(DefaultBodyLimit::disable());
    if spec.client_addr {
        let routes = routes.layer(map_request(set_client_addr));
        return Ok(axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await?);
    }
    Ok(axum::serve(listener, routes).await?)
}

async fn set_client_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(ClientAddr::from(peer));
    request
}

async fn naive(headers: HeaderMap, body: Bytes) -> std::result::Result<impl IntoResponse, StatusCode> {
    let token = headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
    let accepted = token.is_some_and(|token| bcrypt::verify(SECRET, token).unwrap_or(false))
        && serde_json::from_slice::<Value>(&body).is_ok_and(|event| event["uuid"].is_string());
    if accepted { Ok(success()) } else { Err(StatusCode::UNAUTHORIZED) }
}

fn success() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], SUCCESS)
}
