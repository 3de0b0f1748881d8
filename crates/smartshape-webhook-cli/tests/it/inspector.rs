//! `smartshape webhook listen --ui`, and `smartshape ui` on a recording.

use smartshape_fake::{EventPayload, Prefix};
use smartshape_webhook::EventKind;

use crate::event::receiver;
use crate::listener::{self, builder};
use crate::program::Program;
use crate::support::{Home, SECRET, request};
use crate::ui::Console;

const OWN: &str = "sec-fetch-site: same-origin";

/// Sends a request to a listener, and returns its status.
async fn deliver(url: &str, token: &str, body: &[u8]) -> String {
    let headers = ["authorization: Bearer PROXY", &format!("x-smartshape-token: {token}")];
    request("POST", url, &headers, body).await.status().to_owned()
}

#[tokio::test]
async fn inspector_shows_deliveries_and_sends_them_again() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let (to, received) = receiver().await;
    let arguments = ["webhook", "listen", "--event", "file_uploaded", "--ui", "--forward-to", &to];
    let mut command = home.logged_in(&fake, &arguments);
    command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    let mut listener = Program::spawn(&mut command);
    let url = listener.read_until("the console: ").await;
    let url = url.rsplit(' ').next().unwrap().to_owned();
    listener.read_until("registered ").await;
    let mut console = Console::at(listener, &url);
    let cookie = console.cookie().await;
    assert!(console.send("GET", "", &[&cookie], "").await.body.contains("No delivery has arrived yet."));

    let event = EventPayload::sample(EventKind::FileUploaded);
    assert!(fake.send(&event).await[0].accepted());
    console.program.read_until(&format!("forwarded {}: 200", event.uuid())).await;
    let listener_url = fake.webhooks().remove(0).url;
    let forged = smartshape_fake::token("the secret of somebody else", 4, Prefix::TwoB).unwrap();
    assert_eq!(deliver(&listener_url, &forged, b"{\"text\": \"STRANGE\"}").await, "401");

    let list = console.send("GET", "?view=deliveries", &[&cookie], "").await.body;
    for shown in ["file_uploaded", "401", "matches none of the secrets", "Forwarded: 200 after"] {
        assert!(list.contains(shown), "{shown}: {list}");
    }
    let accepted = console.send("GET", "?delivery=1", &[&cookie], "").await.body;
    assert!(accepted.contains(event.uuid()), "{accepted}");
    assert_eq!(accepted.matches("class=\"passed\"").count(), 10, "{accepted}");
    let rejected = console.send("GET", "?delivery=2", &[&cookie], "").await.body;
    assert!(rejected.contains("class=\"failed\">The token matches the secret"), "{rejected}");
    assert_eq!(rejected.matches("class=\"passed\"").count(), 4, "{rejected}");
    assert!(rejected.contains("smartshape webhook prune"), "{rejected}");
    let raw = console.send("GET", "?raw=1", &[&cookie], "").await.body;
    assert_eq!(raw.as_bytes(), event.to_body());

    let own = [cookie.as_str(), OWN];
    let sent = console.send("POST", "", &own, "do=resend&delivery=1").await;
    assert!(sent.status() == "303" && sent.head.contains("count=1"), "{}", sent.head);
    // The endpoint acknowledges a duplicate.
    assert_eq!(received.lock().unwrap()[0]["uuid"], event.uuid());
    let accepted = console.send("GET", "?delivery=1", &[&cookie], "").await.body;
    assert!(accepted.contains("Sent again") && accepted.contains(&to), "{accepted}");
    let sample = console.send("GET", "?view=send&name=attribute_updated", &[&cookie], "").await.body;
    assert!(sample.contains("nodeIdToAttributes"), "{sample}");
    let body = r#"{"file":"5c","event":"file_uploaded","data":{},"owner":"o","runTimestamp":1,"uuid":"of-the-console"}"#;
    assert_eq!(console.send("POST", "", &own, &format!("do=sample&body={body}")).await.status(), "303");
    assert_eq!(console.program.line().await["uuid"], event.uuid());
    assert_eq!(console.program.line().await["uuid"], "of-the-console");

    for page in ["", "?delivery=1", "?delivery=2", "?delivery=3", "?view=send"] {
        let body = console.send("GET", page, &[&cookie], "").await.body;
        assert!(![SECRET, &forged[7..], "STRANGE", "PROXY"].iter().any(|text| body.contains(text)), "{body}");
    }
    let (_, err) = console.program.stop("-INT").await;
    assert!(!err.contains(SECRET), "{err}");
}

#[tokio::test]
async fn inspector_shows_a_recording() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let arguments = ["--event", "file_uploaded", "--record", "r.jsonl", "--fail-first", "1"];
    let listener = listener::at(&home, &fake, &arguments).await;
    let event = EventPayload::sample(EventKind::FileUploaded);
    for _ in 0..2 {
        assert!(fake.send(&event).await[0].accepted());
    }
    let secret = fake.webhooks().remove(0).secret().to_owned();
    let token = smartshape_fake::token(&secret, 4, Prefix::TwoB).unwrap();
    let url = fake.webhooks().remove(0).url;
    assert_eq!(deliver(&url, &token, b"no JSON").await, "400");
    listener.stop("-INT").await;

    let (to, received) = receiver().await;
    home.run(&["ui", "r.jsonl", "--forward-to", &to]).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
    let mut command = home.program(&["ui", "r.jsonl", "--forward-to", &to]);
    command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    let console = Console::start(command).await;
    let cookie = console.cookie().await;
    let list = console.send("GET", "", &[&cookie], "").await.body;
    let shown =
        ["r.jsonl", "500", "the handler failed", "3rd time", "Accepted before", "the body is not JSON"];
    assert!(shown.iter().all(|text| list.contains(text)), "{list}");
    let first = console.send("GET", "?delivery=1", &[&cookie], "").await.body;
    let shown = ["class=\"failed\">The handler accepted it", "2b, cost"];
    assert!(shown.iter().all(|text| first.contains(text)), "{first}");
    assert_eq!(console.send("POST", "", &[&cookie, OWN], "do=resend&delivery=1").await.status(), "303");
    assert_eq!(received.lock().unwrap()[0]["uuid"], event.uuid());
    console.stop().await;

    let console = Console::start(home.program(&["ui", "r.jsonl", "--read-only"])).await;
    let cookie = console.cookie().await;
    assert_eq!(console.send("POST", "", &[&cookie, OWN], "do=resend&delivery=1").await.status(), "403");
    console.stop().await;
}
