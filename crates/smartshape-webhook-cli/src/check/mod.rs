//! `smartshape check`: tests an endpoint against everything that SmartShape, or an attacker, may send.

mod cases;
mod endpoint;
mod evaluate;
mod fixture;
mod newer_forms;
mod report;
mod request;
mod run;

#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use smartshape_webhook::EventKind;

use self::cases::{Case, Scope};
use self::endpoint::Endpoint;
use self::fixture::Fixture;
use self::report::{CaseOutcome, Report};
use crate::escape::escape;
use crate::failure::{CliResult, Failure, usage};
use crate::http_client;
use crate::input::{self, SecretArgument};
use crate::output::start_progress;
use crate::settings::Settings;
use crate::token::{self, TokenOptions};

#[derive(Args)]
#[command(after_help = "\
Plays SmartShape's side against an endpoint in any language: correctly signed events in all forms that may come, which
are to be accepted by SmartShape's three rules (status exactly 200, application/json, \"success\": true), and requests
that are to be rejected with a status from 400 to 499. The result of each case is
  pass     as it should be
  warn     could be better; it breaks nothing that is certain
  FAIL     a fault, with what was seen and why it matters
  skipped  not sent, and why
With --json each case is a line with `case`, `result`, and `seen` and `why`, or the `reason` for skipping it.

The endpoint handles what it accepts: some 45 events, about the file 7e577e577e577e577e577e57 and of the owner
smartshape-check@example.com, with the header `x-smartshape-fake: 1`. Its handler can tell tests by any of the three.
A status of 503 is tried again, as SmartShape would.

Exit codes: 0 no faults; 1 faults were found; 2 wrong usage, or the endpoint cannot be reached: no case was run.

  smartshape check http://127.0.0.1:8042/callback
  smartshape check https://example.com/callback --event file_uploaded --secret - < secret.txt
  smartshape check http://127.0.0.1:8042/callback --only 'not JSON'")]
pub(crate) struct Check {
    /// The endpoint
    url: String,
    #[command(flatten)]
    secret: SecretArgument,
    /// An event that the endpoint is registered for; all nine by default
    #[arg(long, value_name = "EVENT", value_parser = input::event())]
    event: Vec<EventKind>,
    /// The id of the file that the events are about, for an endpoint that has to know it
    #[arg(long, value_name = "ID", default_value = fixture::FILE, hide_default_value = true)]
    file: String,
    /// The owner of the events, for an endpoint whose secret is scoped to some owners
    #[arg(long, value_name = "OWNER", default_value = fixture::OWNER, hide_default_value = true)]
    owner: String,
    /// Runs only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also runs cases that may stop an endpoint: a token of cost 31, 200 concurrent forged tokens, stalled bodies,
    /// deep nesting, 50 MB
    #[arg(long)]
    destructive: bool,
    /// Maximum time to wait for each response
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    token_options: TokenOptions,
}

impl Check {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let url = http_client::parse_endpoint(&self.url, "the endpoint", settings)?;
        let cases: Vec<&Case> = cases::all().filter(|case| self.is_wanted(case)).collect();
        if cases.is_empty() {
            let text = self.only.as_deref().unwrap_or_default();
            return Err(usage!("no case's name contains {:?}", escape(text)));
        }
        let secret = self.secret.get()?;
        let out_of_reach = |fault: smartshape_fake::Fault| {
            let hint = if fault == smartshape_fake::Fault::ConnectionRefused {
                "; does the endpoint run there?"
            } else {
                ""
            };
            usage!("{}: {fault}{hint}", self.url)
        };
        let endpoint = Endpoint::new(url, Duration::from_secs(self.timeout)).map_err(out_of_reach)?;
        start_progress(format_args!("waiting for {}", self.url));
        endpoint.reach().await.map_err(out_of_reach)?;
        let sign = |secret: &_| token::sign(secret, &self.token_options);
        let fixture = Fixture::new(secret, sign, &self.file, &self.owner)?;

        let mut report = Report::begin(&cases, settings.json)?;
        let mut gone_since: Option<&Case> = None;
        for case in cases {
            let reason = match gone_since {
                Some(last) => Some(format!("the endpoint is gone since \"{}\"", last.name)),
                None => self.why_not(case),
            };
            let outcome = match reason {
                Some(reason) => CaseOutcome::skipped(reason),
                None => {
                    start_progress(case.name);
                    let kind = self.kind_for(case);
                    let result = run::run_case(&endpoint, &fixture, case, kind).await;
                    gone_since = result.is_gone.then_some(case);
                    CaseOutcome::new(case, result)
                }
            };
            report.row(case, &outcome)?;
        }
        if report.end()? { Ok(()) } else { Err(Failure::printed()) }
    }

    fn is_wanted(&self, case: &Case) -> bool {
        self.only.as_deref().is_none_or(|text| case.name.to_lowercase().contains(&text.to_lowercase()))
    }

    /// Why a case is not run.
    fn why_not(&self, case: &Case) -> Option<String> {
        let takes = |kind| self.event.is_empty() || self.event.contains(&kind);
        match case.scope {
            Scope::Event(kind) if !takes(kind) => Some("not one of the events of --event".to_owned()),
            Scope::AllEvents if !self.event.is_empty() => Some("--event says which events come".to_owned()),
            _ if case.destructive && !self.destructive => {
                Some("it may stop an endpoint: --destructive runs it".to_owned())
            }
            _ => None,
        }
    }

    fn kind_for(&self, case: &Case) -> EventKind {
        match case.scope {
            Scope::Event(kind) => kind,
            Scope::AnyEvent | Scope::AllEvents => {
                self.event.first().copied().unwrap_or(EventKind::FileUploaded)
            }
        }
    }
}
