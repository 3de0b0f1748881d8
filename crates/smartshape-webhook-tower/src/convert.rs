//! Between `http`'s types and the core's.

use bytes::Bytes;
use futures_core::Stream;
use http::Response;
use http_body::Body;
use http_body_util::BodyDataStream;
use smartshape_webhook::{LingeringBody, RequestHead, WebhookResponse};

/// Boxed, since bodies of middleware are not all `Unpin`, and one may outlive its request.
pub(crate) fn stream<B>(head: &RequestHead, body: B) -> impl Stream<Item = Result<B::Data, B::Error>> + use<B>
where
    B: Body + Send + 'static,
{
    LingeringBody::new(BodyDataStream::new(Box::pin(body))).unless_http2(head.is_http2())
}

pub(crate) fn response<B: From<Bytes>>(response: &WebhookResponse) -> Response<B> {
    Response::<Bytes>::from(response).map(B::from)
}
