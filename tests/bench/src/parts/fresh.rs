//! A new salt with every delivery: each token has to be hashed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Client, Counts};
use crate::process::Server;
use crate::report::{Aim, Figure, table};
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
const SECRETS: [(usize, Aim); 3] = [(1, Aim::None), (4, Aim::AtMost(1.6)), (9, Aim::None)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 700) } else { (5, 2000) };
    let slice = Duration::from_millis(slice);
    let tokens = fresh_tokens(COST, TOKENS)?;
    let (bare, fresh) = beside_a_loop(&tokens, SENDERS, 1, rounds, slice).await?;
    let rates: Vec<_> = fresh.iter().map(Counts::rate).collect();
    let ratio = Figure::ratio(&rates, &bare);
    let row = format!(
        "{:.1} | {:.1} | {ratio:.3} | {} | {}",
        Figure::from_samples(&bare),
        Figure::from_samples(&rates),
        AIM.status(ratio.median),
        fresh.iter().map(|counts| counts.rejected).sum::<u64>(),
    );
    let columns = "bare loop, hashes/s | new salts, requests/s | ratio | aim | rejected";
    table("## A new salt with every delivery", columns, &[row]);

    let mut rows = Vec::new();
    for (secrets, aim) in SECRETS {
        let (bare, fresh) = beside_a_loop(&tokens, 1, secrets, rounds, slice / 2).await?;
        let bare: Vec<_> = bare.iter().map(|rate| 1000.0 / rate).collect();
        let fresh: Vec<_> = fresh.iter().map(|counts| 1000.0 / counts.rate()).collect();
        let ratio = Figure::ratio(&fresh, &bare);
        rows.push(format!(
            "{secrets} | {:.1} | {:.1} | {ratio:.2} | {}",
            Figure::from_samples(&bare),
            Figure::from_samples(&fresh),
            aim.status(ratio.median),
        ));
    }
    table("### Several secrets", "secrets | one hash, ms | a delivery, ms | ratio | aim", &rows);
    Ok(())
}

/// Hashes a second in a bare loop, and what senders of new tokens got, round by round.
async fn beside_a_loop(
    tokens: &Arc<[String]>,
    senders: usize,
    secrets: usize,
    rounds: usize,
    slice: Duration,
) -> Result<(Vec<f64>, Vec<Counts>)> {
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let (mut bare, mut fresh) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(hash_in_a_loop(tokens, slice)?);
        // Each server is a new one, which knows no token.
        let server = Server::start(Spec { secrets, ..Spec::new(Framework::Axum, Kind::Receiver) })?;
        let mut client = Client::new(server.address, senders, &request, &Tokens::once(tokens.clone()));
        fresh.push(client.send_for(slice).await?);
    }
    Ok((bare, fresh))
}

/// How many tokens a core checks in a second if it does nothing else.
fn hash_in_a_loop(tokens: &[String], time: Duration) -> Result<f64> {
    let (started_at, mut hashes) = (Instant::now(), 0_usize);
    while started_at.elapsed() < time {
        if !bcrypt::verify(SECRET, &tokens[hashes % tokens.len()])? {
            return Err("a token does not match its secret".into());
        }
        hashes += 1;
    }
    Ok(hashes as f64 / started_at.elapsed().as_secs_f64())
}
