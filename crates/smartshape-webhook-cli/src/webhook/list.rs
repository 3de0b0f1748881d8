//! `smartshape webhook list`.

use serde_json::json;
use smartshape_api::{Registration, redact_url};

use crate::failure::CliResult;
use crate::output::{self, print_notice};
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings) -> CliResult {
    let client = settings.api()?.client;
    let listed = client.list_webhooks().await?;
    if settings.json {
        return listed.iter().try_for_each(|Registration { id, event, url, owner, .. }| {
            output::json(&json!({"id": id, "event": event, "url": url, "owner": owner}))
        });
    }
    if listed.is_empty() {
        print_notice("there are no webhooks");
    }
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    // Tables end up in logs; --json has the whole URL.
    let url = |one: &Registration| cell(one.url.as_deref().map(redact_url));
    let row = |one: Registration| vec![one.id.clone(), cell(one.event.clone()), url(&one), cell(one.owner)];
    let rows: Vec<_> = listed.into_iter().map(row).collect();
    output::table(&["ID", "EVENT", "URL", "OWNER"], &rows)
}
