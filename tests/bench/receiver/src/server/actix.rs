//! Servers on actix-web.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use smartshape_webhook_actix::endpoint;

use super::{Kind, SUCCESS, Spec, before_rejecting, naive, receiver};
use crate::Outcome;

const BODY_LIMIT: usize = 64 * 1024 * 1024;

pub(super) async fn serve(spec: Spec, listener: TcpListener) -> Outcome<()> {
    let receiver = match spec.kind {
        Kind::Ours => Some(receiver::build(spec).await?),
        Kind::Bare | Kind::Rejecting | Kind::Naive => None,
        Kind::ByHand | Kind::Signed => return Err("this endpoint is there on axum only".into()),
    };
    let app = move || {
        let route = match (&receiver, spec.kind) {
            (Some(receiver), _) => endpoint(receiver.clone(), receiver::on_delivery),
            (None, Kind::Naive) => web::post().to(naive),
            (None, Kind::Rejecting) => web::post().to(move || reject(spec)),
            (None, _) => web::post().to(bare),
        };
        App::new()
            .app_data(web::PayloadConfig::new(BODY_LIMIT))
            .route("/callback", route)
            .route("/health", web::get().to(|| async { "ok" }))
    };
    // Of many connections, the first must not have been closed when the last is there.
    let server = HttpServer::new(app).workers(1).disable_signals().keep_alive(Duration::from_secs(60));
    let server = if spec.http2 { server.listen_auto_h2c(listener)? } else { server.listen(listener)? };
    Ok(server.run().await?)
}

async fn bare(_: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(SUCCESS)
}

async fn reject(spec: Spec) -> HttpResponse {
    before_rejecting(spec).await;
    HttpResponse::Unauthorized().finish()
}

async fn naive(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let token = request.headers().get(naive::HEADER).and_then(|token| token.to_str().ok());
    if naive::accepts(token, &body) {
        HttpResponse::Ok().content_type("application/json").body(SUCCESS)
    } else {
        HttpResponse::Unauthorized().finish()
    }
}
