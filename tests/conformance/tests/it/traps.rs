//! Traps of the frameworks: documented, and pinned here so that a change is noticed.

use std::time::Duration;

use actix_web::web;
use axum::Router;
use axum::routing::{get, post};
use conformance::harness::{
    SECRET, assert_rejected, assert_success, event, good_token, in_runtime, new_token, post_to, receiver,
};
use conformance::script::Script;
use conformance::target::Server;
use conformance::wire::{Client, Response};
use example_common::{IDLE_TIMEOUT, limit_http1};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use smartshape_webhook::{Delivery, Event, NamedSecret, Receiver, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::time::Instant;
use warp::Filter;

async fn deliver(server: &Server, path: &str, token: &str, uuid: &str) -> Response {
    post_to(server, path, token, "", event(uuid).as_bytes()).await
}

#[test]
fn axum_without_the_layer_is_a_500() {
    in_runtime(async {
        use smartshape_webhook_tower::Webhook;
        let app = Router::new().route("/callback", post(|_: Webhook<Event>| async {}));
        let server = Server::from_router(app).await;
        assert_rejected(&deliver(&server, "/callback", good_token(), "1").await, 500, "internal error");
    });
}

#[test]
fn layer_on_a_whole_router_responds_to_every_path() {
    in_runtime(async {
        let layer = smartshape_webhook_tower::WebhookLayer::new(receiver());
        let app =
            Router::new().route("/callback", post(|| async {})).route("/health", get(|| async { "ok" }));
        let server = Server::from_router(app.layer(layer)).await;
        let mut client = Client::connect(server.address()).await;
        client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_rejected(&client.response().await, 405, "method not allowed");
    });
}

#[test]
fn hyper_ends_a_slow_head_where_it_has_a_limit() {
    in_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap()).await;
        client.send("POST /callback HTTP/1.1\r\nhost:").await;
        let (stream, _) = listener.accept().await.unwrap();
        let endpoint = smartshape_webhook_tower::endpoint(receiver(), |_: Delivery| async { Ok(()) });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(50));
        let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(endpoint)).await;
        assert!(served.unwrap_err().is_timeout());
        assert_eq!(client.try_response().await, None);
    });
}

/// A connection with the limits of the examples that stand on hyper.
fn connect_to_limited_hyper() -> DuplexStream {
    let (client, server) = tokio::io::duplex(128 * 1024);
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    limit_http1(&mut http);
    let endpoint = smartshape_webhook_tower::endpoint(receiver(), |_: Delivery| async { Ok(()) });
    let service = TowerToHyperService::new(endpoint);
    tokio::spawn(async move { http.serve_connection(TokioIo::new(server), service).await });
    client
}

#[tokio::test]
async fn long_heads_are_rejected() {
    let mut client = connect_to_limited_hyper();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "x".repeat(64 * 1024));
    client.write_all(&head.as_bytes()[..64 * 1024]).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
}

/// The clock is tokio's, and jumps to the next timer.
#[tokio::test(start_paused = true)]
async fn idle_connections_outlive_those_of_load_balancers() {
    let mut client = connect_to_limited_hyper();
    let mut idle_since = Instant::now();
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"}") {
            assert_ne!(client.read_buf(&mut response).await.unwrap(), 0);
        }
        assert!(response.starts_with(b"HTTP/1.1 405 "), "{}", response.escape_ascii());
        idle_since = Instant::now();
        tokio::time::sleep(Duration::from_secs(70)).await;
    }
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "it ends without a reset");
    assert_eq!(idle_since.elapsed().as_secs(), 75);
}

/// The example sets the same timeout. tokio's clock jumps to the next timer; actix-web starts its timers from the
/// machine's clock, which stands nearly still meanwhile, so the time of the first idle period is exact to the second.
#[tokio::test(start_paused = true)]
async fn idle_connections_to_actix_outlive_those_of_load_balancers() {
    use actix_web::dev::{Service as _, ServiceFactory as _};

    let example = include_str!("../../../../examples/actix/src/main.rs");
    assert!(example.contains(".client_request_timeout(HEAD_TIMEOUT)\n        .keep_alive(IDLE_TIMEOUT)"));
    let serve_and_idle = async {
        let (mut client, server) = tokio::io::duplex(4096);
        let http = actix_http::HttpService::build();
        let http = http.client_request_timeout(Duration::from_secs(10)).keep_alive(IDLE_TIMEOUT);
        let http = http.h1(async |_| Ok::<_, std::convert::Infallible>(actix_http::Response::ok()));
        let service = http.new_service(()).await.unwrap();
        tokio::task::spawn_local(service.call((server, None)));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            assert_ne!(client.read_buf(&mut response).await.unwrap(), 0);
        }
        let idle_since = Instant::now();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "it ends without a reset");
        let idle = idle_since.elapsed().as_secs();
        assert!((74..=76).contains(&idle), "{idle} s");
    };
    tokio::task::LocalSet::new().run_until(serve_and_idle).await;
}

