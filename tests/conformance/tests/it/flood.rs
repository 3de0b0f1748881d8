//! A receiver that has just started, a flood of forged tokens, and a sender that it does not know yet. Measures, so it
//! is ignored by default: `cargo test -p conformance flood -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::print_stderr, reason = "a trial talks to people")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use conformance::harness::{Harness, SECRET, Subject, event};
use conformance::target::Target;
use conformance::wire::Client;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::{Receiver, Secret, Token};

/// Where the forgeries come from.
#[derive(Clone, Copy, Debug)]
enum From {
    OneOtherAddress,
    AnAddressEach,
    TheSendersAddress,
    /// Each forgery comes again a second later, as only a forger does who knows that arrivals are kept.
    TheSendersAddressRepeated,
}

const SENDER: [u8; 4] = [127, 0, 0, 1];
const RETRY_AFTER: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

#[test]
#[ignore = "takes minutes and measures"]
fn a_sender_is_let_in_while_forgeries_flood_a_fresh_receiver() {
    for from in
        [From::OneOtherAddress, From::AnAddressEach, From::TheSendersAddress, From::TheSendersAddressRepeated]
    {
        for each_second in [50, 200, 2000] {
            // Not the table's runtime, which logs and searches every step.
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let trials: Vec<_> = (0..3).map(|_| runtime.block_on(trial(from, each_second))).collect();
            runtime.shutdown_background();
            for Trial { let_in, attempts, forged } in trials {
                eprintln!("{from:?}, {forged} a second: {let_in:.1?} and {attempts} attempts");
            }
        }
    }
}

/// How long, and how often, the sender tried until it was let in.
struct Trial {
    let_in: Duration,
    attempts: u32,
    /// Forgeries that got a response, per second.
    forged: u64,
}

async fn trial(from: From, each_second: u32) -> Trial {
    let harness = Harness { target: Target::AxumEndpoint };
    let receiver = Receiver::new(Secret::new(SECRET).unwrap()).unwrap();
    let subject = Arc::new(harness.start_receiver(receiver).await);
    let flooding = Instant::now();
    let flood = tokio::spawn(flood(Arc::clone(&subject), from, each_second));
    // So that the queue is full when the sender comes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let real = token(SECRET, 10, Prefix::TwoB).unwrap();
    let begun = Instant::now();
    let mut attempts = 0;
    while begun.elapsed() < GIVEN_UP_AFTER {
        attempts += 1;
        let mut client = Client::connect_from(IpAddr::from(SENDER), subject.address).await;
        client.send(subject.delivery_with(&real, &event("1"))).await;
        if client.response().await.status == 200 {
            break;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    let let_in = begun.elapsed();
    flood.abort();
    let rejected = subject.receiver.stats().rejected - u64::from(attempts - 1);
    Trial { let_in, attempts, forged: rejected / flooding.elapsed().as_secs().max(1) }
}

async fn flood(subject: Arc<Subject>, from: From, each_second: u32) {
    let forged = AtomicU32::new(0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / each_second);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut forgers = tokio::task::JoinSet::new();
    loop {
        ticks.tick().await;
        let number = forged.fetch_add(1, Ordering::Relaxed);
        let (subject, address) = (Arc::clone(&subject), address(from, number));
        forgers.spawn(async move {
            forge(&subject, address, number).await;
            if matches!(from, From::TheSendersAddressRepeated) {
                tokio::time::sleep(RETRY_AFTER).await;
                forge(&subject, address, number).await;
            }
        });
        while forgers.try_join_next().is_some() {}
    }
}

fn address(from: From, number: u32) -> IpAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    IpAddr::from(match from {
        From::OneOtherAddress => [127, 0, 0, 2],
        From::AnAddressEach => [127, 1 + high, middle, low.max(1)],
        From::TheSendersAddress | From::TheSendersAddressRepeated => SENDER,
    })
}

async fn forge(subject: &Subject, address: IpAddr, number: u32) {
    // Salt and hash end with a dot, as only some letters may stand there.
    let token = format!("$2b$10${number:021}.{:030}.", 0);
    assert!(Token::parse(token.as_bytes()).is_ok());
    let mut client = Client::connect_from(address, subject.address).await;
    client.send(subject.delivery_with(&token, &event("forged"))).await;
    let _ = client.try_response().await;
}
