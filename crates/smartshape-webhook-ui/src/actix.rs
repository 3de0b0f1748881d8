//! The console on actix-web.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Route, web};

use crate::Ui;

/// The console as a route of actix-web. [`Access::decide`](crate::Access::decide) gets the request's head without
/// actix-web's extensions.
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
    web::to(move |request: HttpRequest, body: web::Bytes| {
        let ui = ui.clone();
        async move { respond(&ui, &request, body).await }
    })
}

async fn respond(ui: &Ui, request: &HttpRequest, body: web::Bytes) -> HttpResponse {
    let mut head = http::Request::builder().method(request.method().as_str()).uri(request.uri().to_string());
    for (name, value) in request.headers() {
        head = head.header(name.as_str(), value.as_bytes());
    }
    let Ok(head) = head.body(()) else { return HttpResponse::BadRequest().finish() };
    let response = ui.respond(head.into_parts().0, body).await;
    let status =
        StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut responded = HttpResponse::build(status);
    for (name, value) in response.headers() {
        responded.append_header((name.as_str(), value.as_bytes()));
    }
    responded.body(response.into_body())
}
