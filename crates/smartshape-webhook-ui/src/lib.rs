//! SmartShape webhooks: a console for the inbox, in the browser (unofficial).
//!
//! [`Ui`] is one tower service on one route. It shows whether events are handled, which are dead letters and why, and
//! every event with its body, its changes and its failed attempts; and it replays, purges, pauses and resumes. It needs
//! no script, no build step and no other file. Every link is a query, so it works below any path, also behind a proxy
//! that strips the path, without a setting. Behind HTTPS, or a proxy that changes `Host`, set [`Ui::public_origin`].
//!
//! ```
//! use axum::Router;
//! use smartshape_webhook_inbox::Inbox;
//! use smartshape_webhook_ui::{Access, AccessError, Ui, Visitor};
//!
//! fn app(inbox: Inbox) -> Result<Router, AccessError> {
//!     let access = Access::password("ops", "correct horse battery staple", Visitor::owner("ops"))?;
//!     Ok(Router::new().nest_service("/ops/inbox", Ui::inbox(inbox, access)))
//! }
//! # let _ = app;
//! ```
//!
//! There is no default for [`Access`]: an inbox holds personal data. [`Visitor`] says what a person may do, and the
//! server enforces it. A request that changes something must come from the console's own page.
//!
//! With the features `actix` and `warp` it is a route of actix-web and a filter of warp. On other frameworks,
//! [`Ui::respond`] takes a request head and a body, and returns a response.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
#[cfg(feature = "actix")]
pub mod actix;
mod deliveries;
mod html;
mod origin;
mod query;
mod response;
#[cfg(feature = "warp")]
pub mod warp;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use jiff::Timestamp;
use smartshape_webhook::{ClientAddr, DeliveryKey};
use smartshape_webhook_inbox::{EventFilter, EventState, Inbox, InboxError, PageCursor};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower_service::Service;

pub use access::{Access, AccessError, Visitor};
use access::{Admission, Role};
pub use deliveries::{Deliveries, ForwardOutcome, ReceivedDelivery, SendOutcome};
use query::{Query, Selection, link};
use response::{
    download, forbidden, found_or_not, html_page, no_action, redirect, text_response, with_header,
};

/// Maximum size of a form.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// All open pages together look at the inbox once in this time to see whether something has changed.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// They look less often at what changes rarely, or a moment after the events: each look reads the activity of an hour.
const RARE_TICK_INTERVAL: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The console of an inbox: a tower service for one route. Cheap to clone.
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("inbox.db");
/// # let path = path.to_str().unwrap();
/// use http::{Request, StatusCode};
/// use smartshape_webhook_inbox::Inbox;
/// use smartshape_webhook_ui::{Access, Ui, Visitor};
///
/// let inbox = Inbox::open(path).await?;
/// let ui = Ui::inbox(inbox, Access::decide(|_| Visitor::reader("anybody in this example")));
/// let (head, _) = Request::get("/ops/inbox?view=events").body(())?.into_parts();
/// let page = ui.respond(head, Default::default()).await;
/// assert_eq!(page.status(), StatusCode::OK);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Ui(Arc<Settings>);

/// What the console shows.
#[derive(Clone)]
enum Source {
    Inbox(Inbox),
    Deliveries(Deliveries),
}

#[derive(Clone)]
struct Settings {
    source: Source,
    access: Access,
    label: String,
    read_only: bool,
    public_origin: Option<String>,
    hosts: Vec<String>,
    /// Locked while the inbox is read, so that all open pages share it.
    tick: Arc<Mutex<Option<Tick>>>,
}

/// What the inbox looked like, as texts, and when it was read.
struct Tick {
    at: Instant,
    events: String,
    rare_at: Instant,
    rare: String,
}

impl Tick {
    fn text(&self) -> String {
        format!("{} {}", self.events, self.rare)
    }
}

impl Ui {
    /// The console of `inbox`, for those whom `access` admits.
    #[must_use]
    pub fn inbox(inbox: Inbox, access: Access) -> Self {
        Self::new(Source::Inbox(inbox), access)
    }

    /// The deliveries of a listener, for those whom `access` admits: how each was checked, what it changed, and its
    /// response. An operator may send them again.
    #[must_use]
    pub fn deliveries(deliveries: Deliveries, access: Access) -> Self {
        Self::new(Source::Deliveries(deliveries), access)
    }

