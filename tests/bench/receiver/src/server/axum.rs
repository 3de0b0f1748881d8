//! Servers on axum.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::map_request;
use axum::routing::{get, post};
use bytes::Bytes;
use smartshape_webhook_tower::{ClientAddr, endpoint};

use super::{Kind, SUCCESS, Spec, before_rejecting, by_hand, naive, receiver, signed};
use crate::Outcome;

type Answer = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Outcome<()> {
    let routes = Router::new();
    let routes = match spec.kind {
        Kind::Bare => routes.route("/callback", post(bare)),
        Kind::Rejecting => routes.route("/callback", post(move |request| reject(spec, request))),
        Kind::Ours => {
            let receiver = receiver::build(spec).await?;
            if spec.slow {
                routes.route_service("/callback", endpoint(receiver, receiver::on_delivery_slowly))
            } else {
                routes.route_service("/callback", endpoint(receiver, receiver::on_delivery))
            }
        }
        Kind::ByHand => {
            let endpoint = Arc::new(by_hand::Endpoint::new(spec));
            routes.route("/callback", post(move |request| by_hand(endpoint, request)))
        }
        Kind::Naive => routes.route("/callback", post(naive)),
        Kind::Signed => {
            let webhook = Arc::new(signed::verifier()?);
            let handler = move |headers: HeaderMap, body: Bytes| async move {
                answer(signed::accepts(&webhook, &headers, &body))
            };
            routes.route("/callback", post(handler))
        }
    };
    let routes = routes.route("/health", get(|| async { "ok" })).layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::from_std(listener)?;
    if spec.sources {
        let routes = routes.layer(map_request(tell_source));
        return Ok(axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await?);
    }
    Ok(axum::serve(listener, routes).await?)
}

async fn tell_source(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(ClientAddr::from(peer));
    request
}

async fn bare(_: Bytes) -> Answer {
    answer(true)
}

async fn reject(spec: Spec, _request: Request) -> StatusCode {
    before_rejecting(spec).await;
    StatusCode::UNAUTHORIZED
}

/// Extractors would copy the headers.
async fn by_hand(endpoint: Arc<by_hand::Endpoint>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(body) => answer(endpoint.accepts(token(&parts.headers), &body)),
        Err(_) => answer(false),
    }
}

async fn naive(headers: HeaderMap, body: Bytes) -> Answer {
    answer(naive::accepts(token(&headers), &body))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(naive::HEADER)?.to_str().ok()
}

fn answer(accepted: bool) -> Answer {
    let status = if accepted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    (status, [(CONTENT_TYPE, "application/json")], SUCCESS)
}
