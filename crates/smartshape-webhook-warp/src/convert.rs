//! Between warp's types and the core's.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use smartshape_webhook::{Answer, Head, Source};
use warp::Filter;
use warp::http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, Response, StatusCode};

/// The head. Of the version of HTTP warp says nothing; but a request of HTTP/1.1 has a `Host`, which on HTTP/2 is no
/// header. Where a client sends one all the same, its refused body lingers.
pub(crate) fn head() -> impl Filter<Extract = (Head,), Error = Infallible> + Copy {
    let told = warp::ext::optional::<Source>();
    warp::method().and(warp::header::headers_cloned()).and(told).and(warp::addr::remote()).map(
        |method: Method, headers: HeaderMap, told: Option<Source>, peer: Option<SocketAddr>| {
            let http2 = !headers.contains_key(HOST);
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let source = told.or_else(|| peer.map(Source::from));
            Head::read(method.as_str(), headers).with_http2(http2).with_source(source)
        },
    )
}

pub(crate) fn response(answer: &Answer) -> Response<Bytes> {
    let mut response = Response::new(answer.body());
    // The core's statuses and header values are all valid; the fallback is never reached.
    *response.status_mut() =
        StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers() {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        if let Ok(value) = value {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
