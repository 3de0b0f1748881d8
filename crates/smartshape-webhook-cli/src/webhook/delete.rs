//! `smartshape webhook delete`.

use clap::Args;

use super::print::print_deleted;
use crate::escape::escape;
use crate::failure::{CliResult, Failure, api_chain};
use crate::input;
use crate::output::print_notice;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Delete {
    /// The webhooks, by the ID column of `webhook list`
    #[arg(required = true, value_name = "ID", value_parser = input::id)]
    ids: Vec<String>,
}

impl Delete {
    pub(super) async fn run(self, settings: &Settings) -> CliResult {
        let client = settings.api()?.client;
        let mut failure = None;
        let mut ids = self.ids.iter();
        while let Some(id) = ids.next() {
            match client.delete_webhook(id).await {
                Ok(()) => {
                    // Standard output may be closed; the other webhooks are deleted all the same.
                    failure = failure.or(print_deleted(id).err());
                }
                // The others may be there all the same.
                Err(error) if error.kind() == smartshape_api::ErrorKind::NotFound => {
                    print_notice(format_args!(
                        "there is no webhook {}: see `smartshape webhook list`",
                        escape(id)
                    ));
                    failure = Some(Failure::printed());
                }
                Err(error) => {
                    print_notice(format_args!("{}: {}", escape(id), api_chain(&error)));
                    let rest: Vec<_> = ids.by_ref().map(|id| escape(id)).collect();
                    if !rest.is_empty() {
                        print_notice(format_args!("not tried any more: {}", rest.join(" ")));
                    }
                    failure = Some(Failure::from(error).silent());
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
