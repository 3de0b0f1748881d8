//! The contenders of a comparison take turns, so that a busy moment of the machine meets all of them.

use std::time::Duration;

use crate::Result;
use crate::client::Client;
use crate::process::Server;
use crate::request::{Request, Tokens};
use crate::server::Spec;

/// Measures each contender once in each round, beginning with another one each time. Returns the samples of each.
pub(crate) async fn take_turns<C, T>(
    contenders: &mut [C],
    rounds: usize,
    mut measure: impl AsyncFnMut(&mut C) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut samples: Vec<_> = contenders.iter().map(|_| Vec::new()).collect();
    // The first round fills caches and does not count.
    for round in 0..=rounds {
        for step in 0..contenders.len() {
            let index = (round + step) % contenders.len();
            let sample = measure(&mut contenders[index]).await?;
            if round > 0 {
                samples[index].push(sample);
            }
        }
    }
    Ok(samples)
}

/// A server with the client that keeps it busy.
pub(crate) struct Contender {
    server: Server,
    pub(crate) client: Client,
}

/// Accepted requests a second, and the CPU time for each request in microseconds, of each contender, round by round.
pub(crate) struct Samples {
    pub(crate) rates: Vec<Vec<f64>>,
    pub(crate) cpu: Vec<Vec<f64>>,
}

impl Contender {
    pub(crate) async fn start(spec: Spec, connections: usize, request: &Request) -> Result<Self> {
        Self::new(Server::start(spec)?, connections, request).await
    }

    /// Makes the request's token known to the server.
    pub(crate) async fn new(server: Server, connections: usize, request: &Request) -> Result<Self> {
        let mut client = Client::new(server.address, connections, request, &Tokens::Same);
        client.warm_token_cache().await?;
        Ok(Self { server, client })
    }

    pub(crate) async fn measure(contenders: &mut [Self], rounds: usize, slice: Duration) -> Result<Samples> {
        let samples = take_turns(contenders, rounds, async |contender: &mut Self| {
            let before = contender.server.cpu_time()?;
            let counts = contender.client.send_for(slice).await?.all_accepted()?;
            let used = (contender.server.cpu_time()? - before).as_secs_f64();
            Ok((counts.rate(), used * 1e6 / counts.accepted as f64))
        });
        let split = |samples: Vec<(f64, f64)>| -> (Vec<f64>, Vec<f64>) { samples.into_iter().unzip() };
        let (rates, cpu) = samples.await?.into_iter().map(split).unzip();
        Ok(Samples { rates, cpu })
    }
}
