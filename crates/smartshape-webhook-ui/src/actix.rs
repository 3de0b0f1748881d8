//! The console on actix-web.

use actix_web::http::StatusCode;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, Route, web};
use smartshape_webhook::ClientAddr;

use crate::{MAX_FORM_BYTES, Ui};

/// The console as a route of actix-web. [`Access::decide`](crate::Access::decide) gets the request's head without
/// actix-web's extensions, of which it has only a [`ClientAddr`]: that of the request's extensions, or else the peer's.
///
/// ```
/// use actix_web::App;
/// use smartshape_webhook_ui::{Ui, actix};
///
/// fn serve(ui: Ui) {
///     let _ = App::new().route("/ops/inbox", actix::console(ui));
/// }
/// ```
#[must_use]
pub fn console(ui: Ui) -> Route {
    web::to(move |request: HttpRequest, body: web::Payload| {
        let ui = ui.clone();
        async move { respond(&ui, &request, body).await }
    })
}

async fn respond(ui: &Ui, request: &HttpRequest, body: web::Payload) -> HttpResponse {
    let mut head = http::Request::builder().method(request.method().as_str()).uri(request.uri().to_string());
    for (name, value) in request.headers() {
        head = head.header(name.as_str(), value.as_bytes());
    }
    let inserted = request.extensions().get::<ClientAddr>().copied();
    if let Some(client) = inserted.or_else(|| request.peer_addr().map(ClientAddr::from)) {
        head = head.extension(client);
    }
    let Ok(head) = head.body(()) else { return HttpResponse::BadRequest().finish() };
    let form = async { body.to_bytes_limited(MAX_FORM_BYTES).await.ok()?.ok() };
    let response = ui.serve(head.into_parts().0, form).await;
    let status =
        StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut responded = HttpResponse::build(status);
    for (name, value) in response.headers() {
        responded.append_header((name.as_str(), value.as_bytes()));
    }
    responded.body(response.into_body())
}
