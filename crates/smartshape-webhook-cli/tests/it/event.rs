//! `smartshape event trigger`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::IntoResponse;
use serde_json::Value;
use smartshape_webhook_tower::{Delivery, Receiver, Secret, endpoint};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Home, SECRET, run, run_with_stdin, unused_url};

pub(crate) type Received = Arc<Mutex<Vec<Value>>>;

pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

pub(crate) async fn receiver() -> (String, Received) {
    let received = Received::default();
    let sink = Arc::clone(&received);
    let handler = move |delivery: Delivery| {
        // None of serde_json's values is as deep as what some tests send.
        sink.lock().unwrap().push(serde_json::from_slice(delivery.raw()).unwrap_or_default());
        async { Ok(()) }
    };
    // The machine that tests may be busy.
    let receiver = Receiver::builder().verify_timeout(std::time::Duration::from_secs(60));
    let receiver = receiver.secret(Secret::new(SECRET).unwrap()).build().unwrap();
    (serve(Router::new().route_service("/callback", endpoint(receiver, handler))).await, received)
}

/// Sends an upload to this endpoint.
pub(crate) fn trigger(home: &Home, to: &str) -> Command {
    let mut program = home.program(&["event", "trigger", "file_uploaded", "--to", to]);
    program.args(["--cost", "4", "--timeout", "60"]).env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    program
}

#[tokio::test]
async fn trigger_sends_the_sample_with_set_fields() {
    let (home, (url, received)) = (Home::new(), receiver().await);
    let more = ["--set", "file=5c6f", "--set", "data.name=engine.scene", "--set", "data.size=7"];
    let ran = run(trigger(&home, &url).args(more)).await.assert_ok();
    assert!(ran.out.contains("accepted") && !ran.out.contains(SECRET), "{ran:?}");
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 1);
    let event = &received[0];
    assert_eq!((&event["event"], &event["file"]), (&"file_uploaded".into(), &"5c6f".into()));
    assert_eq!((&event["data"]["name"], &event["data"]["size"]), (&"engine.scene".into(), &7.into()));
    assert!(event["data"]["state"].is_string(), "the rest is the sample's");
}

#[tokio::test]
async fn trigger_sends_a_given_body_and_reads_the_secret_from_stdin() {
    let (home, (url, received)) = (Home::new(), receiver().await);
    let body = r#"{"event": "annotation_created", "file": "f", "owner": "o", "uuid": "u", "runTimestamp": 1, "data": {"x": 1.0}}"#;
    home.write("event.json", body);
    let mut program = home.program(&["--json", "event", "trigger", "annotation_created", "--to", &url]);
    program.args(["--body", "event.json", "--secret", "-", "--cost", "4", "--timeout", "60"]);
    let sent = run_with_stdin(&mut program, &format!("{SECRET}\n")).await;
    let report = sent.assert_ok().json();
    assert_eq!((&report["accepted"], &report["status"]), (&true.into(), &200.into()));
    assert_eq!(received.lock().unwrap()[0]["data"]["x"], 1.0);

    let other = run(trigger(&home, &url).args(["--body", "event.json"])).await;
    other.assert_fails(2, "of annotation_created, and not of file_uploaded");
}

