//! The console on warp.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use warp::Filter;

use crate::Ui;

/// Maximum length of a request's body, of which a form is the longest.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// The console as a filter of warp, for the path that stands before it. [`Access::decide`](crate::Access::decide) gets
/// the request's head without extensions and without its path.
///
/// ```
/// use smartshape_webhook_ui::{Ui, warp::console};
/// use warp::{Filter, Reply};
///
/// fn routes(ui: Ui) -> impl Filter<Extract = (impl Reply,)> {
///     warp::path!("ops" / "inbox").and(console(ui))
/// }
/// ```
#[must_use]
pub fn console(ui: Ui) -> impl Filter<Extract = (Response<Bytes>,), Error = Infallible> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let form = warp::post().and(warp::body::content_length_limit(MAX_BODY_BYTES)).and(warp::body::bytes());
    let body = form.or(warp::any().map(Bytes::new)).unify();
    warp::method().and(query).and(warp::header::headers_cloned()).and(body).then(
        move |method: Method, query: String, headers: HeaderMap, body: Bytes| {
            let ui = ui.clone();
            async move {
                let mut head = Request::new(());
                *head.method_mut() = method;
                *head.headers_mut() = headers;
                *head.uri_mut() = format!("/?{query}").parse().unwrap_or_default();
                ui.respond(head.into_parts().0, body).await
            }
        },
    )
}
