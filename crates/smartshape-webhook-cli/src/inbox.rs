//! `smartshape inbox`: lists, replays and purges stored events.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};
use smartshape_webhook::DeliveryKey;
use smartshape_webhook_inbox::{Count, EventFilter, EventState, Inbox, InboxErrorKind, StoredEvent};

use crate::escape::escape;
use crate::failure::{CliResult, Failure, failed};
use crate::output::{self, print_notice};
use crate::settings::Settings;

/// Maximum time to wait for a file that another process has locked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists events
    List(List),
    /// Shows one event and its body
    Show(Show),
    /// Attempts dead letters again, and completed events whose body was kept
    Replay(Change),
    /// Completes events without handling them and deletes their bodies; running events are left
    Purge(Change),
    /// Shows the number of events by state, and the size of the inbox
    Stats(Database),
}

#[derive(Args)]
pub(crate) struct Database {
    /// The inbox: a path, or a postgres:// URL; - reads it from standard input, since a URL may hold a password
    #[arg(value_name = "URL")]
    url: String,
}

/// Selects events.
#[derive(Args)]
struct Selection {
    /// Only events in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only events of this name
    #[arg(long)]
    event: Option<String>,
    /// Only events about this file
    #[arg(long)]
    file: Option<String>,
    /// Only events whose token matched the secret of this name
    #[arg(long, value_name = "NAME")]
    secret_name: Option<String>,
    /// Only events received at this time or later, such as 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events received before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only events after this number of the SEQ column
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Waiting,
    Running,
    Completed,
    #[value(aliases = ["dead", "dead letter"])]
    DeadLetter,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    selection: Selection,
    /// Maximum number of events, the earliest first. Standard error says if there are more
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    database: Database,
    /// The event, by the KEY column of `inbox list`
    #[arg(value_parser = key)]
    key: DeliveryKey,
    /// Only the body, exactly as it came in; on a terminal with unprintable characters escaped
    #[arg(long)]
    body: bool,
}

#[derive(Args)]
pub(crate) struct Change {
    #[command(flatten)]
    database: Database,
    /// The events, by the KEY column of `inbox list`
    #[arg(value_name = "KEY", value_parser = key)]
    keys: Vec<DeliveryKey>,
    #[command(flatten)]
    selection: Selection,
    /// All events; otherwise give keys or filters
    #[arg(long)]
    all: bool,
}

/// What a command does with the events that it selects.
#[derive(Clone, Copy)]
enum Action {
    Replay,
    Purge,
}

impl Command {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        match self {
            Self::List(list) => list.run(settings).await,
            Self::Show(show) => show.run(settings).await,
            Self::Replay(change) => change.run(Action::Replay).await,
            Self::Purge(change) => change.run(Action::Purge).await,
            Self::Stats(database) => database.stats(settings).await,
        }
    }
}

fn key(text: &str) -> Result<DeliveryKey, &'static str> {
    text.parse().map_err(|_| "a key has 32 hexadecimal digits: use the KEY column of `smartshape inbox list`")
}

impl Database {
    /// Opens an existing inbox without changing it.
    async fn open_to_read(&self) -> CliResult<Inbox> {
        self.open(true).await
    }

    async fn open(&self, read_only: bool) -> CliResult<Inbox> {
        open(&crate::input::argument_or_stdin(&self.url, "the URL of the inbox")?, read_only).await
    }
}

/// Opens an existing inbox; creates none.
pub(crate) async fn open(url: &str, read_only: bool) -> CliResult<Inbox> {
    output::start_progress("opening the inbox");
    let is_file = !url.contains("://");
    if is_file && let Err(none) = check_file(url) {
        // What exists is no mistyped URL, and SQLite would wait for the writer of a named pipe.
        if std::fs::exists(url).unwrap_or_default() {
            return Err(none);
        }
        // A mistyped URL may contain a password. The inbox rejects it before it looks for a file, and does not repeat
        // it.
        let opened = Inbox::builder(url).connect_timeout(Duration::ZERO).read_only(true).open().await;
        let rejected = opened
            .err()
            .filter(|error| error.kind() == InboxErrorKind::InvalidSettings && error.source().is_none());
        return Err(rejected.map_or(none, Failure::from));
    }
    // A file may be locked for a moment. An error of a server is returned at once.
    let timeout = if is_file { CONNECT_TIMEOUT } else { Duration::ZERO };
    let open = |read_only| Inbox::builder(url).connect_timeout(timeout).read_only(read_only).open();
    // Opening a database without an inbox for writing would create one.
    let mut inbox = if is_file && !read_only { open(false).await } else { open(true).await };
    if !is_file && !read_only && inbox.is_ok() {
        inbox = open(false).await;
    }
    inbox.map_err(|error| match error.kind() {
        InboxErrorKind::NotAnInbox if is_file => {
            failed!("there is no inbox at {}: {error}", escape(url))
        }
        InboxErrorKind::NotAnInbox => Failure::failed(error.to_string()),
        _ => error.into(),
    })
}

