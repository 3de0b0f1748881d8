//! The endpoint: a complete filter.

use std::sync::Arc;

use bytes::Bytes;
use smartshape_webhook::{Handler, LingeringBody, Receiver, RequestHead};
use warp::http::Response;
use warp::{Filter, Rejection};

use crate::convert;

/// Makes a filter that receives deliveries and hands them to `handler`.
///
/// Put it behind a path. It responds to every request that reaches it, whatever the method, and so never falls through
/// to another route; `handler` keeps running if the client disconnects.
///
/// ```
/// use warp::Filter;
/// use smartshape_webhook_warp::{Delivery, Event, Receiver, Secret, endpoint};
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let handler = |delivery: Delivery| async move {
///     match delivery.event() {
///         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(())
/// };
/// let routes = warp::path("callback").and(warp::path::end()).and(endpoint(receiver, handler));
/// # let _ = warp::serve(routes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn endpoint<H: Handler>(
    receiver: Receiver,
    handler: H,
) -> impl Filter<Extract = (Response<Bytes>,), Error = Rejection> + Clone {
    let handler = Arc::new(handler);
    convert::head().and(warp::body::stream()).then(move |head: RequestHead, body| {
        let (receiver, handler) = (receiver.clone(), Arc::clone(&handler));
        let body = LingeringBody::new(body).unless_http2(head.is_http2());
        async move { Response::from(receiver.serve(&head, body, handler).await) }
    })
}