#[tokio::test]
async fn trigger_names_each_fault_and_exits_with_1() {
    let home = Home::new();
    let url = serve(Router::new().fallback(|| async { http::StatusCode::NO_CONTENT })).await;
    let rejected = run(&mut trigger(&home, &url)).await;
    let faults = ["not accepted", "the status is 204", "no content type", "not a JSON object"];
    assert!(
        rejected.code == Some(1) && faults.iter().all(|fault| rejected.out.contains(fault)),
        "{rejected:?}"
    );
    let url = serve(Router::new().fallback(|| async { http::StatusCode::SERVICE_UNAVAILABLE })).await;
    for (cost, hint) in [("5", true), ("4", false)] {
        let arguments = ["event", "trigger", "file_uploaded", "--to", &url, "--secret", SECRET];
        let busy = run(home.program(&arguments).args(["--cost", cost])).await;
        assert_eq!((busy.code, busy.out.contains("--cost 4")), (Some(1), hint), "{busy:?}");
    }
    // A wrong secret is the receiver's to reject.
    let (url, received) = receiver().await;
    let report = run(trigger(&home, &url).args(["--json", "--secret", "another secret of mine"])).await;
    assert_eq!((report.code, &report.json()["accepted"]), (Some(1), &false.into()));
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn trigger_retries_the_same_event_after_retry_after() {
    let home = Home::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: axum::extract::Request| async move {
        let token = request.headers()["x-smartshape-token"].clone();
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let mut seen = record.lock().unwrap();
        seen.push((token, body));
        let json = [("content-type", "application/json")];
        match seen.len() {
            1 => (http::StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "").into_response(),
            4 => (http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")], "").into_response(),
            _ => (json, r#"{"success": true}"#).into_response(),
        }
    });
    let url = serve(app).await;
    let ran = run(trigger(&home, &url).args(["--retries", "1", "--repeat", "2"])).await.assert_ok();
    assert_eq!(ran.out.matches("\naccepted").count(), 2, "{ran:?}");
    assert!(ran.out.contains("the status is 503") && ran.err.contains("sent again in 0 s"), "{ran:?}");
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|one| *one == seen[0]), "the same token and the same uuid");
    }
    let ran = run(trigger(&home, &url).args(["--retries", "1", "--json"])).await;
    assert_eq!((ran.code, ran.out.lines().count(), seen.lock().unwrap().len()), (Some(1), 1, 4));
    assert!(ran.err.contains("wait 3600 s"), "{ran:?}");
}

#[tokio::test]
async fn trigger_prints_the_body() {
    let home = Home::new();
    // Neither an endpoint nor a secret is needed.
    let print = ["event", "trigger", "file_uploaded", "--print", "--set", "file=5c6f"];
    let printed = home.run(&print).await.assert_ok().json();
    assert_eq!((&printed["event"], &printed["file"]), (&"file_uploaded".into(), &"5c6f".into()));
    // The body is printed as it is, over several lines.
    let whole = home.run(&["event", "trigger", "attribute_updated", "--print"]).await.assert_ok();
    assert_eq!(whole.json()["event"], "attribute_updated");
    let body = "{\"event\":\r\n\t\"file_uploaded\", \"data\": \"\u{202e}\"}";
    let print = ["event", "trigger", "file_uploaded", "--print", "--body", "-"];
    let printed = run_with_stdin(&mut home.program(&print), body).await.assert_ok();
    assert_eq!(printed.out, body.replace('\u{202e}', "\\u202e") + "\n");
}

#[tokio::test]
async fn trigger_says_why_nothing_was_sent() {
    let home = Home::new();
    let (_socket, unused) = unused_url();
    let trigger = async |more: &[&str]| {
        let arguments = [&["event", "trigger", "file_uploaded", "--cost", "4"], more].concat();
        home.run(&arguments).await
    };
    trigger(&["--to", &unused]).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
    let ran = trigger(&["--to", &unused, "--secret", SECRET]).await;
    assert!(ran.code == Some(1) && ran.out.contains("the connection was refused"), "{ran:?}");
    trigger(&["--to", "localhost", "--secret", SECRET]).await.assert_fails(2, "absolute URL");
    trigger(&["--to", "http://ada:pw@localhost/", "--secret", SECRET]).await.assert_fails(2, "password");
    trigger(&["--secret", SECRET, "--set", "nothing"]).await.assert_fails(2, "PATH=VALUE");
    trigger(&["--secret", SECRET, "--body", "none.json"]).await.assert_fails(2, "none.json");
    let both = ["event", "trigger", "file_uploaded", "--secret", "-", "--body", "-"];
    let event = r#"{"event": "file_uploaded"}"#;
    run_with_stdin(&mut home.program(&both), event).await.assert_fails(2, "standard input");
    home.write("broken.json", "{");
    trigger(&["--secret", SECRET, "--body", "broken.json"]).await.assert_fails(2, "not JSON");
    home.write("other.json", r#"{"x": 1}"#);
    trigger(&["--secret", SECRET, "--body", "other.json"]).await.assert_fails(2, "no field \"event\"");
    home.run(&["event", "trigger", "file_deleted"]).await.assert_fails(2, "configuration_removed");
}