/// Rejects a missing or empty file, which opening would turn into an inbox. The inbox rejects other files.
fn check_file(path: &str) -> CliResult {
    let none = |why: &str| failed!("there is no inbox at {}: {why}", escape(path));
    let file = std::fs::metadata(path).map_err(|error| none(&error.to_string()))?;
    if !file.is_file() {
        return Err(none("it is no file"));
    }
    if file.len() == 0 { Err(none("that file is empty")) } else { Ok(()) }
}

impl Selection {
    fn is_empty(&self) -> bool {
        let texts = [&self.event, &self.file, &self.secret_name];
        self.state.is_none()
            && texts.iter().all(|text| text.is_none())
            && self.since.or(self.until).is_none()
            && self.after.is_none()
    }

    fn filter(&self) -> EventFilter {
        let mut filter = EventFilter::default();
        if let Some(state) = self.state {
            filter = filter.state(match state {
                State::Waiting => EventState::Waiting,
                State::Running => EventState::Running,
                State::Completed => EventState::Completed,
                State::DeadLetter => EventState::DeadLetter,
            });
        }
        if let Some(event) = &self.event {
            filter = filter.event(event);
        }
        if let Some(file) = &self.file {
            filter = filter.file(file);
        }
        if let Some(name) = &self.secret_name {
            filter = filter.secret_name(name);
        }
        if let Some(time) = self.since {
            filter = filter.received_from(time);
        }
        if let Some(time) = self.until {
            filter = filter.received_before(time);
        }
        filter.after(self.after.unwrap_or(0))
    }
}

impl List {
    async fn run(self, settings: &Settings) -> CliResult {
        let inbox = self.database.open_to_read().await?;
        // One more tells whether the limit cuts the list.
        let mut events = inbox.list(self.selection.filter().limit(self.limit.saturating_add(1))).await?;
        let is_cut = events.len() > self.limit as usize;
        events.truncate(self.limit as usize);
        if settings.json {
            events.iter().try_for_each(|event| output::json(&event_json(event)))?;
        } else {
            self.print_table(&events)?;
        }
        if let Some(last) = events.last().filter(|_| is_cut) {
            print_notice(format_args!(
                "there are more: --after {} continues the list, --limit raises the number",
                last.seq
            ));
        }
        Ok(())
    }

    fn print_table(&self, events: &[StoredEvent]) -> CliResult {
        if events.is_empty() {
            print_notice(if self.selection.is_empty() {
                "the inbox is empty"
            } else {
                "no event is like this"
            });
        }
        let rows: Vec<_> = events
            .iter()
            .map(|event| {
                vec![
                    event.seq.to_string(),
                    event.key.to_string(),
                    event.state.as_str().to_owned(),
                    event.event_name.clone(),
                    event.file.clone(),
                    event.received_at.to_string(),
                    event.attempts.to_string(),
                    event.error.clone().unwrap_or_default(),
                ]
            })
            .collect();
        output::table(&["SEQ", "KEY", "STATE", "EVENT", "FILE", "RECEIVED", "ATTEMPTS", "ERROR"], &rows)
    }
}