#[test]
fn actix_without_app_data_is_a_500() {
    in_runtime(async {
        use smartshape_webhook_actix::{Acknowledgement, Webhook};
        async fn handler(webhook: Webhook<Event>) -> Acknowledgement {
            webhook.acknowledge().await
        }
        let server = Server::from_actix(|config| {
            config.route("/callback", web::post().to(handler));
        });
        assert_rejected(&deliver(&server, "/callback", good_token(), "1").await, 500, "internal error");

        let receiver = receiver();
        let server = Server::from_actix(move |config| {
            config.app_data(web::Data::new(receiver.clone())).route("/callback", web::post().to(handler));
        });
        assert_success(&deliver(&server, "/callback", good_token(), "1").await);
    });
}

#[test]
fn actix_option_and_result_swallow_rejections() {
    in_runtime(async {
        use smartshape_webhook_actix::{Webhook, WebhookError};
        async fn optional(webhook: Option<Webhook<Event>>) -> String {
            format!("{}", webhook.is_some())
        }
        async fn result(webhook: Result<Webhook<Event>, WebhookError>) -> String {
            format!("{}", webhook.is_ok())
        }
        let receiver = receiver();
        let server = Server::from_actix(move |config| {
            config
                .app_data(receiver.clone())
                .route("/optional", web::post().to(optional))
                .route("/result", web::post().to(result));
        });
        for path in ["/optional", "/result"] {
            let response = deliver(&server, path, "letmein", "1").await;
            assert_eq!((response.status, response.body.as_str()), (200, "false"), "{path}");
        }
    });
}

#[test]
fn receiver_for_each_actix_worker_handles_duplicates_twice() {
    in_runtime(async {
        let script = Script::default();
        let seen = script.clone();
        let server = Server::from_actix(move |config| {
            let script = seen.clone();
            let handler = move |delivery: Delivery| {
                let script = script.clone();
                async move {
                    script.handle(&delivery).await;
                    Ok(())
                }
            };
            config.route("/callback", smartshape_webhook_actix::endpoint(receiver(), handler));
        });
        while script.calls("1") < 2 {
            assert_success(&deliver(&server, "/callback", good_token(), "1").await);
        }
    });
}

#[test]
fn rejected_warp_filter_falls_through_and_endpoint_does_not() {
    in_runtime(async {
        use smartshape_webhook_warp::{Webhook, endpoint, webhook};
        let callback = warp::path("callback").and(warp::path::end());
        let handler = |hook: Webhook<Event>| async move { hook.acknowledge().await };
        let fallback = warp::path!("callback").map(|| "another route");
        let server = Server::from_filter(callback.and(webhook(receiver())).then(handler).or(fallback)).await;
        let response = deliver(&server, "/callback", "letmein", "1").await;
        assert_eq!((response.status, response.body.as_str()), (200, "another route"));

        let endpoint = endpoint(receiver(), |_: Delivery| async { Ok(()) });
        let server = Server::from_filter(callback.and(endpoint).or(fallback)).await;
        assert_rejected(&deliver(&server, "/callback", "letmein", "1").await, 401, "unauthorized");
    });
}

#[test]
fn unhandled_warp_rejection_shows_no_token_and_no_secret() {
    in_runtime(async {
        use smartshape_webhook_warp::{Webhook, webhook};
        let secret = NamedSecret::new("uploads", Secret::new(SECRET).unwrap());
        let builder = Receiver::builder().named_secret(secret).verify_timeout(Duration::from_secs(30));
        let route = webhook(builder.build().unwrap()).then(|webhook: Webhook<Event>| webhook.acknowledge());
        let server = Server::from_filter(route).await;
        let forged = new_token("another secret");
        let response = deliver(&server, "/callback", &forged, "1").await;
        assert_eq!(response.status, 500);
        assert!(response.body.contains("TokenUnmatched"), "{response:?}");
        for hidden in [&forged[7..], SECRET, "uploads"] {
            assert!(!response.body.contains(hidden), "{response:?}");
        }
    });
}
