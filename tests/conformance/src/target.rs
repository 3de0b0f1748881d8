//! Every way to mount the receiver, as a server that speaks HTTP/1.1 and HTTP/2 without TLS.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_request;
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use smartshape_webhook::{Delivery, Event, FileUploaded, Handler, HandlerError, Receiver, TOKEN_HEADER};
use smartshape_webhook_actix as for_actix;
use smartshape_webhook_tower as for_tower;
use smartshape_webhook_warp as for_warp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use warp::{Filter, Reply};

use crate::script::{Script, Step};

/// A way to mount the receiver. The route is `/callback`; beside it stands `GET /health`, and,
/// where handlers extract, `/typed` for [`FileUploaded`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// axum with the endpoint as a service.
    AxumEndpoint,
    /// axum with the layer and the extractor.
    AxumExtractor,
    /// axum with the layer around a handler that knows nothing of it.
    AxumPlain,
    /// Bare hyper with the endpoint as a service.
    HyperEndpoint,
    /// actix-web with the endpoint as a route.
    ActixEndpoint,
    /// actix-web with the extractor.
    ActixExtractor,
    /// warp with the endpoint as a filter.
    WarpEndpoint,
    /// warp with the extracting filter and `recover`.
    WarpFilter,
}

impl Target {
    /// Whether the endpoint responds when the handler fails; elsewhere the handler's own response counts.
    pub fn maps_handler_errors(self) -> bool {
        matches!(self, Self::AxumEndpoint | Self::HyperEndpoint | Self::ActixEndpoint | Self::WarpEndpoint)
    }

    /// Whether the handler runs on when the client disconnects. A bare extractor or filter cannot offer that.
    pub fn handler_survives_disconnect(self) -> bool {
        !matches!(self, Self::ActixExtractor | Self::WarpFilter)
    }

    /// Whether there is a route `/typed`.
    pub fn has_typed_route(self) -> bool {
        matches!(self, Self::AxumExtractor | Self::ActixExtractor | Self::WarpFilter)
    }

    /// Whether the framework itself responds to `Expect: 100-continue` before any of our code runs.
    pub fn sends_continue_early(self) -> bool {
        matches!(self, Self::ActixEndpoint | Self::ActixExtractor)
    }

    /// Whether the framework goes on reading for a while after an early response, so that the response
    /// is not lost: actix-web does, for its `client_disconnect_timeout` (1 s).
    pub fn lingers(self) -> bool {
        matches!(self, Self::ActixEndpoint | Self::ActixExtractor)
    }

    /// Whether the handler runs on when a client on HTTP/2 resets its stream. actix-web has a task for
    /// each stream, which ends by itself.
    pub fn handler_survives_reset(self) -> bool {
        self != Self::WarpFilter
    }

    /// Starts a server on a free port.
    pub async fn start(self, receiver: Receiver, script: Script) -> Server {
        match self {
            Self::ActixEndpoint | Self::ActixExtractor => start_actix(self, receiver, script),
            Self::HyperEndpoint => start_hyper(receiver, script).await,
            Self::WarpEndpoint | Self::WarpFilter => start_warp(self, receiver, script).await,
            Self::AxumEndpoint | Self::AxumExtractor | Self::AxumPlain => {
                start_axum(self, receiver, script).await
            }
        }
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Task(JoinHandle<()>),
    Actix(actix_web::dev::ServerHandle),
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves an axum router.
    pub async fn from_router(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        Self { address, kind: Kind::Task(task) }
    }

    /// Serves a warp filter.
    pub async fn from_filter<F>(routes: F) -> Self
    where
        F: Filter<Error = warp::Rejection> + Clone + Send + Sync + 'static,
        F::Extract: Reply,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { warp::serve(routes).incoming(listener).run().await });
        Self { address, kind: Kind::Task(task) }
    }

    /// Serves actix-web routes with two workers, in threads of their own.
    pub fn from_actix(routes: impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + 'static) -> Self {
        let (sender, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || actix_web::App::new().configure(routes.clone());
                let server = actix_web::HttpServer::new(app).workers(2).disable_signals().shutdown_timeout(1);
                let server = server.bind_auto_h2c("127.0.0.1:0").unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                sender.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, handle) = started.recv().unwrap();
        Self { address, kind: Kind::Actix(handle) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Task(task) => task.abort(),
            Kind::Actix(handle) => drop(handle.stop(false)),
        }
    }
}

fn endpoint_handler(script: Script) -> impl Handler + Clone {
    move |delivery: Delivery| {
        let script = script.clone();
        async move {
            match script.handle(&delivery).await {
                Step::Unavailable => {
                    Err(HandlerError::retry_after(std::time::Duration::from_secs(7), "unavailable"))
                }
                Step::FailPermanently => Err(HandlerError::permanent("given up")),
                Step::Fail | Step::Panic => Err("failed".into()),
                Step::Succeed => Ok(()),
            }
        }
    }
}

/// The status of handlers that respond by themselves.
fn own_status(step: Step) -> u16 {
    match step {
        Step::Succeed => 201,
        Step::Unavailable => 503,
        Step::FailPermanently => 410,
        Step::Fail | Step::Panic => 500,
    }
}

