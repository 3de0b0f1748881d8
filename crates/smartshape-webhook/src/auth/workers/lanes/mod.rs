//! One worker thread, and the choice of the tokens and secrets that it hashes side by side.
//!
//! [`bcrypt_lanes::run`] asks for the next secret to try whenever a lane is free. It gets the secrets of a token one
//! after the other, then those of the next token in the fair queue; nothing waits for a batch to fill or to end. A
//! token's first matching secret ends it: no further secret is tried, and what other lanes still compute for it is
//! ignored.
//!
//! Tokens of one client leave the last lane to another client: a sender does not wait until a lane is done with a
//! forgery from another address, and three lanes hash nearly as much as four. A token that is tried with several
//! secrets may take all lanes: its time is then little more than that of one.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bcrypt_lanes::{Hash, Job, MAX_LANES};

use super::{Hashed, QueuedItem, Shared, catch_panic, cpu_time, pause};
use crate::auth::TokenStatus;
use crate::auth::client_addr::ClientAddr;
use crate::auth::keyring::{Keyring, KeyringEntry, SecretId};
use crate::auth::token::Token;
use crate::metrics::HashingToken;

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    /// Tokens that are being hashed, oldest first. Only the last may have secrets that no lane has started.
    verifications: Vec<Verification>,
    /// The number of the last verification.
    last: u64,
    clock: LaneClock,
    /// Rejected tokens for which a pause is due.
    pending_pauses: Vec<PendingPause>,
    /// Takes one token at a time, since the last rejected one was hashed on a contended core. Otherwise one pause would
    /// stand for several forgeries, and a sender's token would wait for all of them. Ends when a token matches.
    serial: bool,
}

/// A token that is being hashed.
struct Verification {
    number: u64,
    token: Token,
    client: Option<ClientAddr>,
    work: u64,
    hash: Option<Hash>,
    keyring: Arc<Keyring>,
    hashing: Option<HashingToken>,
    /// Number of secrets that lanes have started to try.
    started: usize,
    /// Number of secrets that have been tried.
    tried: usize,
    /// Time spent on these.
    spent: LaneTime,
}

/// A pause that a rejected token has earned. It begins when all lanes have ended.
struct PendingPause {
    pause: Duration,
    client: Option<ClientAddr>,
    wall: Duration,
    work: u64,
}

/// One secret that is tried in a lane.
pub(super) struct Trial {
    verification: u64,
    secret: SecretId,
    started_at: LaneTime,
}

/// A secret as a password, without a copy of it.
pub(super) struct Password(Arc<KeyringEntry>);

