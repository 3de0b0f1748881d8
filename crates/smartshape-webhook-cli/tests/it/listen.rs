//! What `smartshape webhook listen` does while it runs.

use std::collections::BTreeSet;

use serde_json::json;
use smartshape_fake::{EventPayload, Prefix};
use smartshape_webhook::EventKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::listener::{self, builder, journals};
use crate::support::{Home, SECRET, message, within};

#[tokio::test]
async fn listen_prints_lines_and_deletes_its_webhooks() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let other = fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET);
    let mut listener = listener::at(&home, &fake, &["--event", "annotation_created"]).await;
    let registered = fake.webhooks();
    assert_eq!((registered.len(), registered[1].event), (2, EventKind::AnnotationCreated));

    let event = EventPayload::sample(EventKind::AnnotationCreated);
    let outcomes = fake.send(&event).await;
    assert!(outcomes[0].accepted(), "{}", outcomes[0]);
    assert_eq!(listener.line().await["uuid"], event.uuid());
    // Sent again, it is acknowledged again, and not shown.
    assert!(fake.send(&event).await[0].accepted());

    let (out, err) = listener.stop("-INT").await;
    assert!(out.is_empty() && !err.contains(registered[1].secret()), "{out}{err}");
    assert_eq!(fake.webhooks().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [other]);
    assert!(journals(&home).is_empty());
}

#[tokio::test]
async fn listen_escapes_events_for_the_terminal() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let listener = listener::at(&home, &fake, &["--event", "file_uploaded"]).await;
    let name = "\u{9b}31m\u{202e}é\u{2066}";
    let body = json!({
        "uuid": "u-1", "event": "file_uploaded", "file": "f", "owner": "o", "runTimestamp": 1, "data": {"name": name},
    });
    assert!(fake.send(&EventPayload::from_body(body.to_string())).await[0].accepted());
    let (out, err) = listener.stop("-INT").await;
    assert!(out.contains(r#""\u009b31m\u202eé\u2066""#), "{out}{err}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), body);
}

#[tokio::test]
async fn listen_registers_all_nine_events_with_one_fresh_secret() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let mut listener = listener::at(&home, &fake, &[]).await;
    let webhooks = fake.webhooks();
    assert_eq!(webhooks.iter().map(|webhook| webhook.event).collect::<Vec<_>>(), EventKind::ALL);
    assert!(webhooks[0].secret().len() >= 32);
    for kind in [EventKind::FileUploaded, EventKind::ConfigurationRemoved] {
        assert!(fake.trigger(kind).await[0].accepted());
        assert_eq!(listener.line().await["event"], kind.as_str());
    }
    listener.stop("-INT").await;
    assert!(fake.webhooks().is_empty());
}

/// Over many connections at once; some of the bodies are longer than a pipe holds.
#[tokio::test]
async fn listen_prints_thousands_of_events_as_whole_lines() {
    const CONNECTIONS: usize = 32;
    const EVENTS_EACH: usize = 100;
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let mut listener = listener::at(&home, &fake, &["--event", "file_uploaded", "--secret", SECRET]).await;
    let url = fake.webhooks().remove(0).url;
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let token = smartshape_fake::token(SECRET, 4, Prefix::TwoB).unwrap();
    let head = format!("POST /{path} HTTP/1.1\r\nhost: x\r\nx-smartshape-token: {token}\r\n");

    let connections = (0..CONNECTIONS).map(|connection| {
        let (address, head) = (address.to_owned(), head.clone());
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for number in 0..EVENTS_EACH {
                let length = if number % 50 == 7 { 40_000 + connection } else { connection };
                let body = json!({
                    "uuid": format!("{connection}-{number}"), "event": "file_uploaded", "file": "f", "owner": "o",
                    "runTimestamp": 1, "data": {"name": "ü\n".repeat(length)},
                });
                let body = serde_json::to_string_pretty(&body).unwrap();
                let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(request.as_bytes()).await.unwrap();
                let (response, _) = within(message(&mut stream)).await;
                assert_eq!(response[0], b"HTTP/1.1 200 OK", "{connection}-{number}");
            }
        })
    });
    let connections: Vec<_> = connections.collect();
    let mut seen = BTreeSet::new();
    for _ in 0..CONNECTIONS * EVENTS_EACH {
        let event = listener.line().await;
        let uuid = event["uuid"].as_str().unwrap().to_owned();
        let connection: usize = uuid.split_once('-').unwrap().0.parse().unwrap();
        let name = event["data"]["name"].as_str().unwrap();
        assert!(matches!(name.len().checked_sub(3 * connection), Some(0 | 120_000)), "{uuid} is whole");
        assert!(seen.insert(uuid), "once");
    }
    for connection in connections {
        connection.await.unwrap();
    }
    let (out, _) = listener.stop("-INT").await;
    assert_eq!((out.as_str(), seen.len()), ("", CONNECTIONS * EVENTS_EACH));
}

#[tokio::test]
async fn listen_registers_nothing_if_it_is_unreachable() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let listen = async |more: &[&str]| {
        let arguments = [&["webhook", "listen", "--event", "file_uploaded"], more].concat();
        home.run_at(&fake, &arguments).await
    };
    // Somebody else's server.
    listen(&["--public-url", &fake.base_url()]).await.assert_exits(1, "does not lead here");
    listen(&["--event", "file_deleted"]).await.assert_fails(2, "annotation_created");
    listen(&["--public-url", "nonsense"]).await.assert_fails(2, "absolute URL");
    listen(&["--bind", "192.0.2.1:0"]).await.assert_fails(2, "another --listen");
    listen(&["--listen", "0.0.0.0:0"]).await.assert_fails(2, "--public-url");
    listen(&["--forward-to", "http://127.0.0.1:1/"]).await.assert_fails(2, "--forward-to needs it");
    home.run(&["webhook", "listen", "--token", "abc"]).await.assert_fails(2, "--public-url");
    assert!(fake.webhooks().is_empty() && journals(&home).is_empty());
}
