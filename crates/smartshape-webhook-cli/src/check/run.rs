//! Runs a case: sends its requests and has the replies evaluated.

use std::time::Duration;

use smartshape_fake::Fault;
use smartshape_webhook::EventKind;
use tokio::task::JoinSet;

use super::cases::{Case, Delivery};
use super::endpoint::{Endpoint, Reply};
use super::evaluate::{self, Finding};
use super::fixture::Fixture;
use super::request::{Expect, Request};

/// Time for the other requests to arrive before the last one is sent.
const HEAD_START: Duration = Duration::from_millis(300);

/// The findings of a case.
pub(crate) struct CaseResult {
    pub(crate) findings: Vec<Finding>,
    /// The endpoint accepts no connections any more.
    pub(crate) is_gone: bool,
    /// A request that should be accepted got the status of a wrong token, path or method.
    pub(crate) is_turned_away: bool,
}

pub(crate) async fn run_case(
    endpoint: &Endpoint,
    fixture: &Fixture,
    case: &Case,
    kind: EventKind,
) -> CaseResult {
    let requests = (case.requests)(fixture, kind);
    let replies = match case.delivery {
        Delivery::Sequential => send_sequentially(endpoint, &requests).await,
        Delivery::SameConnection => send_on_same_connection(endpoint, &requests).await,
        Delivery::Concurrent => send_concurrently(endpoint, &requests).await,
        Delivery::LastDuringOthers => return send_last_during_others(endpoint, requests).await,
    };
    conclude(endpoint, requests.iter().zip(&replies).collect()).await
}

/// Stops at the first request that times out, because the others would take as long.
async fn send_sequentially(endpoint: &Endpoint, requests: &[Request]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for request in requests {
        let reply = endpoint.deliver(request).await;
        let too_slow = matches!(reply.response, Err(Fault::TimedOut(_)));
        replies.push(reply);
        if too_slow {
            break;
        }
    }
    replies
}

async fn send_on_same_connection(endpoint: &Endpoint, requests: &[Request]) -> Vec<Reply> {
    let (mut kept, mut replies) = (None, Vec::new());
    for request in requests {
        replies.push(endpoint.deliver_on(&mut kept, request).await);
    }
    replies
}

async fn send_concurrently(endpoint: &Endpoint, requests: &[Request]) -> Vec<Reply> {
    let tasks: Vec<_> =
        requests.iter().map(|request| tokio::spawn(deliver(endpoint.clone(), request.clone()))).collect();
    let mut replies = Vec::new();
    for task in tasks {
        let failed = |error: tokio::task::JoinError| Reply {
            response: Err(Fault::NotSent(error.to_string())),
            reconnected: false,
        };
        replies.push(task.await.unwrap_or_else(failed));
    }
    replies
}

async fn deliver(endpoint: Endpoint, request: Request) -> Reply {
    endpoint.deliver(&request).await
}

async fn send_last_during_others(endpoint: &Endpoint, mut requests: Vec<Request>) -> CaseResult {
    let last = requests.pop();
    // Dropped at the end, which aborts the requests in flight.
    let mut others = JoinSet::new();
    for request in requests {
        others.spawn(deliver(endpoint.clone(), request));
    }
    tokio::time::sleep(HEAD_START).await;
    let mut evaluated = Vec::new();
    let reply;
    if let Some(request) = &last {
        reply = endpoint.deliver(request).await;
        evaluated.push((request, &reply));
    }
    conclude(endpoint, evaluated).await
}

async fn conclude(endpoint: &Endpoint, evaluated: Vec<(&Request, &Reply)>) -> CaseResult {
    let mut findings = Vec::new();
    for (request, reply) in &evaluated {
        let found = evaluate::evaluate_reply(request.expect, reply).into_iter();
        findings.extend(found.map(|finding| finding.for_request(&request.what)));
    }
    // Several requests of one kind give the same finding.
    findings.dedup();
    if findings.is_empty() {
        let all: Vec<_> = evaluated.iter().map(|(request, reply)| (request.expect, *reply)).collect();
        findings = evaluate::evaluate_timing(&all);
    }
    let broken = evaluated
        .iter()
        .any(|(_, reply)| matches!(reply.response, Err(Fault::Connection(_) | Fault::ConnectionRefused)));
    let is_gone = broken && endpoint.reach().await.is_err();
    let is_turned_away = evaluated.iter().any(|(request, reply)| {
        let status = reply.response.as_ref().map(|response| response.status);
        request.expect == Expect::Accepted && matches!(status, Ok(401 | 403..=405))
    });
    CaseResult { findings, is_gone, is_turned_away }
}
