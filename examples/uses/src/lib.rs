//! Serves a handler on axum at `LISTEN`, for the programs of `src/bin`. `examples/axum` has what a server in
//! production adds: time limits, a graceful shutdown, and the durable mode.
#![allow(clippy::missing_errors_doc, reason = "a part of programs, not an API")]

use std::error::Error;
use std::io::Write as _;

use axum::Router;
use smartshape_webhook_tower::{Handler, Receiver, Secret, endpoint};
use tokio::net::TcpListener;

/// Serves `POST /callback` until ^C.
pub async fn serve(handler: impl Handler) -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
    let app = Router::new().route_service("/callback", endpoint(receiver, handler));
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8042".to_owned());
    let listener = TcpListener::bind(&address).await?;
    writeln!(std::io::stderr(), "listening on http://{}", listener.local_addr()?)?;
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}
