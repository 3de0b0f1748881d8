//! The service that the layer makes.

use std::future::poll_fn;
use std::task::{Context, Poll};

use axum_core::BoxError;
use axum_core::body::Body;
use axum_core::extract::DefaultBodyLimit;
use bytes::Bytes;
use http::{Request, Response};
use smartshape_webhook::{
    Claimed, Delivery, Outcome, Received, Receiver, RequestHead, TOKEN_HEADER, WebhookResponse,
};
use tower_service::Service;

use crate::convert;
use crate::future::ResponseFuture;

/// The service that [`WebhookLayer`](crate::WebhookLayer) makes.
#[derive(Clone, Debug)]
pub struct WebhookService<S> {
    inner: S,
    receiver: Receiver,
}

impl<S> WebhookService<S> {
    /// Wraps a service; same as applying the layer.
    pub fn new(inner: S, receiver: Receiver) -> Self {
        Self { inner, receiver }
    }

    /// Gets a reference to the underlying service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gets a mutable reference to the underlying service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes `self`, returning the underlying service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for WebhookService<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError> + Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<Body, S::Error>;

    /// Always ready. The route's own `poll_ready` is called once the delivery is claimed, so that unverified requests
    /// take none of its capacity.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, receiver) = (self.inner.clone(), self.receiver.clone());
        ResponseFuture::new(async move {
            let (parts, body) = request.into_parts();
            let head = RequestHead::from(&parts);
            match receiver.receive(&head, convert::stream(&head, body)).await {
                Ok(Received::New(claimed)) => handle(inner, parts, claimed, receiver).await,
                Ok(Received::Duplicate) => Ok(convert::response(&WebhookResponse::success())),
                Err(rejection) => Ok(convert::response(&rejection.into())),
            }
        })
    }
}

async fn handle<S, R>(
    mut inner: S,
    mut parts: http::request::Parts,
    claimed: Claimed,
    receiver: Receiver,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let delivery = claimed.delivery().clone();
    let body = Body::from(delivery.raw().clone());
    parts.headers.remove(TOKEN_HEADER);
    parts.extensions.insert(WebhookExtension { delivery: delivery.clone(), receiver });
    parts.extensions.insert(delivery);
    let mut request = Request::from_parts(parts, body);
    // The receiver has counted the body already, against a limit of its own.
    DefaultBodyLimit::disable().apply(&mut request);
    let work = async move {
        let result = async {
            poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(request).await
        };
        let result = result.await;
        let outcome = match &result {
            Ok(response) => match response.extensions().get() {
                Some(ExtractorOutcome(outcome)) => outcome.clone(),
                None if response.status().is_success() => Outcome::Acknowledged,
                None => Outcome::Failed(format!("the route responded with {}", response.status())),
            },
            Err(_) => Outcome::Failed("the route failed".to_owned()),
        };
        (outcome, result)
    };
    match claimed.run(work).await {
        Ok(Ok(response)) if response.status().is_success() => {
            Ok(convert::response(&WebhookResponse::success()))
        }
        Ok(outcome) => outcome.map(|response| response.map(Body::new)),
        Err(response) => Ok(convert::response(&response)),
    }
}

/// What the layer leaves in the request's extensions for the extractor.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "read by the axum extractor"))]
pub(crate) struct WebhookExtension {
    pub(crate) delivery: Delivery,
    pub(crate) receiver: Receiver,
}

/// Response extension by which the extractor tells the layer how to end the claim of an event that it did not accept.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "made by the axum extractor"))]
pub(crate) struct ExtractorOutcome(pub(crate) Outcome);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::task::Waker;

    use http_body_util::Full;
    use smartshape_webhook::Secret;
    use tokio::sync::Semaphore;
    use tower::limit::ConcurrencyLimit;

    use super::*;
    use crate::endpoint;

    #[tokio::test]
    async fn unauthenticated_upload_uses_no_route_capacity() {
        let receiver = Receiver::new(Secret::generate().unwrap()).unwrap();
        // A route whose only permit is taken: it is never ready.
        let permit = Arc::new(Semaphore::new(0));
        let route =
            tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let route = ConcurrencyLimit::with_semaphore(route, permit);
        let mut service = WebhookService::new(route, receiver.clone());
        let stranger = Request::post("/").body(Full::new(Bytes::from("{}"))).unwrap();
        let ready = Service::<Request<Full<Bytes>>>::poll_ready(
            &mut service,
            &mut Context::from_waker(Waker::noop()),
        );
        assert!(ready.is_ready());
        let response = service.call(stranger).await.unwrap();
        assert_eq!(response.status(), 401);
        let endpoint = endpoint(receiver, |_: Delivery| async { Ok(()) });
        assert!(format!("{endpoint:?}").contains("\"default\""), "it names its secrets");
    }
}
