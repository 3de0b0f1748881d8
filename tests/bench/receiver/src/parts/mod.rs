//! What is measured, question by question.

mod known;

use bench_report::{Part, Start};
use smartshape_fake::{Prefix, token};

use crate::Outcome;
use crate::client::Client;
use crate::cores::Cores;
use crate::payload::Request;
use crate::process::Server;
use crate::server::{LOG_LEVEL, SECRET, Spec};
use crate::tokens::Tokens;
use crate::turns::Side;

/// Each part by the word that asks for it.
pub(crate) const PARTS: [&str; 1] = ["known"];

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) cores: Cores,
    pub(crate) quick: bool,
}

pub(crate) async fn measure(name: &str, run: Run) -> Outcome<Part> {
    run.cores.send()?;
    let start = Start::now();
    let mut part = match name {
        "known" => known::measure(run).await?,
        _ => return Err(format!("there is no part {name:?}").into()),
    };
    let of_the_run = [start.facts(run.quick), versions()].concat();
    part.facts.splice(0..0, of_the_run);
    Ok(part)
}

fn versions() -> Vec<(&'static str, String)> {
    vec![
        ("smartshape-webhook", env!("CARGO_PKG_VERSION").to_owned()),
                ("log level", LOG_LEVEL.to_string()),
    ]
}

/// A server, kept busy with this request.
fn side(spec: Spec, connections: usize, request: &Request) -> Outcome<Side> {
    let server = Server::start(spec)?;
    let client = Client::new(server.address, connections, request, &Tokens::default());
    Ok(Side { server, client })
}

/// A token of the servers' secret, of the cost that is likely.
fn known_token() -> Outcome<String> {
    Ok(token(SECRET, 10, Prefix::TwoB)?)
}
