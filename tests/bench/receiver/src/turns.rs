//! Servers that are measured in turns.

use std::time::Duration;

use bench_report::Figure;

use crate::Outcome;
use crate::client::{Client, Tally};
use crate::payload::Request;
use crate::process::Server;
use crate::server::Spec;
use crate::tokens::Tokens;

/// A server that used less of its core than this was not what limited the throughput.
const BUSY: f64 = 0.9;
/// With fewer rounds than these in which both were busy, all rounds count.
const FEWEST: usize = 3;

/// A server with the client that keeps it busy.
pub(crate) struct Side {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

/// One turn of one side.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Accepted a second.
    rate: f64,
    /// Of CPU time for each request.
    microseconds: f64,
    /// How much of its core the server used.
    busy: f64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    rounds: Vec<Vec<Turn>>,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) rounds: usize,
    /// Of one side's turn.
    pub(crate) slice: Duration,
}

/// Each side once in each round, each in turn the first.
pub(crate) async fn take(sides: &mut [Side], length: Length) -> Outcome<Turns> {
    let mut turns = Turns::default();
    // The first round is for caches, connections and tokens that have to become known.
    for round in 0..=length.rounds {
        let mut measured = vec![None; sides.len()];
        for step in 0..sides.len() {
            let place = (round + step) % sides.len();
            measured[place] = Some(sides[place].turn(length.slice).await?);
        }
        if round > 0 {
            turns.rounds.push(measured.into_iter().flatten().collect());
        }
    }
    Ok(turns)
}

impl Side {
    /// A server that knows the token of the requests that it will get.
    pub(crate) async fn start(spec: Spec, connections: usize, request: &Request) -> Outcome<Self> {
        Self::with(Server::start(spec)?, connections, request, &Tokens::default()).await
    }

    /// A server that knows all these tokens.
    pub(crate) async fn with(
        server: Server,
        connections: usize,
        request: &Request,
        tokens: &Tokens,
    ) -> Outcome<Self> {
        let mut client = Client::new(server.address, connections, request, tokens);
        client.introduce().await?;
        Ok(Self { server, client })
    }

    async fn turn(&mut self, slice: Duration) -> Outcome<Turn> {
        let before = self.server.cpu_time()?;
        let (Tally { accepted, rejected, .. }, elapsed) = self.client.send_for(slice).await?;
        let used = (self.server.cpu_time()? - before).as_secs_f64();
        if rejected > 0 {
            return Err(format!("{rejected} of {} honest requests were rejected", accepted + rejected).into());
        }
        Ok(Turn {
            rate: accepted as f64 / elapsed.as_secs_f64(),
            microseconds: used * 1e6 / accepted as f64,
            busy: used / elapsed.as_secs_f64(),
        })
    }
}

impl Turns {
    /// Accepted a second.
    pub(crate) fn rate(&self, side: usize) -> Figure {
        self.figure(&[side], |turns| turns[side].rate)
    }

    /// CPU time for each request, in microseconds.
    pub(crate) fn cpu(&self, side: usize) -> Figure {
        self.figure(&[side], |turns| turns[side].microseconds)
    }

    /// One side's throughput over another's.
    pub(crate) fn ratio(&self, side: usize, other: usize) -> Figure {
        self.figure(&[side, other], |turns| turns[side].rate / turns[other].rate)
    }

    /// The CPU time that one side takes more than another for each request, in microseconds.
    pub(crate) fn added(&self, side: usize, other: usize) -> Figure {
        self.figure(&[side, other], |turns| turns[side].microseconds - turns[other].microseconds)
    }

    /// What throughput would be if nothing but the CPU time mattered, over another side's.
    pub(crate) fn cpu_ratio(&self, side: usize, other: usize) -> Figure {
        self.figure(&[side, other], |turns| turns[other].microseconds / turns[side].microseconds)
    }

    /// How the CPU time of two sides compares, beside how that of two others does: 1 when it is the same.
    pub(crate) fn cpu_ratio_beside(&self, [side, other]: [usize; 2], [first, second]: [usize; 2]) -> Figure {
        let ratio =
            |turns: &[Turn], side: usize, other: usize| turns[other].microseconds / turns[side].microseconds;
        self.figure(&[side, other, first, second], |turns| {
            ratio(turns, side, other) / ratio(turns, first, second)
        })
    }

    /// How many rounds are thrown away when these are compared, in words.
    pub(crate) fn thrown_away(&self, sides: &[usize]) -> String {
        let kept = self.rounds.iter().filter(|turns| busy(turns, sides)).count();
        let all = self.rounds.len();
        if kept < FEWEST {
            format!("{} of {all}: too many, so all count", all - kept)
        } else {
            format!("{} of {all}", all - kept)
        }
    }

    fn figure(&self, sides: &[usize], value: impl Fn(&[Turn]) -> f64) -> Figure {
        let kept: Vec<f64> =
            self.rounds.iter().filter(|turns| busy(turns, sides)).map(|turns| value(turns)).collect();
        if kept.len() >= FEWEST {
            return Figure::of(kept);
        }
        Figure::of(self.rounds.iter().map(|turns| value(turns)).collect())
    }
}

fn busy(turns: &[Turn], sides: &[usize]) -> bool {
    sides.iter().all(|side| turns[*side].busy >= BUSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(rate: f64, busy: f64) -> Turn {
        Turn { rate, microseconds: 1e6 * busy / rate, busy }
    }

    #[test]
    fn a_round_in_which_a_core_was_idle_does_not_count() {
        let mut turns = Turns::default();
        for _ in 0..3 {
            turns.rounds.push(vec![turn(100.0, 1.0), turn(90.0, 1.0)]);
        }
        turns.rounds.push(vec![turn(100.0, 1.0), turn(30.0, 0.4)]);
        assert_eq!(turns.ratio(1, 0).low, 0.9);
        assert_eq!(turns.rate(0).median, 100.0);
        assert_eq!(turns.thrown_away(&[0, 1]), "1 of 4");
        turns.rounds.truncate(1);
        turns.rounds.push(vec![turn(100.0, 1.0), turn(30.0, 0.4)]);
        assert_eq!(turns.ratio(1, 0).low, 0.3);
        assert_eq!(turns.thrown_away(&[0, 1]), "1 of 2: too many, so all count");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut turns = Turns::default();
        // The machine is half as fast in each second round.
        for speed in [1.0, 0.5, 1.0, 0.5] {
            let rates = [100.0, 80.0, 50.0, 20.0].map(|rate| turn(rate * speed, 1.0));
            turns.rounds.push(rates.to_vec());
        }
        let exact =
            |figure: Figure| [figure.low, figure.median, figure.high].map(|value| (value * 1e6).round());
        assert_eq!(exact(turns.ratio(1, 0)), [8e5; 3]);
        assert_eq!(exact(turns.cpu_ratio(1, 0)), [8e5; 3]);
        assert_eq!(exact(turns.cpu_ratio_beside([3, 2], [1, 0])), [5e5; 3]);
        assert_eq!(exact(turns.added(1, 0)), [2_500.0e6, 3_750.0e6, 5_000.0e6]);
    }
}
