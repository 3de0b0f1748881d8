//! Servers that are measured in turns, so that a busy moment of the machine meets all of them.

use std::time::Duration;

use crate::Result;
use crate::client::Client;
use crate::process::Server;
use crate::report::Figure;
use crate::request::{Request, Tokens};

/// A server with the client that keeps it busy.
pub(crate) struct Contender {
    server: Server,
    pub(crate) client: Client,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Accepted requests a second.
    rate: f64,
    /// CPU time for each request, in microseconds.
    cpu: f64,
}

impl Contender {
    /// Makes the request's token known to the server.
    pub(crate) async fn new(server: Server, connections: usize, request: &Request) -> Result<Self> {
        let mut client = Client::new(server.address, connections, request, &Tokens::Same);
        client.warm_token_cache().await?;
        Ok(Self { server, client })
    }

    async fn sample(&mut self, slice: Duration) -> Result<Sample> {
        let before = self.server.cpu_time()?;
        let counts = self.client.send_for(slice).await?;
        let used = (self.server.cpu_time()? - before).as_secs_f64();
        if counts.rejected > 0 {
            return Err(format!("{} honest requests were rejected", counts.rejected).into());
        }
        Ok(Sample { rate: counts.rate(), cpu: used * 1e6 / counts.accepted as f64 })
    }
}

/// The turns of each side, round by round.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Vec<Vec<Sample>>);

impl Rounds {
    /// Gives each side one slice in each round, starting with another side each time.
    pub(crate) async fn measure(
        contenders: &mut [Contender],
        rounds: usize,
        slice: Duration,
    ) -> Result<Self> {
        let mut measured = Vec::new();
        // The first round fills caches and does not count.
        for round in 0..=rounds {
            let mut turns = vec![None; contenders.len()];
            for step in 0..contenders.len() {
                let side = (round + step) % contenders.len();
                turns[side] = Some(contenders[side].sample(slice).await?);
            }
            if round > 0 {
                measured.push(turns.into_iter().flatten().collect());
            }
        }
        Ok(Self(measured))
    }

    pub(crate) fn rate(&self, side: usize) -> Figure {
        self.figure(|turns| turns[side].rate)
    }

    pub(crate) fn cpu(&self, side: usize) -> Figure {
        self.figure(|turns| turns[side].cpu)
    }

    /// One side's throughput over another's.
    pub(crate) fn ratio(&self, side: usize, other: usize) -> Figure {
        self.figure(|turns| turns[side].rate / turns[other].rate)
    }

    /// The CPU time for each request that one side takes more than another.
    pub(crate) fn added_cpu(&self, side: usize, other: usize) -> Figure {
        self.figure(|turns| turns[side].cpu - turns[other].cpu)
    }

    /// The throughput ratio if only CPU time mattered.
    pub(crate) fn cpu_ratio(&self, side: usize, other: usize) -> Figure {
        self.figure(|turns| turns[other].cpu / turns[side].cpu)
    }

    fn figure(&self, value: impl Fn(&[Sample]) -> f64) -> Figure {
        Figure::from_samples(self.0.iter().map(|turns| value(turns)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_taken_within_a_round() {
        // The machine is half as fast in each second round.
        let turn = |rate: f64| Sample { rate, cpu: 1e6 / rate };
        let round = |speed: f64| [100.0, 80.0].map(|rate| turn(rate * speed)).to_vec();
        let rounds = Rounds([1.0, 0.5, 1.0, 0.5].map(round).to_vec());
        assert_eq!(rounds.ratio(1, 0).show(3), "0.800");
        assert_eq!(rounds.cpu_ratio(1, 0).show(3), "0.800");
        assert_eq!(rounds.added_cpu(1, 0).show(0), "3 750 (2 500–5 000)");
    }
}
