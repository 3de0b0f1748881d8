//! The endpoint: a complete route.

use std::sync::Arc;

use actix_web::{HttpRequest, Route, web};
use smartshape_webhook::{Handler, Receiver};

use crate::convert;

/// Makes a route that receives deliveries and hands them to `handler`.
///
/// It responds to every request itself, whatever its method, and `handler` keeps running if the client disconnects.
/// Build the receiver once, outside the closure that actix-web calls for each worker; clones share its state.
///
/// ```
/// use actix_web::App;
/// use smartshape_webhook_actix::{Delivery, Event, Receiver, Secret, endpoint};
///
/// async fn on_event(delivery: Delivery) -> Result<(), smartshape_webhook_actix::HandlerError> {
///     match delivery.event() {
///         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(())
/// }
///
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let app = move || App::new().route("/callback", endpoint(receiver.clone(), on_event));
/// # let _ = app();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn endpoint(receiver: Receiver, handler: impl Handler) -> Route {
    let handler = Arc::new(handler);
    web::route().to(move |request: HttpRequest, payload: web::Payload| {
        let (receiver, handler) = (receiver.clone(), Arc::clone(&handler));
        async move {
            let head = convert::head(&request);
            let mut payload = payload.into_inner();
            let response = receiver.serve(&head, &mut payload, handler).await;
            let payload = convert::retained_payload(request.version(), payload);
            convert::response(&response, payload, convert::ends_connection(&request))
        }
    })
}
