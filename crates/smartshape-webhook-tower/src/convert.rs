//! Between `http`'s types and the core's.

use std::borrow::Cow;

use bytes::Bytes;
use futures_core::Stream;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyDataStream;
use smartshape_webhook::{Answer, Head, Lingering, Source};

pub(crate) fn head(parts: &Parts) -> Head {
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Head::read(parts.method.as_str(), headers)
        .with_http2(parts.version >= Version::HTTP_2)
        .with_source(parts.extensions.get::<Source>().copied())
}

/// Boxed, since bodies of middleware are not all `Unpin`, and one may outlive its request.
pub(crate) fn stream<B>(head: &Head, body: B) -> impl Stream<Item = Result<B::Data, B::Error>> + use<B>
where
    B: Body + Send + 'static,
{
    Lingering::new(BodyDataStream::new(Box::pin(body))).unless_http2(head.is_http2())
}

pub(crate) fn response<B: From<Bytes>>(answer: &Answer) -> Response<B> {
    let mut response = Response::new(B::from(answer.body()));
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
    if let Some(refusal) = answer.refusal() {
        response.extensions_mut().insert(refusal.clone());
    }
    response
}
