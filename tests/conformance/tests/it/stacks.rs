//! The endpoint and the layer in one stack with other people's middleware, inside and outside; and middleware that
//! changes the body or has limits of its own.

use std::io::Write as _;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Decompress, Payload, ServiceRequest, ServiceResponse};
use actix_web::{HttpMessage as _, middleware, web};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, map_request};
use axum::response::Response as AxumResponse;
use axum::routing::post;
use conformance::harness::{
    assert_rejected, assert_success, event, event_of_length, good_token, in_runtime, post_to, receiver,
};
use conformance::target::Server;
use conformance::wire::Client;
use smartshape_webhook::{Delivery, Event};
use smartshape_webhook_tower::{Webhook, WebhookLayer, endpoint};
use tower::ServiceBuilder;
use tower::limit::ConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::propagate_header::PropagateHeaderLayer;
use tower_http::request_id::{MakeRequestUuid, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::{DefaultMakeSpan, TraceLayer};

const LONG: Duration = Duration::from_secs(60);

async fn on_event(Webhook(event): Webhook<Event>) -> &'static str {
    assert_eq!(event.name(), "file_uploaded");
    "handled"
}

async fn pass(request: Request, next: Next) -> AxumResponse {
    next.run(request).await
}

async fn same(request: Request) -> Request {
    request
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

/// The layer with another one outside, inside, and both; the endpoint within it.
macro_rules! stacks {
    ($($name:ident: $layer:expr;)*) => {$(
        #[test]
        fn $name() {
            in_runtime(async {
                let webhook = WebhookLayer::new(receiver());
                let handler = |_: Delivery| async { Ok(()) };
                let app = Router::new()
                    .route("/outside", post(on_event).layer(ServiceBuilder::new().layer($layer).layer(webhook.clone())))
                    .route("/inside", post(on_event).layer(ServiceBuilder::new().layer(webhook.clone()).layer($layer)))
                    .route(
                        "/both",
                        post(on_event).layer(ServiceBuilder::new().layer($layer).layer(webhook.clone()).layer($layer)),
                    )
                    .route_service("/endpoint", ServiceBuilder::new().layer($layer).service(endpoint(receiver(), handler)));
                let server = Server::from_router(app).await;
                for path in ["/outside", "/inside", "/both", "/endpoint"] {
                    assert_success(&post_to(&server, path, good_token(), "", event(path).as_bytes()).await);
                }
            });
        }
    )*};
}

stacks! {
    trace: TraceLayer::new_for_http();
    compression: CompressionLayer::new();
    catch_panic: CatchPanicLayer::new();
    request_decompression: RequestDecompressionLayer::new();
    request_body_limit: RequestBodyLimitLayer::new(1_000_000);
    request_body_timeout: RequestBodyTimeoutLayer::new(LONG);
    timeout: TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG);
    sensitive_headers: SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]);
    cors: CorsLayer::permissive();
    normalize_path: NormalizePathLayer::trim_trailing_slash();
    request_id: SetRequestIdLayer::x_request_id(MakeRequestUuid);
    propagate_header: PropagateHeaderLayer::new(HeaderName::from_static("x-request-id"));
    set_header: SetResponseHeaderLayer::overriding(HeaderName::from_static("x-a"), HeaderValue::from_static("b"));
    concurrency_limit: ConcurrencyLimitLayer::new(1);
    of_axum_from_fn: from_fn(pass);
    of_axum_map_request: map_request(same);
}

#[test]
fn stacked_layers_work_together() {
    in_runtime(async {
        let stack = ServiceBuilder::new()
            .layer(SetSensitiveRequestHeadersLayer::new([HeaderName::from_static("x-smartshape-token")]))
            .layer(TraceLayer::new_for_http().make_span_with(DefaultMakeSpan::new().include_headers(true)))
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyLimitLayer::new(1_000_000))
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG))
            .layer(RequestBodyTimeoutLayer::new(LONG))
            .layer(RequestDecompressionLayer::new())
            .layer(WebhookLayer::new(receiver()))
            .layer(CompressionLayer::new())
            .layer(from_fn(pass));
        let server = Server::from_router(Router::new().route("/", post(on_event).layer(stack))).await;
        assert_success(&post_to(&server, "/", good_token(), "", event("1").as_bytes()).await);
        // The case's end looks for the token in the log, where the headers stand in the span.
        let coded = gzip(&event("2"));
        assert_success(&post_to(&server, "/", good_token(), "content-encoding: gzip\r\n", &coded).await);
    });
}

#[test]
fn limits_of_middleware_keep_their_status() {
    in_runtime(async {
        let handler = |_: Delivery| async { Ok(()) };
        let limited = ServiceBuilder::new()
            .layer(RequestBodyLimitLayer::new(1000))
            .service(endpoint(receiver(), handler));
        let stack = ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyTimeoutLayer::new(Duration::from_millis(50)))
            .service(endpoint(receiver(), handler));
        let app = Router::new().route_service("/limited", limited).route_service("/timed", stack);
        let server = Server::from_router(app).await;
        let head = |path: &str, framing: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nx-smartshape-token: {}\r\n{framing}\r\n\r\n",
                good_token()
            )
        };
        let mut client = Client::connect(server.address()).await;
        let chunk = format!("7d0\r\n{}\r\n0\r\n\r\n", event_of_length("1", 2000));
        let response = client.upload(head("/limited", "transfer-encoding: chunked") + &chunk).await;
        assert_rejected(&response, 413, "body too large");
        let mut client = Client::connect(server.address()).await;
        let response = client.upload(head("/timed", "content-length: 100") + "{").await;
        assert_rejected(&response, 408, "body took too long");
    });
}

/// What actix-web offers for coded requests: the length and the coding of what was sent stay in the head.
async fn decompress(
    mut request: ServiceRequest,
    next: middleware::Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let decoded = Decompress::from_headers(request.take_payload(), request.headers());
    request.set_payload(Payload::Stream { payload: Box::pin(decoded) });
    next.call(request).await
}

#[test]
fn actix_may_decompress_before_the_receiver() {
    in_runtime(async {
        use smartshape_webhook_actix::{Event, Webhook, endpoint};
        let receiver = receiver();
        let server = Server::from_actix(move |config| {
            let handler = |_: Delivery| async { Ok(()) };
            let extracting = |webhook: Webhook<Event>| async move { webhook.acknowledge().await };
            let scope = web::scope("").wrap(middleware::from_fn(decompress)).app_data(receiver.clone());
            config.service(
                scope
                    .route("/endpoint", endpoint(receiver.clone(), handler))
                    .route("/extractor", web::post().to(extracting)),
            );
        });
        for path in ["/endpoint", "/extractor"] {
            // Shorter than it was sent, and longer.
            for body in [event(path), event_of_length(&format!("{path}2"), 5000)] {
                let response =
                    post_to(&server, path, good_token(), "content-encoding: gzip\r\n", &gzip(&body)).await;
                assert_success(&response);
            }
        }
    });
}
