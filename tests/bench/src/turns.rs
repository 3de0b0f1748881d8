//! The contenders of a comparison take turns, so that a busy moment of the machine meets all of them.

use std::time::Duration;

use crate::Result;
use crate::client::Client;
use crate::process::Server;
use crate::report::Samples;
use crate::request::Request;

/// Measures so many times. Returns the samples of each quantity.
pub(crate) async fn repeat<const N: usize>(
    rounds: usize,
    mut measure: impl AsyncFnMut() -> Result<[f64; N]>,
) -> Result<[Samples; N]> {
    let mut samples = [const { Samples(Vec::new()) }; N];
    for _ in 0..rounds {
        record(&mut samples, measure().await?);
    }
    Ok(samples)
}

/// Measures each contender once in each round, beginning with another one each time. Returns the samples of each.
pub(crate) async fn take_turns<C, const N: usize>(
    contenders: &mut [C],
    rounds: usize,
    mut measure: impl AsyncFnMut(&mut C) -> Result<[f64; N]>,
) -> Result<Vec<[Samples; N]>> {
    let mut samples = vec![[const { Samples(Vec::new()) }; N]; contenders.len()];
    // The first round fills caches and does not count.
    for round in 0..=rounds {
        for step in 0..contenders.len() {
            let index = (round + step) % contenders.len();
            let measured = measure(&mut contenders[index]).await?;
            if round > 0 {
                record(&mut samples[index], measured);
            }
        }
    }
    Ok(samples)
}

fn record<const N: usize>(samples: &mut [Samples; N], measured: [f64; N]) {
    samples.iter_mut().zip(measured).for_each(|(samples, sample)| samples.0.push(sample));
}

/// A server with the client that keeps it busy.
pub(crate) struct Contender {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl Contender {
    /// Makes the request's token known to the server.
    pub(crate) async fn new(server: Server, connections: usize, request: &Request) -> Result<Self> {
        let mut client = Client::new(server.address, connections, request);
        client.warm_token_cache().await?;
        Ok(Self { server, client })
    }

    /// Accepted requests a second, and the CPU time for each request in microseconds, of each contender.
    pub(crate) async fn measure(
        contenders: &mut [Self],
        rounds: usize,
        slice: Duration,
    ) -> Result<Vec<[Samples; 2]>> {
        take_turns(contenders, rounds, async |contender: &mut Self| {
            let before = contender.server.cpu_time()?;
            let counts = contender.client.send_for(slice).await?.all_accepted()?;
            let used = (contender.server.cpu_time()? - before).as_secs_f64();
            Ok([counts.rate(), used * 1e6 / counts.accepted as f64])
        })
        .await
    }
}
