//! The extractor for axum.

use std::ops::Deref;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use smartshape_webhook::{FromDelivery, WebhookResponse};

use crate::convert;
use crate::service::{ExtractorOutcome, WebhookExtension};

/// Extracts the event from a delivery that [`WebhookLayer`](crate::WebhookLayer) has verified.
///
/// `E` is [`Event`](crate::Event), which takes every event; [`Delivery`](crate::Delivery), which also knows file, owner
/// and time; or one of the nine typed events. A typed event accepts only itself: for other events, and for undecodable
/// data, [`on_unexpected_event`](crate::ReceiverBuilder::on_unexpected_event) applies, which defaults to a rejection
/// with status 422.
///
/// Without the layer there is no delivery: the response is 500, with the remedy in the log. `Option<Webhook<E>>` does
/// not compile; `Result<Webhook<E>, WebhookRejection>` does, and the handler should return the rejection as its
/// response.
///
/// ```
/// use axum::{Router, http::StatusCode, routing::post};
/// use smartshape_webhook_tower::{Event, Receiver, Secret, Webhook, WebhookLayer};
///
/// async fn on_event(Webhook(event): Webhook<Event>) -> Result<(), StatusCode> {
///     match event {
///         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(())
/// }
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let app: Router =
///     Router::new().route("/callback", post(on_event).layer(WebhookLayer::new(receiver)));
/// # let _ = app;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Webhook<E>(pub E);

impl<E, S> FromRequestParts<S> for Webhook<E>
where
    E: FromDelivery,
    S: Send + Sync,
{
    type Rejection = WebhookRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, WebhookRejection> {
        let Some(extension) = parts.extensions.get::<WebhookExtension>() else {
            let remedy = "add WebhookLayer to the route: post(handler).layer(WebhookLayer::new(receiver))";
            return Err(WebhookRejection {
                response: WebhookResponse::not_configured(remedy),
                outcome: None,
            });
        };
        let extracted = extension.receiver.extract_from(&extension.delivery);
        extracted.map(Self).map_err(|(response, outcome)| WebhookRejection {
            response,
            outcome: Some(ExtractorOutcome(outcome)),
        })
    }
}

impl<E> Deref for Webhook<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

/// The response if the event cannot be extracted.
#[derive(Clone, Debug)]
pub struct WebhookRejection {
    response: WebhookResponse,
    /// For the layer, which ends the claim.
    outcome: Option<ExtractorOutcome>,
}

impl IntoResponse for WebhookRejection {
    fn into_response(self) -> Response {
        let mut response = convert::response::<Body>(&self.response);
        if let Some(outcome) = self.outcome {
            response.extensions_mut().insert(outcome);
        }
        response
    }
}
