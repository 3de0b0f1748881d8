//! `smartshape webhook listen --forward-to`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use serde_json::json;
use smartshape_fake::{FakeSmartShape, Prefix};
use smartshape_webhook::EventKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::event::serve;
use crate::listener::{self, builder};
use crate::program::Program;
use crate::support::{Home, SECRET, message, within};

async fn listener(home: &Home, fake: &FakeSmartShape, to: &str) -> Program {
    let arguments = ["webhook", "listen", "--event", "file_uploaded", "--forward-to", to];
    let mut command = home.logged_in(fake, &arguments);
    command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    listener::start(command).await
}

#[tokio::test]
async fn forward_keeps_body_and_headers_byte_for_byte() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/hook?of=mine", target.local_addr().unwrap());
    let mut listener = listener(&home, &fake, &to).await;
    let webhook = fake.webhooks().remove(0);
    assert_eq!(webhook.secret(), SECRET, "the endpoint knows it");

    let address = webhook.url.strip_prefix("http://").unwrap();
    let (address, path) = address.split_once('/').unwrap();
    let token = smartshape_fake::token(SECRET, 4, Prefix::TwoA).unwrap();
    let body = "{ \"uuid\":\"u-1\",\t\"event\" : \"file_uploaded\", \"file\": \"ü\\u00fc\", \"owner\": \"o\",\r\n \"runTimestamp\": 1e3, \"data\": {\"x\": 1.0, \"x\": 2} }\n";
    let kept = [
        b"content-type: application/json; charset=UTF-8".to_vec(),
        b"user-agent: Smart  Shape/1 ".trim_ascii_end().to_vec(),
        b"x-bytes: \xe9\xff".to_vec(),
        b"x-two: 2".to_vec(),
        b"x-two: 1".to_vec(),
        format!("x-smartshape-token: {token}").into_bytes(),
    ];
    let dropped = [
        "Host: listener.example.com",
        "Connection: keep-alive, X-Of-This-Connection",
        "X-Of-This-Connection: yes",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Transfer-Encoding: chunked",
    ];
    let mut sent = format!("POST /{path} HTTP/1.1\r\n{}\r\n", dropped.join("\r\n")).into_bytes();
    sent.extend(kept.iter().flat_map(|line| [line.as_slice(), b"\r\n"].concat()));
    let (one, other) = body.split_at(40);
    for chunk in [one, other, ""] {
        sent.extend(format!("\r\n{:x}\r\n{chunk}", chunk.len()).into_bytes());
    }
    sent.extend(b"\r\n");
    let mut sender = TcpStream::connect(address).await.unwrap();
    sender.write_all(&sent).await.unwrap();

    let (mut stream, _) = within(target.accept()).await.unwrap();
    let (head, passed_on) = within(message(&mut stream)).await;
    assert_eq!(passed_on, body.as_bytes());
    assert_eq!(head[0], b"POST /hook?of=mine HTTP/1.1");
    let made_anew = [
        format!("host: {}", target.local_addr().unwrap()),
        "connection: close".to_owned(),
        format!("content-length: {}", body.len()),
    ];
    let expected: BTreeSet<_> = kept.into_iter().chain(made_anew.map(String::into_bytes)).collect();
    let shown = head.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>();
    assert_eq!(head[1..].iter().cloned().collect::<BTreeSet<_>>(), expected, "{shown:?}");
    let twos: Vec<_> = shown.iter().filter(|line| line.starts_with("x-two")).collect();
    assert_eq!(twos, ["x-two: 2", "x-two: 1"], "in their order");

    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let printed = listener.read_until("forwarded u-1: 404 after ").await;
    for fault in ["the status is 404", "no content type", "not a JSON object"] {
        assert!(printed.contains(fault), "{printed}");
    }
    // SmartShape's own response does not depend on it.
    let mut response = [0; 15];
    within(sender.read_exact(&mut response)).await.unwrap();
    assert_eq!(response, *b"HTTP/1.1 200 OK");
    let (_, err) = listener.stop("-INT").await;
    assert!(
        ![&printed, &err].iter().any(|text| text.contains(&token) || text.contains(SECRET)),
        "{printed} {err}"
    );
}

#[tokio::test]
async fn forward_reports_an_unreachable_endpoint() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let mut listener = listener(&home, &fake, "http://127.0.0.1:1/").await;
    assert!(fake.trigger(EventKind::FileUploaded).await[0].accepted());
    listener.read_until("SmartShape would not accept it: the connection was refused").await;
}

#[tokio::test]
async fn forward_sends_at_most_eight_events_concurrently() {
    const EVENTS: usize = 30;
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    // How many are in flight, and how many were at most.
    let (counts, mut counted) = watch::channel((0, 0));
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let app = Router::new().fallback(async move || {
        counts.send_modify(|(now, most)| (*now, *most) = (*now + 1, (*most).max(*now + 1)));
        drop(opened.acquire().await);
        counts.send_modify(|(now, _)| *now -= 1);
        axum::Json(json!({"success": true}))
    });
    let to = serve(app).await;
    let mut listener = listener(&home, &fake, &to).await;
    for _ in 0..EVENTS {
        // Acknowledged, although the endpoint has responded to none of them.
        assert!(fake.trigger(EventKind::FileUploaded).await[0].accepted());
    }
    within(counted.wait_for(|(now, _)| *now == 8)).await.unwrap();
    gate.add_permits(1);
    for _ in 0..EVENTS {
        listener.read_until(" ms, accepted").await;
    }
    assert_eq!(counted.borrow().1, 8);
    listener.stop("-INT").await;
}
