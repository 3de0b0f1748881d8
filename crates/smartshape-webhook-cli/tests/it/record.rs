//! `smartshape webhook listen --record`, and what `token inspect` tells of it.

use serde_json::{Value, json};
use smartshape_fake::{EventPayload, FakeSmartShape, Prefix, SenderSettings};
use smartshape_webhook::EventKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listener::{self, builder};
use crate::program::Program;
use crate::support::{Home, SECRET, assert_private, request, run_with_stdin, within};

const FILE: &str = "recording.jsonl";

/// A fake whose tokens have a fixed or a fresh salt.
async fn fake(fresh_salt: bool) -> FakeSmartShape {
    let timeout = std::time::Duration::from_secs(60);
    let sender = SenderSettings { fresh_salt, max_attempts: 4, timeout, ..SenderSettings::quick() };
    builder().sender(sender).start().await.unwrap()
}

async fn listener(home: &Home, fake: &FakeSmartShape, more: &[&str]) -> Program {
    let arguments = ["--record", FILE, "--event", "file_uploaded", "--event", "file_optimized"];
    listener::at(home, fake, &[&arguments, more].concat()).await
}

async fn inspected(home: &Home) -> Value {
    home.run_json(&["token", "inspect", "--recording", FILE]).await
}

/// The recording, and each of its lines.
fn recording(home: &Home) -> (String, Vec<Value>) {
    let text = home.read(FILE);
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (text, lines)
}

fn event(uuid: &str, run_timestamp: i64) -> EventPayload {
    let body = json!({
        "uuid": uuid, "event": "file_uploaded", "file": "f", "owner": "o",
        "runTimestamp": run_timestamp, "data": {"name": "engine"},
    });
    EventPayload::from_body(body.to_string())
}

#[tokio::test]
async fn recording_shows_a_fixed_salt_and_repeated_uuids() {
    let (home, fake) = (Home::new(), fake(false).await);
    let listener = listener(&home, &fake, &["--fail-first", "2"]).await;
    let secret = fake.webhooks()[0].secret().to_owned();
    let [first, second] = [EventPayload::sample(EventKind::FileUploaded), event("u-2", 1_550_824_748_604)];
    let outcomes = fake.send(&first).await;
    assert_eq!((outcomes[0].attempts.len(), outcomes[0].accepted()), (3, true));
    assert!(fake.send(&second).await[0].accepted());
    // SmartShape sends a delivery again when the response was lost.
    assert!(fake.send(&second).await[0].accepted());
    let (out, err) = listener.stop("-INT").await;
    assert_eq!(out.lines().count(), 2, "what is sent again is not printed again: {out}");
    assert_eq!(err.matches("as --fail-first asks").count(), 2, "{err}");

    let (recording, lines) = recording(&home);
    assert_eq!(lines.len(), 6);
    let statuses: Vec<_> = lines[1..].iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [500, 500, 200, 200, 200]);
    assert_eq!(lines[3]["body"], serde_json::from_str::<Value>(out.lines().next().unwrap()).unwrap());

    let report = inspected(&home).await;
    assert_eq!(report["tokens"], json!([{"prefix": "2b", "cost": 4, "deliveries": 5}]));
    assert_eq!((&report["salt"], &report["events"]), (&json!("fixed"), &json!(2)));
    let retries = &report["retries"];
    assert_eq!(retries["uuid"], "repeated");
    let counts = ["repeated", "rejected_deliveries", "repeated_after_acceptance", "given_up", "renamed"];
    assert_eq!(counts.map(|name| retries[name].as_u64().unwrap()), [2, 2, 1, 0, 0]);
    let gaps = retries["gaps"].as_array().unwrap();
    let gaps_of = |gap: &Value| json!([gap["delivery"], gap["events"]]);
    assert_eq!(gaps.iter().map(gaps_of).collect::<Vec<_>>(), [json!([2, 2]), json!([3, 1])]);
    // The fake waits 10 to 20 ms before the third attempt.
    assert!(gaps[1]["shortest_ms"].as_u64().unwrap() >= 5, "{retries}");

    let words = home.run(&["token", "inspect", "--recording", FILE]).await.assert_ok().out;
    let parts = ["prefix 2b, cost 4: 5 deliveries", "always the same", "repeats the uuid", "delivery 3: 0."];
    assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    assert!(![secret.as_str(), "$2b$"].iter().any(|hidden| recording.contains(hidden)), "{recording}");
    assert_private(&home.path().join(FILE));
}

