//! The extractor, and the acknowledgement that it leads to.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, ResponseError, web};
use smartshape_webhook::{Claimed, FromDelivery, Receiver, WebhookResponse};

use crate::convert;

/// A verified event, claimed for this handler.
///
/// `E` is [`Event`](crate::Event), which takes every event; [`Delivery`](crate::Delivery); or one of the nine typed
/// events. A typed event accepts only itself: for other events, and for undecodable data,
/// [`on_unexpected_event`](crate::ReceiverBuilder::on_unexpected_event) applies, which defaults to a rejection with
/// status 422. Dereferences to [`Claimed`], and so to the delivery's `file()`, `uuid()`, `triggered_at()` and so on;
/// the event itself is [`extracted`](Claimed::extracted).
///
/// The receiver is taken from the app's data, given as `Receiver` or as `web::Data<Receiver>`.
///
/// Only [`acknowledge`](Self::acknowledge) makes the response that SmartShape takes for a success;
/// dropping the webhook releases the claim for the sender's next attempt. Unlike
/// [`endpoint()`](crate::endpoint()), an extractor cannot keep your handler running when the
/// sender resets the connection, and cannot hide the token header from the other extractors.
/// `Option<Webhook<E>>` and `Result<Webhook<E>, _>` swallow the rejection: do not use them.
///
/// ```
/// use actix_web::{App, error::Error, web};
/// use smartshape_webhook_actix::{Acknowledgement, Event, Receiver, Secret, Webhook};
///
/// async fn on_event(webhook: Webhook<Event>) -> Result<Acknowledgement, Error> {
///     match webhook.extracted() {
///         Event::FileUploaded(file) => println!("{:?} was uploaded to {}", file.name, webhook.file()),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(webhook.acknowledge().await)
/// }
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let app = move || {
///     App::new().app_data(receiver.clone()).service(web::resource("/callback").to(on_event))
/// };
/// # let _ = app();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a webhook that is dropped is not acknowledged"]
pub struct Webhook<E>(Claimed<E>);

impl<E> Webhook<E> {
    /// Completes the delivery, and returns the success response.
    pub async fn acknowledge(self) -> Acknowledgement {
        Acknowledgement(self.0.acknowledge().await)
    }
}

impl<E> Deref for Webhook<E> {
    type Target = Claimed<E>;

    fn deref(&self) -> &Claimed<E> {
        &self.0
    }
}

impl<E: FromDelivery> FromRequest for Webhook<E> {
    type Error = WebhookError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, WebhookError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let receiver = receiver(request);
        let head = convert::head(request);
        let (version, mut payload) = (request.version(), payload.take());
        let ends_connection = convert::ends_connection(request);
        Box::pin(async move {
            let extracted = match receiver {
                Some(receiver) => receiver.extract(&head, &mut payload).await,
                None => Err(WebhookResponse::not_configured("add App::app_data(receiver.clone())")),
            };
            extracted.map(Self).map_err(|response| {
                let payload = Cell::new(convert::retained_payload(version, payload));
                WebhookError { response, payload, ends_connection }
            })
        })
    }
}

fn receiver(request: &HttpRequest) -> Option<Receiver> {
    let plain = request.app_data::<Receiver>();
    plain.or_else(|| request.app_data::<web::Data<Receiver>>().map(web::Data::get_ref)).cloned()
}

/// The success response.
#[derive(Clone, Debug)]
#[must_use = "return it from the handler"]
pub struct Acknowledgement(WebhookResponse);

impl Responder for Acknowledgement {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        convert::response(&self.0, None, convert::ends_connection(request))
    }
}

/// The response if the event was not extracted: a rejection, or the success response to a
/// duplicate.
pub struct WebhookError {
    response: WebhookResponse,
    payload: Cell<Option<Payload>>,
    ends_connection: bool,
}

impl WebhookError {
    /// The response.
    #[must_use]
    pub fn response(&self) -> &WebhookResponse {
        &self.response
    }
}

impl ResponseError for WebhookError {
    fn status_code(&self) -> StatusCode {
        convert::status(&self.response)
    }

    fn error_response(&self) -> HttpResponse {
        convert::response(&self.response, self.payload.take(), self.ends_connection)
    }
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.response.rejection() {
            Some(rejection) => f.write_str(rejection.kind().public_message()),
            None => f.write_str("the event was handled before"),
        }
    }
}

impl fmt::Debug for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebhookError").field(&self.response).finish()
    }
}

#[cfg(test)]
mod tests {
    use smartshape_webhook::RejectionKind;

    use super::*;

    #[test]
    fn webhook_error_keeps_the_payload_until_its_response() {
        let payload = Cell::new(Some(Payload::None));
        let error =
            WebhookError { response: RejectionKind::TokenMissing.into(), payload, ends_connection: false };
        assert_eq!(error.status_code(), StatusCode::UNAUTHORIZED);
        assert_eq!(error.to_string(), "unauthorized");
        assert!(format!("{error:?}").contains("TokenMissing"));
        assert!(error.payload.take().is_some(), "the payload is kept for the response");
        let response = WebhookResponse::success();
        let before = WebhookError { response, payload: Cell::default(), ends_connection: false };
        assert_eq!(
            (before.status_code(), before.to_string()),
            (StatusCode::OK, "the event was handled before".to_owned())
        );
    }
}
