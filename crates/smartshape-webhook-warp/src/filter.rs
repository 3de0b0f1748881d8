//! The filter that extracts an event, and what recovers its rejections.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use smartshape_webhook::{Claimed, FromDelivery, LingeringBody, Receiver, RequestHead, WebhookResponse};
use warp::http::Response;
use warp::reject::Reject;
use warp::reply::Reply;
use warp::{Filter, Rejection};

use crate::convert;

/// Makes a filter that extracts a [`Webhook<E>`](Webhook).
///
/// A warp filter can only reject, so [`recover`] turns its rejections into responses: without it, warp
/// responds with status 500. Unlike [`endpoint()`](crate::endpoint()), a filter cannot keep
/// your handler running if the client disconnects, cannot hide the token header from other
/// filters, and a rejection falls through to the next route of an `.or()`.
///
/// ```
/// use warp::Filter;
/// use smartshape_webhook_warp::{Event, Receiver, Secret, Webhook, recover, webhook};
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let routes = warp::path("callback")
///     .and(warp::path::end())
///     .and(webhook(receiver))
///     .then(|webhook: Webhook<Event>| async move {
///         match webhook.extracted() {
///             Event::FileUploaded(file) => println!("{:?} was uploaded to {}", file.name, webhook.file()),
///             other => println!("{} is of no interest", other.name()),
///         }
///         webhook.acknowledge().await
///     })
///     .recover(recover);
/// # let _ = warp::serve(routes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn webhook<E: FromDelivery>(
    receiver: Receiver,
) -> impl Filter<Extract = (Webhook<E>,), Error = Rejection> + Clone {
    convert::head().and(warp::body::stream()).and_then(move |head: RequestHead, body| {
        let receiver = receiver.clone();
        let body = LingeringBody::new(body).unless_http2(head.is_http2());
        async move {
            let claimed = receiver.extract(&head, body).await;
            claimed.map(Webhook).map_err(|response| warp::reject::custom(Responded(response)))
        }
    })
}

/// A verified event, claimed for this handler.
///
/// `E` is [`Event`](crate::Event), which takes every event; [`Delivery`](crate::Delivery); or one of the nine typed
/// events. A typed event accepts only itself: for other events, and for undecodable data,
/// [`on_unexpected_event`](crate::ReceiverBuilder::on_unexpected_event) applies, which defaults to a rejection with
/// status 422. Dereferences to [`Claimed`], and so to the delivery's `file()`, `uuid()`, `triggered_at()` and so on;
/// the event itself is [`extracted`](Claimed::extracted).
///
/// Only [`acknowledge`](Self::acknowledge) makes the response that SmartShape takes for a success;
/// dropping the webhook releases the claim for the sender's next attempt.
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

/// The success response.
#[derive(Clone, Debug)]
#[must_use = "return it from the handler"]
pub struct Acknowledgement(WebhookResponse);

impl Reply for Acknowledgement {
    fn into_response(self) -> warp::reply::Response {
        Response::from(&self.0).into_response()
    }
}

/// Turns the rejections of [`webhook`] into their responses, and leaves other rejections alone.
///
/// # Errors
///
/// The rejection, when it is not one of [`webhook`]'s.
pub async fn recover(rejection: Rejection) -> Result<Response<Bytes>, Rejection> {
    match rejection.find::<Responded>() {
        Some(Responded(response)) => Ok(Response::from(response)),
        None => Err(rejection),
    }
}

struct Responded(WebhookResponse);

/// Without the detail, which names the secrets: warp shows it to the client if the routes do not recover.
impl fmt::Debug for Responded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rejection() {
            Some(rejection) => write!(f, "{:?}", rejection.kind())?,
            None => f.write_str("success")?,
        }
        f.write_str("; to respond so, the routes need .recover(smartshape_webhook_warp::recover)")
    }
}

impl Reject for Responded {}