#[tokio::test]
async fn recording_contains_no_salt_token_or_secret() {
    let (home, fake) = (Home::new(), fake(false).await);
    let mut listener = listener(&home, &fake, &["--secret", SECRET]).await;
    let token = smartshape_fake::token(SECRET, 4, Prefix::TwoY).unwrap();
    let url = fake.webhooks().remove(0).url;
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut sender = TcpStream::connect(address).await.unwrap();
    let body = event("u-1", 1).to_body();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: x\r\nx-smartshape-token: {token}\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    sender.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    within(sender.read_exact(&mut asked)).await.unwrap();
    assert_eq!(asked, *b"HTTP/1.1 100 Continue\r\n\r\n");
    sender.write_all(&body).await.unwrap();
    // It hangs up before the response; the delivery is recorded all the same.
    drop(sender);
    assert_eq!(listener.line().await["uuid"], "u-1");
    listener.stop("-INT").await;
    let (recording, lines) = recording(&home);
    assert_eq!((&lines[1]["uuid"], &lines[1]["token"]["prefix"]), (&json!("u-1"), &json!("2y")));
    for hidden in [SECRET, &token, &token[7..29], &token[29..]] {
        assert!(!recording.contains(hidden), "{recording}");
    }
}

#[tokio::test]
async fn recording_contains_no_unauthenticated_deliveries() {
    let (home, fake) = (Home::new(), fake(false).await);
    let listener = listener(&home, &fake, &[]).await;
    let webhook = fake.webhooks().remove(0);
    let send = async |method: &str, token: Option<&str>, length: Option<usize>, body: &[u8]| {
        let token = token.map(|token| format!("x-smartshape-token: {token}"));
        let length = length.map(|length| format!("content-length: {length}"));
        let headers: Vec<_> = [&token, &length].into_iter().flatten().map(String::as_str).collect();
        // In one piece, so that the body is there when the request is rejected.
        request(method, &webhook.url, &headers, body).await.status().to_owned()
    };
    let known = smartshape_fake::token(webhook.secret(), 4, Prefix::TwoB).unwrap();
    let unknown = smartshape_fake::token("of somebody else, and as long", 4, Prefix::TwoB).unwrap();
    let costly = "$2b$31$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";
    let strange = event("strange", 1).to_body();
    for (method, token, length, status) in [
        ("POST", Some(costly), None, "401"),
        ("POST", Some(unknown.as_str()), None, "401"),
        ("POST", Some("letmein"), None, "401"),
        ("POST", None, None, "401"),
        // Rejected before the token is looked at.
        ("PUT", Some(costly), None, "405"),
        ("POST", Some(costly), Some(1 << 40), "413"),
    ] {
        assert_eq!(send(method, token, length, &strange).await, status, "{method} {token:?}");
    }
    assert_eq!(send("POST", Some(&known), None, b"no JSON").await, "400");
    assert_eq!(send("POST", Some(&known), None, &event("known", 1).to_body()).await, "200");
    listener.stop("-INT").await;

    let (recording, lines) = recording(&home);
    let recorded: Vec<_> = lines[1..].iter().map(|line| (&line["status"], &line["uuid"])).collect();
    assert_eq!(recorded, [(&json!(400), &Value::Null), (&json!(200), &json!("known"))], "{recording}");
}

#[tokio::test]
async fn recording_shows_fresh_salts_and_several_listeners() {
    let (home, fake) = (Home::new(), fake(true).await);
    for reject in ["1", "0"] {
        let listener = listener(&home, &fake, &["--fail-first", reject]).await;
        for kind in [EventKind::FileUploaded, EventKind::FileOptimized, EventKind::FileUploaded] {
            assert!(fake.trigger(kind).await[0].accepted());
        }
        listener.stop("-INT").await;
    }
    let report = inspected(&home).await;
    assert_eq!((&report["listeners"], &report["deliveries"]), (&json!(2), &json!(7)));
    assert_eq!((&report["salt"], &report["events"]), (&json!("fresh_for_each_delivery"), &json!(6)));
    let webhooks = report["webhooks"].as_array().unwrap();
    let salts: Vec<_> =
        webhooks.iter().map(|webhook| json!([webhook["listener"], webhook["salt"]])).collect();
    let [unknown, fresh] = ["unknown", "fresh_for_each_event"];
    let expected = json!([[1, unknown], [1, "fresh_for_each_delivery"], [2, unknown], [2, fresh]]);
    assert_eq!(json!(salts), expected);
    assert!(webhooks.iter().all(|webhook| webhook["shares_salt"] == false), "{report}");
}

