//! A new salt with every delivery: each token has to be hashed.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::process::Server;
use crate::report::{Aim, Samples, table};
use crate::request::{Request, fresh_tokens};
use crate::server::{SECRET, Spec};
use crate::turns::repeat;
use crate::{Result, Run};

/// Low, since making a token takes as long as checking it.
const COST: u32 = 8;
/// More than a slice needs.
const TOKENS: usize = 600;
const SENDERS: usize = 8;
const AIM: Aim = Aim::AtLeast(2.2);
/// How many secrets a receiver has, of which all are tried, and how many plain hashes a delivery may take.
const SECRETS: [(usize, Aim); 3] = [(1, Aim::None), (4, Aim::AtMost(1.6)), (9, Aim::None)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 700) } else { (5, 2000) };
    let slice = Duration::from_millis(slice);
    let tokens = fresh_tokens(COST, TOKENS)?;
    let [bare, fresh, rejected] = beside_a_loop(&tokens, SENDERS, 1, rounds, slice).await?;
    let ratio = fresh.ratio_to(&bare);
    let (status, rejected) = (AIM.status(ratio.median()), rejected.0.iter().sum::<f64>());
    let columns = "bare loop, hashes/s | new salts, requests/s | ratio | aim | rejected";
    table("## A new salt with every delivery", columns);
    println!("| {bare:.1} | {fresh:.1} | {ratio:.3} | {status} | {rejected} |");

    table("### Several secrets", "secrets | one hash, ms | a delivery, ms | ratio | aim");
    for (secrets, aim) in SECRETS {
        let rates = beside_a_loop(&tokens, 1, secrets, rounds, slice / 2).await?;
        let [hash, delivery, _] = rates.map(|rates| rates.map(|rate| 1000.0 / rate));
        let ratio = delivery.ratio_to(&hash);
        println!("| {secrets} | {hash:.1} | {delivery:.1} | {ratio:.2} | {} |", aim.status(ratio.median()));
    }
    Ok(())
}

/// Hashes a second in a bare loop, and what senders of new tokens got: accepted requests a second, and rejected ones.
async fn beside_a_loop(
    tokens: &[String],
    senders: usize,
    secrets: usize,
    rounds: usize,
    slice: Duration,
) -> Result<[Samples; 3]> {
    repeat(rounds, async || {
        let bare = hash_in_a_loop(tokens, slice)?;
        // Each server is a new one, which knows no token.
        let server = Server::start(Spec { other_secrets: secrets - 1, ..Spec::default() })?;
        let request = Request::with_each_of(tokens.to_vec())?;
        let mut client = Client::new(server.address, senders, &request);
        let counts = client.send_for(slice).await?;
        Ok([bare, counts.rate(), counts.rejected as f64])
    })
    .await
}

/// How many tokens a core checks in a second if it does nothing else.
fn hash_in_a_loop(tokens: &[String], time: Duration) -> Result<f64> {
    let (started_at, mut hashes) = (Instant::now(), 0_usize);
    while started_at.elapsed() < time {
        hashes += usize::from(bcrypt::verify(SECRET, &tokens[hashes % tokens.len()])?);
    }
    Ok(hashes as f64 / started_at.elapsed().as_secs_f64())
}
