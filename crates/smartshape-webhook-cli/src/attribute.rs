//! `smartshape attribute`: attributes of a file's nodes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::escape::escape;
use crate::failure::{CliResult, Failure, usage};
use crate::input;
use crate::output;
use crate::settings::Settings;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sets attributes of a node; fires attribute_updated
    Upsert(Upsert),
}

#[derive(Args)]
#[command(after_help = "\
SmartShape does not document this call's body, which is inferred from that of annotations.

  smartshape attribute upsert 5c6fd '{\"mtime\": 1550824906}' --query id:5b33b")]
pub(crate) struct Upsert {
    /// The file's id
    #[arg(value_parser = input::id)]
    file: String,
    /// The attributes: a JSON object of names and values; - reads it from standard input
    #[arg(value_name = "JSON")]
    attributes: String,
    /// The node, as id: and its id, such as id:5b33b
    #[arg(long, value_name = "id:NODE")]
    query: String,
}

impl Upsert {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let node = self.query.trim().strip_prefix("id:").map(str::trim).filter(|node| !node.is_empty());
        let Some(node) = node else {
            return Err(usage!("--query {}: only id:NODE is known here", escape(&self.query)));
        };
        let text = match self.attributes.as_str() {
            "-" => input::file("-", "the attributes")?,
            text => text.as_bytes().to_vec(),
        };
        let Value::Object(attributes) = input::json(&text, "the attributes")? else {
            let text = r#"the attributes are no JSON object: write them as {"name": value}"#;
            return Err(Failure::usage(text));
        };
        if attributes.is_empty() {
            return Err(Failure::usage(r#"there are no attributes to set: write them as {"name": value}"#));
        }
        let count = attributes.len();
        let attributes = BTreeMap::from([(node.to_owned(), attributes.into_iter().collect())]);
        let client = settings.api()?.client;
        client.upsert_attributes(&self.file, &attributes).await?;
        output::done(
            &json!({"file": self.file, "node": node, "attributes": count}),
            format_args!("set {count} attribute(s) of {} in {}", escape(node), escape(&self.file)),
        )
    }
}
