//! Servers on warp.

use std::net::TcpListener;

use bytes::Bytes;
use smartshape_webhook_warp::endpoint;
use warp::Filter;
use warp::http::{Response, StatusCode};

use super::{Kind, SUCCESS, Spec, before_rejecting, naive, receiver};
use crate::Outcome;

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Outcome<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let callback = warp::path("callback").and(warp::path::end());
    let health = warp::path("health").and(warp::path::end()).and(warp::get()).map(|| "ok");
    match spec.kind {
        Kind::Ours => {
            let receiver = receiver::build(spec).await?;
            let routes = callback.and(endpoint(receiver, receiver::on_delivery)).or(health);
            warp::serve(routes).incoming(listener).run().await;
        }
        Kind::Bare => {
            let bare = callback.and(warp::post()).and(warp::body::bytes()).map(|_: Bytes| answer(true));
            warp::serve(bare.or(health)).incoming(listener).run().await;
        }
        Kind::Rejecting => {
            let body = callback.and(warp::post()).and(warp::body::stream());
            let rejecting = body.then(move |body| async move {
                before_rejecting(spec).await;
                drop(body);
                StatusCode::UNAUTHORIZED
            });
            warp::serve(rejecting.or(health)).incoming(listener).run().await;
        }
        Kind::Naive => {
            let token = warp::header::optional::<String>(naive::HEADER);
            let naive = callback.and(warp::post()).and(token).and(warp::body::bytes());
            let naive = naive
                .map(|token: Option<String>, body: Bytes| answer(naive::accepts(token.as_deref(), &body)));
            warp::serve(naive.or(health)).incoming(listener).run().await;
        }
        Kind::ByHand | Kind::Signed => return Err("this endpoint is there on axum only".into()),
    }
    Ok(())
}

fn answer(accepted: bool) -> Response<&'static str> {
    let mut response = Response::new(SUCCESS);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    *response.status_mut() = if accepted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    response
}
