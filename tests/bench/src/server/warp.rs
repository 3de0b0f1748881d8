//! Servers on warp.

use bytes::Bytes;
use smartshape_webhook_warp::endpoint;
use tokio::net::TcpListener;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::with_header;

use super::{Kind, SUCCESS, Spec, handler, receiver};
use crate::Result;

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Result<()> {
    let callback = warp::path("callback").and(warp::path::end());
    let health = warp::path("health").and(warp::path::end()).and(warp::get()).map(|| "ok");
    match spec.kind {
        Kind::Receiver => {
            let ours = callback.and(endpoint(receiver(spec)?, handler));
            warp::serve(ours.or(health)).incoming(listener).run().await;
        }
        Kind::Rejecting => {
            let body = callback.and(warp::post()).and(warp::body::stream());
            let rejecting = body.map(|_| StatusCode::UNAUTHORIZED);
            warp::serve(rejecting.or(health)).incoming(listener).run().await;
        }
        _ => {
            let bare = callback.and(warp::post()).and(warp::body::bytes());
            let bare = bare.map(|_: Bytes| with_header(SUCCESS, "content-type", "application/json"));
            warp::serve(bare.or(health)).incoming(listener).run().await;
        }
    }
    Ok(())
}
