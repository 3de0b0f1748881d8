//! `smartshape check`: whether an endpoint takes what is signed, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use smartshape_fake::{EventPayload, Fault, judge};
use smartshape_webhook::{EventKind, Secret};

use crate::failure::{Failure, Outcome};
use crate::input::SecretArgument;
use crate::output::{self, shown};
use crate::send;
use crate::settings::Settings;
use crate::token::{self, Making};

#[derive(Args)]
#[command(after_help = "\
Sends requests that are to be refused (no token, one of another secret), and a signed sample event twice, which is
to be accepted twice: the endpoint's handler sees it. Exit code 1 when one of them is not as it should be.")]
pub(crate) struct Check {
    /// The endpoint
    url: String,
    #[command(flatten)]
    secret: SecretArgument,
    /// The event that is sent
    #[arg(long, default_value = "file_uploaded")]
    event: EventKind,
    /// How many seconds each answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    making: Making,
}

impl Check {
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        let url = send::checked(&self.url, "the endpoint")?;
        let secret = self.secret.get()?;
        let token = token::make(&secret, &self.making)?;
        let foreign = token::make(&Secret::generate()?, &self.making)?;
        let body = EventPayload::sample(self.event).to_body();
        let requests = [
            ("without a token, refused", None, false),
            ("a token of another secret, refused", Some(&foreign), false),
            ("a signed event, accepted", Some(&token), true),
            ("the same event again, accepted", Some(&token), true),
        ];
        let mut rows = Vec::new();
        let mut all_well = true;
        for (what, token, accepted) in requests {
            let faults = self.faults(&url, token.map(String::as_str), body.clone(), accepted).await;
            all_well &= faults.is_empty();
            if settings.json {
                output::json(&json!({"check": what, "ok": faults.is_empty(), "faults": faults}))?;
            }
            let verdict = if faults.is_empty() { "ok".to_owned() } else { faults.join("; ") };
            rows.push(vec![what.to_owned(), verdict]);
        }
        if !settings.json {
            output::table(&["CHECK", "RESULT"], &rows)?;
        }
        if all_well { Ok(()) } else { Err(Failure::told()) }
    }

    /// What is not as it should be.
    async fn faults(&self, url: &http::Uri, token: Option<&str>, body: Bytes, accepted: bool) -> Vec<String> {
        let limit = Duration::from_secs(self.timeout);
        let faults: Vec<String> = match send::post(url, token, body, limit).await {
            Err(fault) => vec![fault.to_string()],
            Ok(answer) => {
                let faults = judge(answer.status, answer.content_type.as_deref(), &answer.body);
                match (accepted, faults.is_empty(), answer.status) {
                    (true, ..) => faults.iter().map(Fault::to_string).collect(),
                    (false, true, _) => vec!["it was accepted: anybody can forge events".to_owned()],
                    (false, false, 400..=499) => Vec::new(),
                    (false, false, status) => {
                        vec![format!("the status is {status}, and no refusal from 400 to 499")]
                    }
                }
            }
        };
        faults.iter().map(|fault| shown(fault)).collect()
    }
}
