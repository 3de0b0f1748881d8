//! The layer: middleware around one route, whose handler may be any.

use smartshape_webhook::Receiver;
use tower_layer::Layer;

use crate::service::WebhookService;

/// Lets only verified deliveries through to the route, and turns its success into the response that
/// SmartShape expects.
///
/// A status of 2xx from the route acknowledges the delivery; any other releases the claim and passes
/// unchanged. The route gets the body unread, and no token header; its `Webhook<E>` extractor
/// (feature `axum`) or a `Delivery` in the request's extensions gives the event. The route runs
/// to its end even if the client disconnects.
///
/// The route's [`poll_ready`](tower_service::Service::poll_ready) is called for claimed deliveries only, so
/// unverified requests take no permit of a `ConcurrencyLimit` inside the layer.
///
/// Put it around one route, never around a whole router: there it would also respond to requests that no route
/// matches.
///
/// ```
/// use axum::{Router, routing::post};
/// use smartshape_webhook_tower::{Receiver, Secret, WebhookLayer};
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let app: Router = Router::new().route(
///     "/callback",
///     post(|body: String| async move { println!("{body}") }).layer(WebhookLayer::new(receiver)),
/// );
/// # let _ = app;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WebhookLayer {
    receiver: Receiver,
}

impl WebhookLayer {
    /// Makes the layer. Clones share the receiver.
    #[must_use]
    pub fn new(receiver: Receiver) -> Self {
        Self { receiver }
    }
}

impl<S> Layer<S> for WebhookLayer {
    type Service = WebhookService<S>;

    fn layer(&self, inner: S) -> WebhookService<S> {
        WebhookService::new(inner, self.receiver.clone())
    }
}
