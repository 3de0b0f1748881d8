//! The console on warp.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderMap, Method, Request, Response};
use smartshape_webhook::ClientAddr;
use warp::{Filter, Rejection};

use crate::{MAX_FORM_BYTES, Ui};

/// The console as a filter of warp, for the path that stands before it. [`Access::decide`](crate::Access::decide) gets
/// the request's head without its path and without extensions, of which it has only a [`ClientAddr`]: that of the
/// request's extensions, or else the peer's.
///
/// ```
/// use smartshape_webhook_ui::{Ui, warp::console};
/// use warp::{Filter, Reply};
///
/// fn routes(ui: Ui) -> impl Filter<Extract = (impl Reply,)> {
///     warp::path!("ops" / "inbox").and(console(ui))
/// }
/// ```
#[must_use]
pub fn console(ui: Ui) -> impl Filter<Extract = (Response<Bytes>,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let client = warp::ext::optional::<ClientAddr>().and(warp::addr::remote());
    let client = client.map(|inserted: Option<ClientAddr>, peer: Option<SocketAddr>| {
        inserted.or_else(|| peer.map(ClientAddr::from))
    });
    let head = warp::method().and(query).and(warp::header::headers_cloned()).and(client);
    head.and(warp::body::stream()).then(
        move |method: Method, query: String, headers: HeaderMap, client: Option<ClientAddr>, body| {
            let ui = ui.clone();
            async move {
                let mut head = Request::new(());
                *head.method_mut() = method;
                *head.headers_mut() = headers;
                *head.uri_mut() = format!("/?{query}").parse().unwrap_or_default();
                if let Some(client) = client {
                    head.extensions_mut().insert(client);
                }
                ui.serve(head.into_parts().0, collect(body)).await
            }
        },
    )
}

async fn collect(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Option<Bytes> {
    let (mut body, mut collected) = (pin!(body), BytesMut::new());
    while let Some(chunk) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        let chunk = chunk.ok()?;
        if collected.len() + chunk.remaining() > MAX_FORM_BYTES {
            return None;
        }
        collected.put(chunk);
    }
    Some(collected.freeze())
}