async fn start_axum(target: Target, receiver: Receiver, script: Script) -> Server {
    let layer = for_tower::WebhookLayer::new(receiver.clone());
    let router = Router::new().route("/health", get(|| async { "ok" }));
    let router = match target {
        Target::AxumExtractor => router
            .route("/callback", post(axum_extracting).layer(layer.clone()))
            .route("/typed", post(axum_typed).layer(layer)),
        Target::AxumPlain => router.route("/callback", post(axum_plain).layer(layer)),
        _ => {
            let endpoint = for_tower::endpoint(receiver, endpoint_handler(script.clone()));
            router.route_service("/callback", endpoint)
        }
    };
    Server::from_router(router.layer(map_request(insert_client_addr)).with_state(script)).await
}

async fn insert_client_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(for_tower::ClientAddr::from(peer));
    request
}

async fn axum_extracting(
    State(script): State<Script>,
    headers: HeaderMap,
    for_tower::Webhook(delivery): for_tower::Webhook<Delivery>,
) -> StatusCode {
    assert!(!headers.contains_key(TOKEN_HEADER), "the layer hides the token");
    StatusCode::from_u16(own_status(script.handle(&delivery).await)).unwrap()
}

async fn axum_typed(
    State(script): State<Script>,
    for_tower::Webhook(event): for_tower::Webhook<FileUploaded>,
) -> StatusCode {
    StatusCode::from_u16(own_status(script.handle_typed(&event).await)).unwrap()
}

async fn axum_plain(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert!(!headers.contains_key(TOKEN_HEADER), "the layer hides the token");
    StatusCode::from_u16(own_status(script.handle_body(&body).await)).unwrap()
}

async fn start_hyper(receiver: Receiver, script: Script) -> Server {
    let endpoint = for_tower::endpoint(receiver, endpoint_handler(script));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let endpoint = TowerToHyperService::new(endpoint.clone());
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(for_tower::ClientAddr::from(peer));
                endpoint.call(request)
            });
            connections.spawn(async move {
                // Ends with an error when a client misbehaves, which is what many cases do.
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Server { address, kind: Kind::Task(task) }
}

fn start_actix(target: Target, receiver: Receiver, script: Script) -> Server {
    use actix_web::web;
    Server::from_actix(move |config| {
        config.app_data(web::Data::new(script.clone())).route("/health", web::get().to(|| async { "ok" }));
        if target == Target::ActixExtractor {
            config
                .app_data(receiver.clone())
                .service(web::resource("/callback").to(actix_extracting))
                .service(web::resource("/typed").to(actix_typed));
        } else {
            let endpoint = for_actix::endpoint(receiver.clone(), endpoint_handler(script.clone()));
            config.route("/callback", endpoint);
        }
    })
}

type ActixResponse = Result<for_actix::Acknowledgement, actix_web::Error>;

async fn actix_extracting(
    script: actix_web::web::Data<Script>,
    webhook: for_actix::Webhook<Event>,
) -> ActixResponse {
    let step = script.handle(webhook.delivery()).await;
    actix_response(step, webhook).await
}

async fn actix_typed(
    script: actix_web::web::Data<Script>,
    webhook: for_actix::Webhook<FileUploaded>,
) -> ActixResponse {
    let step = script.handle_typed(webhook.extracted()).await;
    actix_response(step, webhook).await
}

async fn actix_response<E>(step: Step, webhook: for_actix::Webhook<E>) -> ActixResponse {
    if step == Step::Succeed {
        return Ok(webhook.acknowledge().await);
    }
    let status = actix_web::http::StatusCode::from_u16(own_status(step)).unwrap();
    Err(actix_web::error::InternalError::new("failed", status).into())
}

async fn start_warp(target: Target, receiver: Receiver, script: Script) -> Server {
    let health = warp::path!("health").and(warp::get()).map(|| "ok");
    if target == Target::WarpEndpoint {
        let endpoint = for_warp::endpoint(receiver, endpoint_handler(script));
        let callback = warp::path("callback").and(warp::path::end()).and(endpoint);
        return Server::from_filter(callback.or(health)).await;
    }
    let all = script.clone();
    let callback = warp::path("callback")
        .and(warp::path::end())
        .and(for_warp::webhook(receiver.clone()))
        .then(move |webhook: for_warp::Webhook<Event>| {
            let script = all.clone();
            async move {
                let step = script.handle(webhook.delivery()).await;
                warp_response(step, webhook).await
            }
        });
    let typed = warp::path("typed").and(warp::path::end()).and(for_warp::webhook(receiver)).then(
        move |webhook: for_warp::Webhook<FileUploaded>| {
            let script = script.clone();
            async move {
                let step = script.handle_typed(webhook.extracted()).await;
                warp_response(step, webhook).await
            }
        },
    );
    Server::from_filter(health.or(callback).or(typed).recover(for_warp::recover)).await
}

async fn warp_response<E>(step: Step, webhook: for_warp::Webhook<E>) -> warp::reply::Response {
    if step == Step::Succeed {
        return webhook.acknowledge().await.into_response();
    }
    StatusCode::from_u16(own_status(step)).unwrap().into_response()
}
