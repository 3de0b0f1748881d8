//! The receive path alone: what it takes of a core without a framework and without a socket.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bench_report::{Cell, Figure, Table};
use bytes::Bytes;
use futures_util::stream;
use rustix::time::{ClockId, clock_gettime};
use smartshape_webhook::{Delivery, DeliveryKey, Envelope, Receiver, RequestHead, Secret, TOKEN_HEADER};

use super::{Run, known_token};
use crate::Outcome;
use crate::cores;
use crate::payload::{Request, small_event};
use crate::server::{Framework, SECRET};

/// Made at a time, so that making them is not measured.
const BATCH: usize = 32;

/// Beside the CPU time of each bare framework.
pub(super) async fn table(run: Run<'_>, bare: &[Figure]) -> Outcome<Table> {
    let (rounds, slice) =
        if run.quick { (7, Duration::from_millis(50)) } else { (25, Duration::from_millis(200)) };
    cores::stay_on([run.cores.server])?;
    let event = small_event();
    let sample = Envelope::parse(event.as_bytes())?;
    let token = known_token()?;
    let length = event.len().to_string();
    let head = || {
        let fields = [(TOKEN_HEADER, &token), ("content-length", &length)];
        RequestHead::from_parts("POST", fields.map(|(name, value)| (name, value.as_bytes())))
    };
    // One token is hashed before anything is measured, whatever else this core does.
    let receiver = Receiver::builder().secret(Secret::new(SECRET)?).build()?;
    let handler = Arc::new(|_: Delivery| async { Ok(()) });
    let serve = async |body: Bytes| {
        let body = stream::iter([Ok::<_, std::io::Error>(body)]);
        receiver.serve(&head(), body, Arc::clone(&handler)).await.status() == 200
    };
    let mut request = Request::delivery(&event, &token)?;
    let mut body = || {
        let request = request.next(None);
        Bytes::copy_from_slice(&request[request.len() - event.len()..])
    };
    if !serve(body()).await {
        return Err("the receiver rejects what it is to be measured with".into());
    }

    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        measured[0].push(microseconds(slice, &mut body, &serve).await?);
        let parse = async |body: Bytes| Envelope::parse(black_box(&body)).is_ok();
        measured[1].push(microseconds(slice, &mut body, parse).await?);
        let key = async |_| {
            let (uuid, event, owner) = black_box((sample.uuid(), sample.event(), sample.owner_key()));
            black_box(DeliveryKey::new(uuid, event, owner));
            true
        };
        measured[2].push(microseconds(slice, &mut body, key).await?);
    }
    run.cores.send()?;

    let steps = ["all: `Receiver::serve`", "of it `Envelope::parse`", "of it `DeliveryKey::new`"];
    let rows = steps.iter().zip(measured.map(Figure::of)).map(|(step, time)| {
        let kept = bare.iter().map(|bare| {
            let kept = |bare: f64| bare / (bare + time.median);
            Cell::Figure(Figure { median: kept(bare.median), low: kept(bare.low), high: kept(bare.high) }, 3)
        });
        [Cell::Text((*step).to_owned()), Cell::Figure(time.clone(), 2)].into_iter().chain(kept).collect()
    });
    Ok(Table {
        title: "The receive path alone",
        meaning: "What ours adds, in a loop on the server's core, without a framework and a socket: code and data stay in \
                  the core's caches, which they share with the framework and the system otherwise. Beside it what a \
                  framework would keep of its throughput if that were all, its own CPU time over the sum."
            .to_owned(),
        columns: ["step", "CPU µs"].into_iter().chain(Framework::ALL.map(Framework::name)).collect(),
        rows: rows.collect(),
    })
}

/// How long `step` takes for each body.
async fn microseconds(
    slice: Duration,
    next: &mut impl FnMut() -> Bytes,
    mut step: impl AsyncFnMut(Bytes) -> bool,
) -> Outcome<f64> {
    let (mut spent, mut steps) = (Duration::ZERO, 0_usize);
    while spent < slice {
        let batch: Vec<Bytes> = (0..BATCH).map(|_| next()).collect();
        let begun = cpu_time()?;
        for body in batch {
            if !step(body).await {
                return Err("a step failed while it was measured".into());
            }
            steps += 1;
        }
        spent += cpu_time()?.saturating_sub(begun);
    }
    Ok(spent.as_secs_f64() * 1e6 / steps as f64)
}

/// What the system counts for this thread, so that who else uses the core does not matter.
fn cpu_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}