impl AsRef<[u8]> for Password {
    fn as_ref(&self) -> &[u8] {
        self.0.secret().expose().as_bytes()
    }
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let clock = LaneClock::new();
        Self { shared, verifications: Vec::new(), last: 0, clock, pending_pauses: Vec::new(), serial: false }
    }

    /// Hashes until no token waits, or a pause is due, and pauses.
    pub(super) fn run(&mut self) {
        self.clock = LaneClock::new();
        let worker = RefCell::new(&mut *self);
        // No panic may end the thread, nor leave a request waiting.
        catch_panic(|| {
            bcrypt_lanes::run(
                || worker.borrow_mut().next(),
                |trial, matches| worker.borrow_mut().record_trial(&trial, matches),
            );
        });
        // Nothing is left here unless there was a panic, or there are no secrets.
        for verification in std::mem::take(&mut self.verifications) {
            let status = verification.is_exhausted().then_some(TokenStatus::Rejected);
            catch_panic(|| self.finish(verification, status));
        }
        self.pause();
    }

    /// The next secret to try.
    pub(super) fn next(&mut self) -> Option<Job<Password, Trial>> {
        loop {
            let is_hashing = !self.verifications.is_empty();
            if let Some(verification) = self.verifications.last_mut()
                && let Some((hash, secret, entry)) = verification.next_secret()
            {
                let started_at = self.clock.start();
                let tag = Trial { verification: verification.number, secret, started_at };
                return Some(Job { password: Password(entry), hash, tag });
            }
            // Here every secret of every verification has been started. Only the last verification is asked for
            // secrets, so one that got a newer one behind it too early would never have a result.
            if !self.pending_pauses.is_empty() || (is_hashing && self.serial) {
                return None;
            }
            let is_last_lane = self.clock.lanes as usize + 1 == MAX_LANES;
            let has_the_others =
                |client| self.verifications.iter().all(|verification| verification.client == client);
            let is_allowed = |client| !(is_hashing && is_last_lane && has_the_others(client));
            let (QueuedItem { token, gauge, client }, keyring, work) =
                self.shared.pop(is_hashing, is_allowed)?;
            self.last += 1;
            self.verifications.push(Verification {
                number: self.last,
                token,
                client,
                work,
                hash: token.hash(),
                keyring,
                hashing: catch_panic(|| gauge.begin()),
                started: 0,
                tried: 0,
                spent: LaneTime::ZERO,
            });
        }
    }

    /// A lane has tried a secret.
    pub(super) fn record_trial(&mut self, trial: &Trial, matches: bool) {
        let spent = self.clock.end().since(trial.started_at);
        // Another lane may have found the token's secret meanwhile.
        let Some(index) =
            self.verifications.iter().position(|verification| verification.number == trial.verification)
        else {
            return;
        };
        let verification = &mut self.verifications[index];
        verification.tried += 1;
        verification.spent = verification.spent.plus(spent);
        let status = if matches { TokenStatus::Verified(trial.secret) } else { TokenStatus::Rejected };
        if matches || verification.is_exhausted() {
            let verification = self.verifications.remove(index);
            self.finish(verification, Some(status));
        }
    }

    fn finish(&mut self, verification: Verification, status: Option<TokenStatus>) {
        let Verification { token, client, work, keyring, hashing, tried, spent, .. } = verification;
        if let Some(hashing) = hashing {
            catch_panic(|| hashing.end());
        }
        self.shared.publish(&token, work, status.map(|status| Hashed { keyring, status }));
        let pause =
            if status == Some(TokenStatus::Rejected) { pause(spent.wall, spent.cpu) } else { Duration::ZERO };
        let done = (tried as u64) << (token.cost() - 4);
        match status {
            Some(TokenStatus::Rejected) => self.serial = !pause.is_zero(),
            Some(TokenStatus::Verified(_)) => self.serial = false,
            None => {}
        }
        if !pause.is_zero() {
            self.pending_pauses.push(PendingPause { pause, client, wall: spent.wall, work: done });
        } else if done > 0 {
            self.shared.record_time_per_unit(spent.wall, done);
        }
    }

    fn pause(&mut self) {
        let pauses = std::mem::take(&mut self.pending_pauses);
        let clients: Vec<_> = pauses.iter().map(|pause| pause.client).collect();
        let paused = self.shared.pause(pauses.iter().map(|pause| pause.pause).sum(), &clients);
        // The queue's capacity is that of workers that pause, so a pause counts as time of the hashes that caused it.
        for PendingPause { wall, work, .. } in &pauses {
            self.shared.record_time_per_unit(*wall + paused / pauses.len() as u32, *work);
        }
    }
}

impl Verification {
    fn next_secret(&mut self) -> Option<(Hash, SecretId, Arc<KeyringEntry>)> {
        let hash = self.hash.clone()?;
        let (id, entry) = self.keyring.nth(self.started)?;
        self.started += 1;
        Some((hash, id, Arc::clone(entry)))
    }

    /// Whether every secret has been tried.
    fn is_exhausted(&self) -> bool {
        self.tried == self.keyring.len()
    }
}

/// Divides the thread's time evenly among the lanes in use, so that the times of all secrets add up to it. A token is
/// thus charged for its share of the thread, however many others were hashed beside it.
struct LaneClock {
    lanes: u32,
    at: Instant,
    cpu: Option<Duration>,
    /// The time of a lane that has been in use all along.
    time: LaneTime,
}

impl LaneClock {
    fn new() -> Self {
        Self { lanes: 0, at: Instant::now(), cpu: cpu_time(), time: LaneTime::ZERO }
    }

    /// A lane starts, at the returned time.
    fn start(&mut self) -> LaneTime {
        self.advance();
        self.lanes += 1;
        self.time
    }

    /// A lane ends, at the returned time.
    fn end(&mut self) -> LaneTime {
        self.advance();
        self.lanes = self.lanes.saturating_sub(1);
        self.time
    }

    fn advance(&mut self) {
        let (at, cpu) = (Instant::now(), cpu_time());
        let lanes = self.lanes.max(1);
        let spent = LaneTime {
            wall: at.duration_since(self.at) / lanes,
            cpu: cpu.zip(self.cpu).map(|(after, before)| after.saturating_sub(before) / lanes),
        };
        self.time = self.time.plus(spent);
        (self.at, self.cpu) = (at, cpu);
    }
}

#[derive(Clone, Copy)]
struct LaneTime {
    wall: Duration,
    /// `None` where the system does not tell.
    cpu: Option<Duration>,
}

impl LaneTime {
    const ZERO: Self = Self { wall: Duration::ZERO, cpu: Some(Duration::ZERO) };

    fn plus(self, other: Self) -> Self {
        let cpu = self.cpu.zip(other.cpu).map(|(one, other)| one + other);
        Self { wall: self.wall + other.wall, cpu }
    }

    fn since(self, earlier: Self) -> Self {
        let cpu = self.cpu.zip(earlier.cpu).map(|(now, earlier)| now.saturating_sub(earlier));
        Self { wall: self.wall.saturating_sub(earlier.wall), cpu }
    }
}

#[cfg(test)]
mod tests;
