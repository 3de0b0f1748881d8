//! Routes: where the events go.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use smartshape_webhook::{BoxHandler, Delivery, EventKind, Handler, HandlerError, HandlerErrorKind};
use smartshape_webhook_outlet::{HttpOutletBuilder, JetStreamOutletBuilder, OutletError};
use url::Url;

const ATTEMPTS: &str = "smartshape_relay_attempts_total";
const UNROUTED_EVENTS: &str = "smartshape_relay_unrouted_events_total";

/// Events and their target.
pub(super) struct Route {
    /// `None`: all events that no other route has.
    pub(super) events: Option<Vec<EventKind>>,
    pub(super) target: Target,
}

/// Where events are passed on to.
pub(super) struct Target {
    /// For the log and the metrics: no path or query, which may hold a credential.
    pub(super) name: String,
    handler: BoxHandler,
}

/// Passes each event on to the target of its route. An event without a route is handled, and counted.
pub(super) struct Routes(Arc<[Route]>);

impl Routes {
    pub(super) fn new(routes: Vec<Route>) -> Self {
        describe_counter!(ATTEMPTS, "Attempts to pass an event on, by target and outcome");
        describe_counter!(UNROUTED_EVENTS, "Events that no route takes");
        // Prometheus sees no increase in a counter that begins with 1.
        counter!(UNROUTED_EVENTS).increment(0);
        for route in &routes {
            for outcome in ["passed_on", "failed"] {
                counter!(ATTEMPTS, "target" => route.target.name.clone(), "outcome" => outcome).increment(0);
            }
        }
        Self(routes.into())
    }

    fn route_for(&self, event: Option<EventKind>) -> Option<&Route> {
        let named = |route: &&Route| {
            route.events.as_ref().is_some_and(|events| event.is_some_and(|event| events.contains(&event)))
        };
        self.0.iter().find(named).or_else(|| self.0.iter().find(|route| route.events.is_none()))
    }
}

impl Handler for Routes {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let Some(Route { target, .. }) = self.route_for(delivery.kind()) else {
            counter!(UNROUTED_EVENTS).increment(1);
            tracing::debug!("no route takes this event");
            return Ok(());
        };
        let outcome = target.handler.handle(delivery).await.map_err(|error| target.failed(&error));
        let (name, label) = (target.name.clone(), if outcome.is_ok() { "passed_on" } else { "failed" });
        counter!(ATTEMPTS, "target" => name, "outcome" => label).increment(1);
        if outcome.is_ok() {
            tracing::info!(to = target.name, "passed on");
        }
        outcome
    }
}

impl Target {
    /// The error with the target's name, which the inbox's log and its dead letters have no other place for.
    fn failed(&self, error: &HandlerError) -> HandlerError {
        let text = format!("{}: {}", self.name, error.display_chain());
        match error.kind() {
            HandlerErrorKind::Permanent => HandlerError::permanent(text),
            HandlerErrorKind::RetryAfter(wait) => HandlerError::retry_after(wait, text),
            _ => HandlerError::retry(text),
        }
    }

    /// Posts to a URL.
    pub(super) fn http(url: &str, outlet: HttpOutletBuilder) -> Result<Self, OutletError> {
        let handler = BoxHandler::new(outlet.build()?);
        let name =
            Url::parse(url).map_or_else(|_| "http".to_owned(), |url| url.origin().ascii_serialization());
        Ok(Self { name, handler })
    }

    /// Publishes to a stream of NATS JetStream. The first event connects: the relay starts while no server can be
    /// reached.
    pub(super) fn stream(stream: &str, outlet: JetStreamOutletBuilder) -> Result<Self, OutletError> {
        Ok(Self { name: format!("nats:{stream}"), handler: BoxHandler::new(outlet.open_lazy()?) })
    }

    /// Runs a program. Fails when there is no such program.
    #[cfg(unix)]
    pub(super) fn exec(program: &str, args: Vec<String>, timeout: Option<Duration>) -> Result<Self, String> {
        let program = find(program).ok_or("there is no such program, or it may not be executed")?;
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("exec:{name}");
        Ok(Self { name, handler: BoxHandler::new(super::exec::Exec::new(program, args, timeout)) })
    }

    #[cfg(not(unix))]
    pub(super) fn exec(_: &str, _: Vec<String>, _: Option<Duration>) -> Result<Self, String> {
        Err("programs are run on Unix only".to_owned())
    }
}

/// The path of a program: as it is where it has a slash, otherwise in one of the folders of PATH.
#[cfg(unix)]
fn find(program: &str) -> Option<std::path::PathBuf> {
    use rustix::fs::{Access, access};
    let is_program =
        |path: &std::path::PathBuf| path.is_file() && access(path.as_path(), Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return std::path::absolute(program).ok().filter(is_program);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(is_program)
}
