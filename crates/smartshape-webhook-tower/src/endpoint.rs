//! The endpoint: a complete service.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use smartshape_webhook::{Handler, Receiver, RequestHead};
use tower_service::Service;

use crate::convert;
use crate::future::ResponseFuture;

/// Makes a service that receives deliveries and hands them to `handler`.
///
/// Mount it where webhooks arrive. It responds to every request itself, and `handler` keeps running if the client
/// disconnects.
///
/// ```
/// use axum::Router;
/// use smartshape_webhook_tower::{Delivery, Event, Receiver, Secret, endpoint};
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let handler = |delivery: Delivery| async move {
///     match delivery.event() {
///         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(())
/// };
/// let app: Router = Router::new().route_service("/callback", endpoint(receiver, handler));
/// # let _ = app;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn endpoint<H: Handler>(receiver: Receiver, handler: H) -> Endpoint<H> {
    Endpoint { receiver, handler: Arc::new(handler) }
}

/// The service that [`endpoint`] makes.
pub struct Endpoint<H> {
    receiver: Receiver,
    handler: Arc<H>,
}

impl<H, B> Service<Request<B>> for Endpoint<H>
where
    H: Handler,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = ResponseFuture<Full<Bytes>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (receiver, handler) = (self.receiver.clone(), Arc::clone(&self.handler));
        // Here, and not in the future, which would have to carry all of the request.
        let (parts, body) = request.into_parts();
        let head = RequestHead::from(&parts);
        let body = convert::stream(&head, body);
        ResponseFuture::new(async move { Ok(convert::response(&receiver.serve(&head, body, handler).await)) })
    }
}

impl<H> Clone for Endpoint<H> {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), handler: Arc::clone(&self.handler) }
    }
}

impl<H> fmt::Debug for Endpoint<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}
