//! Servers on actix-web.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use smartshape_webhook_actix::endpoint;
use tokio::net::TcpListener;

use super::{Kind, SUCCESS, Spec, handler, receiver};
use crate::Result;

const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Result<()> {
    let receiver = if spec.kind == Kind::Receiver { Some(receiver(spec)?) } else { None };
    let app = move || {
        let route = match (&receiver, spec.kind) {
            (Some(receiver), _) => endpoint(receiver.clone(), handler),
            (None, Kind::Rejecting) => web::post().to(HttpResponse::Unauthorized),
            (None, _) => web::post().to(|_: web::Bytes| async {
                HttpResponse::Ok().content_type("application/json").body(SUCCESS)
            }),
        };
        App::new()
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .route("/callback", route)
            .route("/health", web::get().to(|| async { "ok" }))
    };
    // Longer than it takes to open a thousand connections.
    let server = HttpServer::new(app).workers(1).disable_signals().keep_alive(Duration::from_secs(60));
    Ok(server.listen(listener.into_std()?)?.run().await?)
}
