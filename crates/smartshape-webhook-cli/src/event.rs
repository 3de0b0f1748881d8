//! `smartshape event`: events for an endpoint, without SmartShape.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Uri;
use serde_json::{Value, json};
use smartshape_fake::{EventPayload, Fault};
use smartshape_webhook::EventKind;

use crate::escape::{escape, escape_unprintable_json};
use crate::failure::{CliResult, Failure, usage};
use crate::http_client::{self, Response};
use crate::input::{self, SecretArgument};
use crate::output::{self, ERROR, SUCCESS, print_notice, start_progress, styled};
use crate::settings::Settings;
use crate::token::{self, TokenOptions};

/// The wait before an event is sent again, where the endpoint names none.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Maximum length of the response body that is shown, in characters.
const SHOWN_BODY: usize = 300;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sends a signed event to an endpoint and checks the response as SmartShape does
    Trigger(Trigger),
}

#[derive(Args)]
#[command(after_help = "\
Exit code 1 if SmartShape would not accept the response; each fault is named.

--repeat sends the same event again, with the same uuid and token, as SmartShape's retries come: the endpoint should
handle it once and accept each. --retries is for responses that are not accepted.

  smartshape event trigger file_uploaded --set file=5c6fd --set data.name=engine.scene
  smartshape event trigger attribute_updated --to https://example.com/callback --secret - < secret.txt")]
pub(crate) struct Trigger {
    /// The event
    #[arg(value_parser = input::event())]
    event: EventKind,
    /// The endpoint
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8042/callback")]
    to: String,
    #[command(flatten)]
    secret: SecretArgument,
    /// Changes a field: a path with dots, and JSON or else text; \. is a dot in a name
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Sends this file as it is instead of the manual's sample; - is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// Maximum time to wait for the response
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Maximum number of retries while SmartShape would not accept the response: after Retry-After, or else after 1 s,
    /// doubled each time
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    retries: u32,
    /// Sends the same event this many times, sequentially
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Prints the body and sends nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    token_options: TokenOptions,
}

impl Trigger {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let url = http_client::parse_endpoint(&self.to, "the endpoint of --to", settings)?;
        let body = self.body()?;
        if self.print {
            return output::line(escape_unprintable_json(String::from_utf8_lossy(&body).into_owned()));
        }
        let secret = self.secret.get()?;
        let token = token::sign(&secret, &self.token_options)?;
        let mut all_accepted = true;
        for _ in 0..self.repeat {
            all_accepted &= self.deliver(&url, &token, &body).await?;
        }
        if all_accepted { Ok(()) } else { Err(Failure::printed()) }
    }

    /// Sends the event until it is accepted or is not tried again. Returns whether it was accepted.
    async fn deliver(&self, url: &Uri, token: &str, body: &Bytes) -> CliResult<bool> {
        let mut backoff = ExponentialBuilder::new()
            .with_max_times(usize::try_from(self.retries).unwrap_or(usize::MAX))
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .build();
        loop {
            start_progress(format_args!("waiting for {}", self.to));
            let response =
                http_client::post(url, token, body.clone(), Duration::from_secs(self.timeout)).await;
            let faults = match &response {
                Ok(response) => response.faults(),
                Err(fault) => vec![fault.clone()],
            };
            let response = response.ok();
            let response_of = response.as_ref();
            output::result(
                &report_json(self, body, response_of, &faults),
                report_text(self, response_of, &faults),
            )?;
            if faults.is_empty() {
                return Ok(true);
            }
            if matches!(faults[..], [Fault::NotSent(_)]) {
                return Ok(false);
            }
            let Some(wait) = backoff.next() else { return Ok(false) };
            let next = response.and_then(|response| response.retry_after).unwrap_or(wait);
            if next > LONGEST_WAIT {
                print_notice(format_args!(
                    "the endpoint asks to wait {} s, which is too long to wait",
                    next.as_secs()
                ));
                return Ok(false);
            }
            print_notice(format_args!("sent again in {} s", next.as_secs()));
            tokio::time::sleep(next).await;
        }
    }

    fn body(&self) -> CliResult<Bytes> {
        let exact = match &self.body {
            None => EventPayload::sample(self.event).to_body(),
            Some(path) => input::file(path, "the event")?.into(),
        };
        let mut event = input::json(&exact, "the event")?;
        let name = event.get("event").and_then(Value::as_str);
        if name != Some(self.event.as_str()) {
            let text = match name {
                None => r#"the body has no field "event" with the name of an event"#.to_owned(),
                Some(name) => {
                    let name = escape(name);
                    format!("the event's body is of {name}, and not of {}: name the one it is of", self.event)
                }
            };
            return Err(Failure::usage(text));
        }
        if self.set.is_empty() {
            return Ok(exact);
        }
        for setting in &self.set {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(usage!("--set {}: write PATH=VALUE, such as data.name=engine", escape(setting)));
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            set(&mut event, path, value).map_err(|why| usage!("--set {}: {why}", escape(setting)))?;
        }
        Ok(event.to_string().into())
    }
}

