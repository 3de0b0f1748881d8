//! Between warp's types and the core's.

use std::convert::Infallible;
use std::net::SocketAddr;

use smartshape_webhook::{ClientAddr, RequestHead};
use warp::Filter;
use warp::http::Method;
use warp::http::header::{HOST, HeaderMap};

/// Extracts the request head. warp does not expose the HTTP version, so a request without a `Host` header counts as
/// HTTP/2: HTTP/1.1 requires the header, and HTTP/2 has `:authority` instead. If an HTTP/2 client sends `Host` anyway,
/// its rejected body lingers.
pub(crate) fn head() -> impl Filter<Extract = (RequestHead,), Error = Infallible> + Copy {
    let inserted = warp::ext::optional::<ClientAddr>();
    warp::method().and(warp::header::headers_cloned()).and(inserted).and(warp::addr::remote()).map(
        |method: Method, headers: HeaderMap, inserted: Option<ClientAddr>, peer: Option<SocketAddr>| {
            let http2 = !headers.contains_key(HOST);
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let client_addr = inserted.or_else(|| peer.map(ClientAddr::from));
            RequestHead::from_parts(method.as_str(), headers).with_http2(http2).with_client_addr(client_addr)
        },
    )
}