impl Show {
    async fn run(self, settings: &Settings) -> CliResult {
        let inbox = self.database.open_to_read().await?;
        let Some(stored) = inbox.get(self.key).await? else {
            return Err(failed!("the inbox has no event {}: see `smartshape inbox list`", self.key));
        };
        let mut event = event_json(&stored.event);
        event["next_attempt_at"] = stored.next_attempt_at.map(|at| at.to_string()).into();
        let gone = "the event's body was deleted when it was completed or purged";
        if self.body {
            return stored.body.map_or_else(|| Err(Failure::failed(gone)), |body| output::body(&body));
        }
        let body = stored.body.as_ref().map(|body| String::from_utf8_lossy(body));
        if settings.json {
            event["body"] = body.map_or(Value::Null, |body| Value::String(body.into_owned()));
            return output::json(&event);
        }
        let Value::Object(fields) = event else { return Ok(()) };
        let rows: Vec<_> = fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| vec![name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)])
            .collect();
        output::table(&["FIELD", "VALUE"], &rows)?;
        output::line(body.map_or(gone.to_owned(), |body| format!("\n{}", escape(&body))))
    }
}

impl Change {
    async fn run(self, action: Action) -> CliResult {
        let narrowed = !self.keys.is_empty() || !self.selection.is_empty();
        if narrowed == self.all {
            let text = if self.all {
                "--all is for all events: leave it out, or the keys and filters"
            } else {
                "which events? Give keys or filters, or --all"
            };
            return Err(Failure::usage(text));
        }
        let inbox = self.database.open(false).await?;
        let filter = self.selection.filter().limit(u32::MAX);
        let change = async |filter| match action {
            Action::Replay => inbox.replay(filter).await,
            Action::Purge => inbox.purge(filter).await,
        };
        let mut count = 0;
        let mut unchanged = Vec::new();
        // What a key that is given twice does the second time says nothing.
        for key in self.keys.iter().collect::<BTreeSet<_>>() {
            let changed = change(filter.clone().key(*key)).await?;
            count += changed;
            if changed == 0 {
                unchanged.push(key.to_string());
            }
        }
        if self.keys.is_empty() {
            count = change(filter).await?;
        }
        let done = match action {
            Action::Replay => "replayed",
            Action::Purge => "purged",
        };
        output::done(&json!({done: count}), format_args!("{done} {count} event(s)"))?;
        if unchanged.is_empty() {
            return Ok(());
        }
        let keys = unchanged.join(", ");
        Err(Failure::failed(match action {
            Action::Replay => format!(
                "nothing to replay of {keys}: only dead letters are, and completed events whose body was kept"
            ),
            Action::Purge => format!(
                "nothing to purge of {keys}: these events do not exist, are running, or have no body any more"
            ),
        }))
    }
}

impl Database {
    async fn stats(self, settings: &Settings) -> CliResult {
        let inbox = self.open_to_read().await?;
        let stats = inbox.stats().await?;
        let completed =
            inbox.count_by_event(EventFilter::default().state(EventState::Completed)).await?.total;
        let oldest = stats.oldest_waiting.map(|age| age.as_secs());
        if settings.json {
            return output::json(&json!({
                "waiting": stats.waiting, "running": stats.running, "dead_letters": stats.dead_letters,
                "completed": completed.get(), "completed_is_exact": matches!(completed, Count::Exactly(_)),
                "oldest_waiting_seconds": oldest, "disk_bytes": stats.disk_bytes,
            }));
        }
        let mut rows = vec![
            vec!["waiting".to_owned(), stats.waiting.to_string()],
            vec!["running".to_owned(), stats.running.to_string()],
            vec!["dead letters".to_owned(), stats.dead_letters.to_string()],
            vec!["completed".to_owned(), completed.to_string()],
            vec!["bytes on disk".to_owned(), stats.disk_bytes.to_string()],
        ];
        if let Some(seconds) = oldest {
            rows.push(vec!["oldest waiting (s)".to_owned(), seconds.to_string()]);
        }
        output::table(&["WHAT", "COUNT"], &rows)
    }
}

fn event_json(event: &StoredEvent) -> Value {
    json!({
        "seq": event.seq, "key": event.key.to_string(), "state": event.state.as_str(), "event": event.event_name,
        "file": event.file, "uuid": event.uuid, "owner": event.owner, "secret_name": event.secret_name,
        "triggered_at": event.triggered_at.map(|at| at.to_string()),
        "received_at": event.received_at.to_string(), "body_bytes": event.body_bytes, "attempts": event.attempts,
        "lost_leases": event.lost_leases, "error": event.error,
    })
}