/// Deliveries count for the listener whose start is the last one before them.
#[tokio::test]
async fn recording_is_written_by_one_listener_at_a_time() {
    let (home, fake) = (Home::new(), fake(false).await);
    let first = listener(&home, &fake, &[]).await;
    let second = ["webhook", "listen", "--event", "annotation_created", "--record", FILE];
    home.run_at(&fake, &second).await.assert_fails(2, "another listener writes it: name another file");
    assert_eq!(fake.webhooks().len(), 2);
    first.stop("-INT").await;
    assert_eq!(recording(&home).1.len(), 1);
}

#[tokio::test]
async fn recording_shows_new_uuids_and_events_out_of_order() {
    let (home, fake) = (Home::new(), fake(false).await);
    let listener = listener(&home, &fake, &[]).await;
    for event in [event("u-1", 2000), event("u-2", 2000), event("u-3", 1000)] {
        assert!(fake.send(&event).await[0].accepted());
    }
    listener.stop("-INT").await;
    let report = inspected(&home).await;
    let retries = &report["retries"];
    let found = ["uuid", "repeated", "renamed", "alike"].map(|name| retries[name].clone());
    assert_eq!(found, [json!("new"), json!(0), json!(1), json!(1)]);
    assert_eq!(report["order"], json!({"events": 3, "late": 1}));
}

#[tokio::test]
async fn recording_skips_unreadable_lines_and_rejects_other_files() {
    let (home, fake) = (Home::new(), fake(false).await);
    let listener = listener(&home, &fake, &[]).await;
    fake.trigger(EventKind::FileUploaded).await;
    listener.stop("-INT").await;
    // A crash in the middle of a line leaves its beginning.
    let (whole, mut lines) = recording(&home);
    let cut_off = format!("{whole}{}", &whole.lines().nth(1).unwrap()[..90]);
    let inspect = ["--json", "token", "inspect", "--recording", "-"];
    let report = run_with_stdin(&mut home.program(&inspect), &cut_off).await.assert_ok().json();
    assert_eq!((&report["deliveries"], &report["left_out"]), (&json!(1), &json!(1)));
    assert_eq!(report["retries"]["uuid"], "unknown");

    // A delivery whose body was no event.
    let nameless = &mut lines[1];
    for name in ["event", "uuid", "run_timestamp_ms", "content", "body"] {
        nameless.as_object_mut().unwrap().remove(name);
    }
    let words = ["token", "inspect", "--recording", "-"];
    let printed =
        run_with_stdin(&mut home.program(&words), &format!("{whole}{nameless}\n")).await.assert_ok().out;
    assert!(
        printed.starts_with("2 deliveries of 1 event") && printed.contains("1 of them no event"),
        "{printed}"
    );
    assert!(!printed.contains("left out"), "{printed}");

    let payloads = whole.lines().skip(1).collect::<Vec<_>>().join("\n");
    run_with_stdin(&mut home.program(&inspect), &payloads)
        .await
        .assert_fails(1, "standard input is no recording");
    let later = whole.replacen("\"recording\":1", "\"recording\":2", 1);
    run_with_stdin(&mut home.program(&inspect), &later).await.assert_fails(1, "another version");
    home.run(&["token", "inspect", "--recording", "nowhere"]).await.assert_fails(2, "nowhere");
    home.run(&["token", "inspect"]).await.assert_fails(2, "TOKEN");
    let nowhere = ["webhook", "listen", "--event", "file_uploaded", "--record", "no/folder/file"];
    let rejected = home.run_at(&fake, &nowhere).await;
    rejected.assert_fails(2, "--record no/folder/file");
    assert!(fake.webhooks().is_empty());
}
