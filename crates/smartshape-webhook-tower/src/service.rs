//! The service that the layer makes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use smartshape_webhook::{Answer, Claimed, Delivery, Ending, Received, Receiver, TOKEN_HEADER};
use tower_service::Service;

use crate::convert;

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
}

impl<S, B, R> Service<Request<B>> for WebhookService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + From<Bytes> + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Display + Send,
    R: From<Bytes> + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready must be the one that is called.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let receiver = self.receiver.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let head = convert::head(&parts);
            match receiver.receive(&head, convert::stream(parts.version, body)).await {
                Ok(Received::New(claimed)) => handle(inner, parts, claimed, receiver).await,
                Ok(Received::Duplicate) => Ok(convert::response(&Answer::success())),
                Err(refusal) => Ok(convert::response(&refusal.into())),
            }
        })
    }
}

async fn handle<S, B, R>(
    mut inner: S,
    mut parts: http::request::Parts,
    claimed: Claimed,
    receiver: Receiver,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: From<Bytes> + Send + 'static,
    R: From<Bytes> + Send + 'static,
{
    let delivery = claimed.delivery().clone();
    let body = B::from(delivery.raw().clone());
    parts.headers.remove(TOKEN_HEADER);
    parts.extensions.insert(Opened { delivery: delivery.clone(), receiver });
    parts.extensions.insert(delivery);
    #[allow(unused_mut, reason = "mutable for the axum feature")]
    let mut request = Request::from_parts(parts, body);
    // The receiver has counted the body already, against a limit of its own.
    #[cfg(feature = "axum")]
    axum_core::extract::DefaultBodyLimit::disable().apply(&mut request);
    let work = async move {
        let outcome = inner.call(request).await;
        let ending = match &outcome {
            Ok(response) if response.status().is_success() => Ending::Handled,
            Ok(response) => Ending::Failed(format!("the route answered {}", response.status())),
            Err(_) => Ending::Failed("the route failed".to_owned()),
        };
        (ending, outcome)
    };
    match claimed.run(work).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(convert::response(&Answer::success())),
        Ok(outcome) => outcome,
        Err(answer) => Ok(convert::response(&answer)),
    }
}

/// What the layer leaves in the request's extensions for the extractor.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "read by the axum extractor"))]
pub(crate) struct Opened {
    pub(crate) delivery: Delivery,
    pub(crate) receiver: Receiver,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::Full;
    use smartshape_webhook::Secret;

    use super::*;
    use crate::endpoint;

    /// A route without capacity.
    #[derive(Clone)]
    struct Busy;

    impl Service<Request<Full<Bytes>>> for Busy {
        type Response = Response<Full<Bytes>>;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            std::future::ready(Err(std::io::Error::other("it was not ready")))
        }
    }

    #[test]
    fn the_layer_waits_for_the_routes_capacity() {
        let receiver = Receiver::new(Secret::generate().unwrap()).unwrap();
        let mut service = WebhookService::new(Busy, receiver.clone());
        assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
        let endpoint = endpoint(receiver, |_: Delivery| async { Ok(()) });
        assert!(format!("{endpoint:?}").contains("\"default\""), "it names its secrets");
    }
}