    fn new(source: Source, access: Access) -> Self {
        Self(Arc::new(Settings {
            source,
            access,
            label: String::new(),
            read_only: false,
            public_origin: None,
            hosts: Vec::new(),
            tick: Arc::default(),
        }))
    }

    fn with(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.0);
        change(&mut settings);
        Self(Arc::new(settings))
    }

    /// A name that each page shows, such as "production". Defaults to none.
    #[must_use]
    pub fn label(self, label: &str) -> Self {
        self.with(|settings| label.clone_into(&mut settings.label))
    }

    /// Lets no visitor change anything, whoever they are. Defaults to false.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        self.with(|settings| settings.read_only = read_only)
    }

    /// The origin that browsers see, such as `https://ops.example`, for a proxy that changes the `Host` header.
    /// Defaults to the request's host, by HTTP or HTTPS: set it for a console behind HTTPS, so that a browser without
    /// `Sec-Fetch-Site` may not post from a page without TLS.
    #[must_use]
    pub fn public_origin(self, origin: &str) -> Self {
        self.with(|settings| settings.public_origin = Some(origin.trim_end_matches('/').to_owned()))
    }

    /// The hosts (without port) that the console is served as; a request to any other is rejected with 421. Protects
    /// against DNS rebinding. Set it if the console listens on the loopback address, or if only a network protects it.
    /// Defaults to all hosts.
    #[must_use]
    pub fn hosts<'a>(self, hosts: impl IntoIterator<Item = &'a str>) -> Self {
        self.with(|settings| settings.hosts = hosts.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// The response to a request, for frameworks without tower. `body` is the request's, of which a form has at most
    /// 16 KiB: limit it before.
    pub async fn respond(&self, head: Parts, body: Bytes) -> Response<Bytes> {
        self.serve(head, async { (body.len() <= MAX_FORM_BYTES).then_some(body) }).await
    }

    /// Responds like [`respond`](Self::respond). `form` reads the body, and is awaited when the visitor may send one;
    /// `None` when the body is longer than [`MAX_FORM_BYTES`], or did not arrive.
    async fn serve(&self, head: Parts, form: impl Future<Output = Option<Bytes>>) -> Response<Bytes> {
        let mut response = self.respond_to(&head, form).await;
        if head.method == Method::HEAD {
            *response.body_mut() = Bytes::new();
        }
        response
    }

    async fn respond_to(&self, head: &Parts, form: impl Future<Output = Option<Bytes>>) -> Response<Bytes> {
        if !self.is_own_host(head) {
            return text_response(
                StatusCode::MISDIRECTED_REQUEST,
                "this console is not served under this name\n",
            );
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let is_read = head.method == Method::GET || head.method == Method::HEAD;
        if is_read && let Some(asset) = query.get("asset") {
            return response::asset(asset);
        }
        let (mut visitor, new_cookie) = match self.0.access.admit(head, query.get("key")) {
            Admission::Visitor(visitor, new_cookie) => (visitor, new_cookie),
            Admission::Response(response) => return response,
        };
        if self.0.read_only {
            visitor.role = visitor.role.min(Role::Reader);
        }
        let response = if is_read {
            self.read(&query, &visitor).await
        } else if head.method == Method::POST {
            self.change(head, form, &visitor).await
        } else {
            let response = text_response(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD or POST\n");
            Ok(with_header(response, header::ALLOW, "GET, HEAD, POST"))
        };
        let response = response.unwrap_or_else(|error| {
            tracing::warn!(%error, "the console cannot read the inbox");
            html_page(StatusCode::SERVICE_UNAVAILABLE, html::unavailable(&self.0.label, &visitor))
        });
        match new_cookie {
            Some(cookie) => with_header(response, header::SET_COOKIE, &cookie),
            None => response,
        }
    }

    fn is_own_host(&self, head: &Parts) -> bool {
        if self.0.hosts.is_empty() {
            return true;
        }
        let authority = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority =
            authority.or_else(|| head.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        self.0.hosts.iter().any(|own| *own == host.to_ascii_lowercase())
    }

    async fn read(&self, query: &Query, visitor: &Visitor) -> Result<Response<Bytes>, InboxError> {
        let inbox = match &self.0.source {
            Source::Inbox(inbox) => inbox,
            Source::Deliveries(deliveries) => return Ok(self.read_deliveries(deliveries, query, visitor)),
        };
        if query.get("tick").is_some() {
            return Ok(text_response(StatusCode::OK, self.tick(inbox).await?));
        }
        if let Some(key) = query.get("raw") {
            return raw(inbox, key, visitor).await;
        }
        Ok(found_or_not(html::page(inbox, &self.0.label, query, visitor).await?))
    }

    /// A text that differs when something in the inbox has changed.
    async fn tick(&self, inbox: &Inbox) -> Result<String, InboxError> {
        let mut last = self.0.tick.lock().await;
        if let Some(tick) = &*last
            && tick.at.elapsed() < TICK_INTERVAL
        {
            return Ok(tick.text());
        }
        let counts = inbox.counts().await?;
        let newest = inbox.page(EventFilter::default().limit(1), PageCursor::Newest).await?;
        let newest = newest.events.first().map_or(0, |event| event.seq);
        let numbers =
            [counts.waiting, counts.running, counts.dead_letters].map(|count| count.get().to_string());
        let (rare_at, rare) = match last.take() {
            Some(tick) if tick.rare_at.elapsed() < RARE_TICK_INTERVAL => (tick.rare_at, tick.rare),
            _ => (Instant::now(), rare_changes(inbox).await?),
        };
        let events = format!("{newest} {}", numbers.join(" "));
        Ok(last.insert(Tick { at: Instant::now(), events, rare_at, rare }).text())
    }

    fn read_deliveries(&self, deliveries: &Deliveries, query: &Query, visitor: &Visitor) -> Response<Bytes> {
        if query.get("tick").is_some() {
            return text_response(StatusCode::OK, deliveries.version());
        }
        if let Some(number) = query.get("raw") {
            if visitor.role < Role::Reader {
                return forbidden();
            }
            let entry = number.parse().ok().and_then(|number| deliveries.get(number));
            return match entry.and_then(|entry| entry.received.body.clone()) {
                Some(body) => download(number, body),
                None => text_response(
                    StatusCode::NOT_FOUND,
                    "there is no such delivery, or its body was not kept\n",
                ),
            };
        }
        found_or_not(html::inspector::page(deliveries, &self.0.label, query, visitor))
    }

    async fn change(
        &self,
        head: &Parts,
        form: impl Future<Output = Option<Bytes>>,
        visitor: &Visitor,
    ) -> Result<Response<Bytes>, InboxError> {
        if !origin::is_own(&head.headers, self.0.public_origin.as_deref()) {
            return Ok(text_response(
                StatusCode::FORBIDDEN,
                "only the console's own pages may change something\n",
            ));
        }
        let Some(form) = form.await else {
            let text = "the form is too long, or did not arrive\n";
            return Ok(text_response(StatusCode::PAYLOAD_TOO_LARGE, text));
        };
        let form = Query::parse(std::str::from_utf8(&form).unwrap_or_default());
        let action = form.get("do").unwrap_or_default();
        let needed = match action {
            "replay" | "pause" | "resume" | "resend" | "sample" => Role::Operator,
            "purge" => Role::Owner,
            _ => return Ok(no_action()),
        };
        let Visitor { role, name } = visitor;
        if *role < needed {
            tracing::warn!(
                action, actor = %name, ?role, client = client(head),
                "a visitor of the console may not do this"
            );
            return Ok(forbidden());
        }
        let inbox = match &self.0.source {
            Source::Inbox(inbox) => inbox,
            Source::Deliveries(deliveries) => return Ok(send(deliveries, head, &form, action, visitor).await),
        };
        let done = match action {
            "pause" => inbox.pause(name).await.map(|()| 0)?,
            "resume" => inbox.resume().await.map(|()| 0)?,
            "replay" | "purge" => {
                let Some(filter) = selected_events(&form) else {
                    return Ok(text_response(
                        StatusCode::BAD_REQUEST,
                        "which events? name one and its state, or those up to a number\n",
                    ));
                };
                if action == "replay" { inbox.replay(filter).await? } else { inbox.purge(filter).await? }
            }
            _ => return Ok(no_action()),
        };
        tracing::info!(
            action, actor = %name, ?role, client = client(head), events = done, form = %form_for_log(&form),
            "changed by the console"
        );
        let back = form.get("back").filter(|back| back.starts_with('?')).unwrap_or("?view=overview");
        let done = [("done", action.to_owned()), ("count", done.to_string())];
        let done = link(&done.each_ref().map(|(name, value)| (*name, value.as_str())));
        Ok(redirect(&format!("{back}&{}", &done[1..])))
    }
}

/// A text that differs when activity was recorded, or when workers have started, ended or been paused.
async fn rare_changes(inbox: &Inbox) -> Result<String, InboxError> {
    let activity = html::unless_older(inbox.activity(Timestamp::now() - HOUR, HOUR).await)?;
    let activity = activity.unwrap_or_default().into_iter();
    let recorded: u64 =
        activity.map(|slot| slot.stored + slot.completed + slot.retried + slot.dead_letters).sum();
    let workers = html::unless_older(inbox.workers().await)?.map(|workers| workers.len());
    let paused = html::unless_older(inbox.paused().await)?.flatten().map(|pause| pause.since);
    Ok(format!("{recorded} {workers:?} {paused:?}"))
}

async fn raw(inbox: &Inbox, key: &str, visitor: &Visitor) -> Result<Response<Bytes>, InboxError> {
    if visitor.role < Role::Reader {
        return Ok(forbidden());
    }
    let missing =
        || text_response(StatusCode::NOT_FOUND, "there is no such event, or its body was deleted\n");
    let Ok(key) = key.parse::<DeliveryKey>() else { return Ok(missing()) };
    let Some(body) = inbox.get(key).await?.and_then(|stored| stored.body) else {
        return Ok(missing());
    };
    Ok(download(&key.to_string(), body))
}

/// The events of a form: one by its key, in the state that was seen, or dead letters up to the last one that was seen.
fn selected_events(form: &Query) -> Option<EventFilter> {
    let selection = Selection::from_query(form);
    if let Some(key) = form.get("event") {
        // A second click must not replay an event that the first one's attempt has completed.
        return Some(EventFilter::default().key(key.parse().ok()?).state(selection.state?));
    }
    let selection = Selection { state: Some(EventState::DeadLetter), ..selection };
    let seen: i64 = form.get("up_to")?.parse().ok()?;
    Some(selection.filter().up_to(seen).limit(u32::MAX))
}

/// What a form selects, for the log.
fn form_for_log(form: &Query) -> String {
    let fields = ["event", "name", "q", "reason", "up_to"];
    let fields = fields.iter().filter_map(|name| Some(format!("{name}={:?}", form.get(name)?)));
    fields.collect::<Vec<_>>().join(" ")
}

/// The client's address, for the log, if the server tells it.
fn client(head: &Parts) -> Option<impl tracing::Value> {
    head.extensions.get::<ClientAddr>().map(tracing::field::debug)
}

/// Sends a delivery again, or a sample.
async fn send(
    deliveries: &Deliveries,
    head: &Parts,
    form: &Query,
    action: &str,
    visitor: &Visitor,
) -> Response<Bytes> {
    let number = form.get("delivery").unwrap_or_default();
    let (sent, view) = match action {
        "resend" => {
            let sent = match number.parse() {
                Ok(number) => deliveries.resend(number).await,
                Err(_) => None,
            };
            (sent, ("delivery", number))
        }
        "sample" => {
            let body = form.get("body").unwrap_or_default().to_owned();
            (deliveries.send_sample(body).await, ("view", "deliveries"))
        }
        _ => return no_action(),
    };
    let Some(sent) = sent else {
        return text_response(StatusCode::NOT_FOUND, "there is nothing to send, or nowhere to send it\n");
    };
    let (Visitor { role, name }, accepted) = (visitor, sent.is_accepted);
    tracing::info!(action, actor = %name, ?role, client = client(head), number, accepted, "sent by the console");
    let count = if sent.is_accepted { "1" } else { "0" };
    redirect(&link(&[view, ("done", action), ("count", count)]))
}

impl<B> Service<Request<B>> for Ui
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let ui = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let form = async { Some(Limited::new(body, MAX_FORM_BYTES).collect().await.ok()?.to_bytes()) };
            Ok(ui.serve(head, form).await.map(Full::new))
        })
    }
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui")
            .field("access", &self.0.access)
            .field("label", &self.0.label)
            .finish_non_exhaustive()
    }
}

/// The README's examples compile.
#[cfg(all(doctest, feature = "actix", feature = "warp"))]
#[doc = include_str!("../README.md")]
struct Readme;
