//! Between actix-web's types and the core's.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use smartshape_webhook::{ClientAddr, RequestHead, WebhookResponse};

pub(crate) fn head(request: &HttpRequest) -> RequestHead {
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let inserted = request.extensions().get::<ClientAddr>().copied();
    let client_addr = inserted.or_else(|| request.peer_addr().map(ClientAddr::from));
    RequestHead::from_parts(request.method().as_str(), headers)
        .with_http2(request.version() >= Version::HTTP_2)
        .with_client_addr(client_addr)
}

/// The payload that a rejection must keep until it has been sent: once it is dropped, actix-web reads and discards the
/// rest of the body for as long as the client sends. `None` on HTTP/2, where unread bytes take room in the flow-control
/// window that all streams of the connection share.
pub(crate) fn retained_payload(version: Version, payload: Payload) -> Option<Payload> {
    Some(payload).filter(|_| version < Version::HTTP_2)
}

/// Whether actix-web ends the connection after the response to this request. It does not announce that by itself.
pub(crate) fn ends_connection(request: &HttpRequest) -> bool {
    request.head().upgrade()
}

/// A rejection keeps this payload until it has been sent.
pub(crate) fn response(
    from: &WebhookResponse,
    payload: Option<Payload>,
    ends_connection: bool,
) -> HttpResponse {
    let mut response = HttpResponse::build(status(from));
    if from.closes_connection() || ends_connection {
        response.force_close();
    }
    // `Connection` is actix-web's to write.
    for (name, value) in from.headers().iter().filter(|(name, _)| *name != "connection") {
        response.insert_header((name.as_str(), value.as_bytes()));
    }
    match payload.filter(|_| from.rejection().is_some()) {
        None => response.body(from.body()),
        Some(payload) => {
            let body = BodyWithPayload { body: from.body(), _payload: payload };
            response.body(BoxBody::new(body))
        }
    }
}

pub(crate) fn status(from: &WebhookResponse) -> StatusCode {
    // The core's statuses are all valid; the fallback is never reached.
    StatusCode::from_u16(from.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A body that keeps the request's payload until it has been sent.
struct BodyWithPayload {
    body: Bytes,
    _payload: Payload,
}

impl MessageBody for BodyWithPayload {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.body.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let body = std::mem::take(&mut self.get_mut().body);
        Poll::Ready(if body.is_empty() { None } else { Some(Ok(body)) })
    }
}