/// Puts a value where a path leads to, and objects on the way where there is nothing.
fn set(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut target = document;
    for name in split_path(path) {
        if name.is_empty() {
            return Err("the path has an empty name".to_owned());
        }
        if target.is_null() {
            *target = json!({});
        }
        target = match target {
            Value::Object(fields) => fields.entry(name).or_insert(Value::Null),
            Value::Array(elements) => {
                let length = elements.len();
                let index = name.parse().ok().filter(|index: &usize| *index <= length);
                let Some(index) = index else {
                    return Err(format!("{name} is no place in a list of {length}"));
                };
                if index == length {
                    elements.push(Value::Null);
                }
                &mut elements[index]
            }
            _ => return Err(format!("what is before {name} holds no fields")),
        };
    }
    *target = value;
    Ok(())
}

/// The names of a path, which dots part; a backslash before a dot makes it part of a name.
fn split_path(path: &str) -> Vec<String> {
    // No argument of a program has a NUL.
    path.replace(r"\.", "\0").split('.').map(|name| name.replace('\0', ".")).collect()
}

fn report_json(trigger: &Trigger, body: &Bytes, response: Option<&Response>, faults: &[Fault]) -> Value {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    json!({
        "event": trigger.event, "uuid": event["uuid"], "url": trigger.to, "accepted": faults.is_empty(),
        "faults": faults.iter().map(Fault::to_string).collect::<Vec<_>>(),
        "status": response.map(|response| response.status),
        "content_type": response.and_then(|response| response.content_type.as_deref()),
        "body": response.map(|response| String::from_utf8_lossy(&response.body)),
        "took_ms": response.map(|response| u64::try_from(response.took.as_millis()).unwrap_or(u64::MAX)),
        "hints": faults.iter().filter_map(|fault| hint(trigger, fault)).collect::<Vec<_>>(),
    })
}

fn report_text(trigger: &Trigger, response: Option<&Response>, faults: &[Fault]) -> String {
    let mut text = format!("{} to {}", trigger.event, trigger.to);
    if let Some(response) = response {
        let body: String = String::from_utf8_lossy(&response.body).chars().take(SHOWN_BODY).collect();
        let kind = response.content_type.as_deref().unwrap_or("no content type");
        let took = response.took.as_millis();
        text +=
            &format!("\nresponse: {}, {}, after {took} ms: {}", response.status, escape(kind), escape(&body));
    }
    if faults.is_empty() {
        return text + "\n" + &styled("accepted", SUCCESS);
    }
    text += &format!("\n{}", styled("not accepted:", ERROR));
    for fault in faults {
        text += &format!("\n- {}", escape(&fault.to_string()));
        text += &hint(trigger, fault).map_or_else(String::new, |hint| format!("; {hint}"));
    }
    text
}

fn hint(trigger: &Trigger, fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::ConnectionRefused => Some("does the endpoint run there?"),
        Fault::Status(401) => {
            Some("is the secret that of the endpoint, and if it is scoped, to this event and owner?")
        }
        Fault::Status(503) if trigger.token_options.is_costly() => Some(
            "it may be too busy to check a token that it does not know: --cost 4 makes that quick, --retries waits",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_follows_paths_into_objects_and_lists() {
        let mut event = json!({"data": {"list": [1, {"a": 2}], "text": "x"}});
        for (path, value) in [
            ("file", json!("5c")),
            ("data.list.0", json!(7)),
            ("data.list.2", json!(3)),
            ("data.list.1.a", json!(null)),
            ("data.new.deep", json!(true)),
            (r"data.with\.dot", json!(1)),
        ] {
            set(&mut event, path, value).unwrap();
        }
        let expected = json!({"file": "5c", "data": {
            "list": [7, {"a": null}, 3], "text": "x", "new": {"deep": true}, "with.dot": 1
        }});
        assert_eq!(event, expected);
        for (path, says) in [
            ("data.list.9", "list of 3"),
            ("data.list.x", "list of 3"),
            ("data.text.y", "no fields"),
            ("", "empty name"),
            ("data..x", "empty name"),
        ] {
            let error = set(&mut event, path, json!(1)).unwrap_err();
            assert!(error.contains(says), "{path}: {error}");
        }
    }
}
