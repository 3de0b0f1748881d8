//! A new salt with every delivery: each token has to be hashed.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::process::Server;
use crate::report::{Aim, Figure, heading, number, table};
use crate::request::{Request, Tokens, fresh_tokens, known_token, small_event};
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::{Result, Run};

/// Low, since making a token takes as long as checking it.
const COST: u32 = 8;
/// More than a slice needs.
const TOKENS: usize = 600;
const SENDERS: usize = 8;
const AIM: Aim = Aim::AtLeast(2.2);
/// How many secrets a receiver has, of which all are tried, and how many plain hashes a delivery may take.
const SECRETS: [(usize, Option<Aim>); 3] = [(1, None), (4, Some(Aim::AtMost(1.6))), (9, None)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 700) } else { (5, 2000) };
    let slice = Duration::from_millis(slice);
    let tokens = fresh_tokens(COST, TOKENS)?;
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let (mut bare, mut fresh, mut rejected) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        bare.push(hash_in_a_loop(&tokens, slice)?);
        // Each server is a new one, which knows no token.
        let server = Server::start(Spec::new(Framework::Axum, Kind::Receiver))?;
        let mut senders = Client::new(server.address, SENDERS, &request, &Tokens::once(tokens.clone()));
        let counts = senders.send_for(slice).await?;
        fresh.push(counts.rate());
        rejected += counts.rejected;
    }
    let ratio = Figure::ratio(&fresh, &bare);
    heading("## A new salt with every delivery");
    let row = vec![
        Figure::from_samples(bare).show(1),
        Figure::from_samples(fresh).show(1),
        ratio.show(3),
        AIM.status(ratio.median),
        number(rejected as f64, 0),
    ];
    table("bare loop, hashes/s | new salts, requests/s | ratio | aim | rejected", &[row]);

    heading("### Several secrets");
    let mut rows = Vec::new();
    for (secrets, aim) in SECRETS {
        let (mut bare, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let hashes = hash_in_a_loop(&tokens, slice / 2)?;
            let spec = Spec { secrets, ..Spec::new(Framework::Axum, Kind::Receiver) };
            let server = Server::start(spec)?;
            let mut sender = Client::new(server.address, 1, &request, &Tokens::once(tokens.clone()));
            let rate = sender.send_for(slice / 2).await?.rate();
            bare.push(1000.0 / hashes);
            fresh.push(1000.0 / rate);
        }
        let ratio = Figure::ratio(&fresh, &bare);
        rows.push(vec![
            number(secrets as f64, 0),
            Figure::from_samples(bare).show(1),
            Figure::from_samples(fresh).show(1),
            ratio.show(2),
            aim.map_or("–".to_owned(), |aim| aim.status(ratio.median)),
        ]);
    }
    table("secrets | one hash, ms | a delivery, ms | ratio | aim", &rows);
    Ok(())
}

/// How many tokens a core checks in a second if it does nothing else.
fn hash_in_a_loop(tokens: &[String], time: Duration) -> Result<f64> {
    let (begun, mut hashes) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        if !bcrypt::verify(SECRET, &tokens[hashes % tokens.len()])? {
            return Err("a token does not match its secret".into());
        }
        hashes += 1;
    }
    Ok(hashes as f64 / begun.elapsed().as_secs_f64())
}
