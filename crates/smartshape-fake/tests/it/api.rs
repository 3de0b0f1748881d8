//! SmartShape's web API as the fake imitates it.

use serde_json::{Value, json};
use smartshape_fake::{
    Account, ErrorFormat, EventPayload, FakeBuilder, FakeSmartShape, FaultInjection, Permission,
    SenderSettings,
};
use smartshape_webhook::EventKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::endpoint::{Endpoint, GOOD};

const LOGIN: &str = r#"{"username": "ada", "password": "her password"}"#;
const WEBHOOK: &str = r#"{"event": "file_uploaded", "url": "http://127.0.0.1:1/", "secretToken": "s"}"#;

fn quick() -> FakeBuilder {
    let settings = SenderSettings { max_attempts: 1, ..SenderSettings::quick() };
    FakeSmartShape::builder().sender(settings).account(Account::new("ada", "her password"))
}

/// Status and body, null where there is none.
async fn call(
    fake: &FakeSmartShape,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    let response = raw_call(fake, method, path, headers, body).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn get(fake: &FakeSmartShape, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    call(fake, "GET", path, headers, "").await
}

async fn raw_call(
    fake: &FakeSmartShape,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let address = fake.base_url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "host") {
        request += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

fn bearer(fake: &FakeSmartShape) -> String {
    format!("Bearer {}", fake.bearer_token())
}

#[tokio::test]
async fn calls_behave_as_documented() {
    let fake = quick().session_required(true).seats(1).start().await.unwrap();
    let (status, body) = call(&fake, "POST", "/account/login/", &[], LOGIN).await;
    assert_eq!((status, &body["success"], &body["username"]), (200, &json!(true), &json!("ada")));
    let bearer = body["cookies"].as_str().unwrap().replace("jsonwebtoken=", "Bearer ");
    let headers = [("authorization", bearer.as_str())];

    assert_eq!(get(&fake, "/webhook/", &headers).await.0, 503, "a session is needed");
    let (status, body) = call(&fake, "POST", "/account/session", &headers, "").await;
    assert_eq!(status, 200);
    let session = body["jwt"].as_str().unwrap().to_owned();
    assert_eq!(call(&fake, "POST", "/account/session", &headers, "").await.0, 402, "one seat only");

    let headers = [("authorization", bearer.as_str()), ("x-smartshape-session", session.as_str())];
    let (status, body) = call(&fake, "PUT", "/webhook/", &headers, WEBHOOK).await;
    let id = body["data"]["attributes"]["_id"].as_str().unwrap();
    let created = json!({"data": {"type": "webhook", "attributes": {"__v": 0, "_id": id}}});
    assert_eq!((status, &body), (200, &created));

    let attributes = json!({"event": "file_uploaded", "url": "http://127.0.0.1:1/"});
    let listed = json!({"data": [{"type": "webhook", "id": id, "attributes": attributes}]});
    assert_eq!(get(&fake, "/webhook/", &headers).await, (200, listed));

    let deleted = call(&fake, "DELETE", &format!("/webhook/{id}/"), &headers, "").await;
    assert_eq!(deleted, (200, json!({"success": true})));
    assert_eq!(call(&fake, "DELETE", &format!("/webhook/{id}"), &headers, "").await.0, 404);

    fake.expire_tokens();
    assert_eq!(get(&fake, "/webhook/", &headers).await.0, 503);
    fake.shutdown().await;
}

#[tokio::test]
async fn errors_have_the_configured_format() {
    for (form, index) in
        [(ErrorFormat::Plain, ""), (ErrorFormat::Wrapped, "/error"), (ErrorFormat::List, "/errors/0")]
    {
        let fake = quick().error_format(form).start().await.unwrap();
        let (status, body) = get(&fake, "/webhook/", &[("authorization", "Bearer nonsense")]).await;
        assert_eq!((status, body.pointer(index).unwrap()["status"].as_u64()), (503, Some(401)), "{body}");
    }
    let fake = quick().error_format(ErrorFormat::Empty).start().await.unwrap();
    assert_eq!(get(&fake, "/webhook/", &[]).await, (503, Value::Null));
}

#[tokio::test]
async fn invalid_arguments_are_named() {
    let fake = quick().start().await.unwrap();
    let bearer = bearer(&fake);
    let headers = [("authorization", bearer.as_str())];
    for (body, named) in [
        (json!({"url": "u", "secretToken": "s"}), "event is missing"),
        (json!({"event": "file_deleted", "url": "u", "secretToken": "s"}), "configuration_removed"),
        (json!({"event": "file_uploaded", "secretToken": "s"}), "url is missing"),
        (json!({"event": "file_uploaded", "url": "u", "secretToken": ""}), "secretToken is missing"),
        (json!([]), "not a JSON object"),
    ] {
        let (status, problem) = call(&fake, "PUT", "/webhook/", &headers, &body.to_string()).await;
        assert_eq!(status, 400);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    let wrong = json!({"username": "ada", "password": "guess"}).to_string();
    assert_eq!(call(&fake, "POST", "/account/login/", &[], &wrong).await.0, 503);
}

#[tokio::test]
async fn permissions_and_owners_are_enforced() {
    let reader = Account::new("reader", "pass").with_permissions([Permission::ReadWebhook]);
    let fake = quick().account(reader).list_shows_url(false).start().await.unwrap();
    let reader = bearer(&fake);
    let (_, body) = call(&fake, "POST", "/account/login", &[], LOGIN).await;
    let ada = body["cookies"].as_str().unwrap().replace("jsonwebtoken=", "Bearer ");
    let (ada, reader) = ([("authorization", &*ada)], [("authorization", &*reader)]);

    assert_eq!(call(&fake, "PUT", "/webhook/", &reader, WEBHOOK).await.0, 503);
    let (_, body) = call(&fake, "PUT", "/webhook/", &ada, WEBHOOK).await;
    let id = body["data"]["attributes"]["_id"].as_str().unwrap();
    assert_eq!(get(&fake, "/webhook/", &reader).await.1, json!({"data": []}));
    let listed = json!({"data": [{"type": "webhook", "id": id, "attributes": {"event": "file_uploaded"}}]});
    assert_eq!(get(&fake, "/webhook/", &ada).await.1, listed);
}

#[tokio::test]
async fn upserts_store_attributes_and_trigger_events() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    let fake = quick().start().await.unwrap();
    fake.register(EventKind::AttributeUpdated, &endpoint.url, "secret of the test");
    let bearer = bearer(&fake);
    let headers = [("authorization", bearer.as_str())];
    let body = json!({"attributes": {"5b33": {"mtime": 7}}}).to_string();
    let set = call(&fake, "POST", "/scene/attributes/5c6f", &headers, &body).await;
    assert_eq!(set, (200, json!({"success": true})));
    let changed = body.replace('7', "8");
    let set = call(&fake, "POST", "/annotation/attributes/5c6f", &headers, &changed).await;
    assert_eq!(set.0, 200);
    assert_eq!(call(&fake, "POST", "/scene/attributes", &headers, "{}").await.0, 400);
    let stored = json!({"attributes": [{"file": "5c6f", "node": "5b33", "name": "mtime", "value": 8}]});
    assert_eq!(get(&fake, "/fake/attributes", &[]).await.1, stored);
    assert_eq!(fake.attributes()[0].value, 8);

    // The event is sent behind the call's back; shutting down would not wait for it.
    tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while fake.deliveries().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let request = &endpoint.requests()[0];
    assert!(request.contains(r#""nodeIdToAttributes":{"5b33":{"mtime":7}}"#), "{request}");
    assert!(request.contains(r#""file":"5c6f""#), "{request}");
}

#[tokio::test]
async fn control_routes_trigger_events() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    let fake = quick().start().await.unwrap();
    fake.register(EventKind::FileUploaded, &endpoint.url, "secret of the test");
    let (status, body) =
        call(&fake, "POST", "/fake/events/file_uploaded?copies=2", &[], r#"{"size": 1e2}"#).await;
    assert_eq!(status, 200);
    let deliveries = body["deliveries"].as_array().unwrap();
    assert!(deliveries.len() == 2 && deliveries.iter().all(|one| one["accepted"] == true), "{body}");
    assert!(endpoint.requests()[0].contains(r#""data":{"size": 1e2}"#));

    let (_, body) = call(&fake, "POST", "/fake/events/file_uploaded?exact=true", &[], "").await;
    assert_eq!(body["deliveries"][0]["uuid"], "a36b623a-c1ed-49b5-9585-3532fe8e9881");
    let (_, body) = call(&fake, "POST", "/fake/events/annotation_created", &[], "").await;
    assert_eq!(body, json!({"deliveries": []}), "nobody is registered for it");
    assert_eq!(get(&fake, "/fake/deliveries", &[]).await.1["deliveries"].as_array().unwrap().len(), 3);

    for (path, body) in [
        ("/fake/events/file_deleted", ""),
        ("/fake/events/file_uploaded?copies=0", ""),
        ("/fake/events/file_uploaded?copies=9999", ""),
        ("/fake/events/file_uploaded", "{"),
    ] {
        assert_eq!(call(&fake, "POST", path, &[], body).await.0, 400, "{path} {body}");
    }
}

#[tokio::test]
async fn webhooks_and_copies_are_bounded_together() {
    let fake = quick().start().await.unwrap();
    for _ in 0..101 {
        // Nothing is sent to it.
        fake.register(EventKind::FileUploaded, "no URL", "secret of the test");
    }
    fake.register(EventKind::FileOptimized, "no URL", "secret of the test");
    let (status, body) = call(&fake, "POST", "/fake/events/file_uploaded?copies=1000", &[], "").await;
    assert_eq!(status, 400);
    assert!(body["detail"].as_str().unwrap().contains("101 webhooks"), "{body}");
    assert_eq!(call(&fake, "POST", "/fake/events/file_optimized?copies=1000", &[], "").await.0, 200);
}

#[tokio::test]
async fn remote_addresses_are_rejected_by_default() {
    let error = quick().listen("0.0.0.0:0".parse().unwrap()).start().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_unfinished_requests() {
    let fake = quick().shutdown_timeout(std::time::Duration::from_millis(50)).start().await.unwrap();
    let address = fake.base_url().replace("http://", "");
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(b"GET /fake/ HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    // The response shows that the connection before it was accepted.
    assert_eq!(get(&fake, "/fake/", &[]).await.0, 200);
    tokio::time::timeout(std::time::Duration::from_secs(30), fake.shutdown()).await.unwrap();
}

#[tokio::test]
async fn excess_logins_evict_the_oldest() {
    let fake = quick().start().await.unwrap();
    let (first, second) = (bearer(&fake), bearer(&fake));
    for _ in 0..999 {
        let _ = fake.bearer_token();
    }
    assert_eq!(get(&fake, "/webhook/", &[("authorization", &first)]).await.0, 503);
    assert_eq!(get(&fake, "/webhook/", &[("authorization", &second)]).await.0, 200);
}

#[tokio::test]
async fn owner_set_by_the_caller_is_kept() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    let fake = quick().start().await.unwrap();
    fake.register(EventKind::FileUploaded, &endpoint.url, "secret of the test");
    let event = EventPayload::sample(EventKind::FileUploaded);
    fake.send(&event).await;
    fake.send(&event.with_owner("zoe")).await;
    let requests = endpoint.requests();
    assert!(requests[0].contains(r#""owner":"ada""#), "{}", requests[0]);
    assert!(requests[1].contains(r#""owner":"zoe""#), "{}", requests[1]);
}

#[tokio::test]
async fn unknown_routes_and_options_are_errors() {
    let fake = quick().error_format(ErrorFormat::List).start().await.unwrap();
    let (status, body) = get(&fake, "/nothing", &[]).await;
    assert_eq!((status, &body["errors"][0]["status"]), (404, &json!(404)));
    let (status, body) = call(&fake, "POST", "/fake/events/file_uploaded?copy=2", &[], "").await;
    assert_eq!((status, &body["status"]), (400, &json!(400)));
}

#[tokio::test]
async fn responses_carry_the_server_header() {
    let fake = quick().start().await.unwrap();
    for path in ["/webhook/", "/fake/", "/nothing"] {
        let response = raw_call(&fake, "GET", path, &[], "").await;
        assert!(response.contains("server: smartshape-fake\r\n"), "{path}: {response}");
    }
}

#[tokio::test]
async fn injected_faults_apply_in_order_and_may_follow_the_effect() {
    let fake = quick().start().await.unwrap();
    let bearer = bearer(&fake);
    let headers = [("authorization", bearer.as_str())];
    fake.inject(FaultInjection::error(500, ErrorFormat::List).after(1));
    fake.inject(FaultInjection::drop_connection().after_effect());
    fake.inject(FaultInjection::raw(502, "text/html", "<html>"));
    fake.inject(FaultInjection::redirect(302, "http://127.0.0.1:1/login"));

    assert_eq!(get(&fake, "/webhook/", &headers).await.0, 200);
    let (status, body) = call(&fake, "PUT", "/webhook/", &headers, WEBHOOK).await;
    assert_eq!((status, &body["errors"][0]["title"]), (500, &json!("Injected")));
    assert!(fake.webhooks().is_empty(), "that call had no effect");
    assert_eq!(get(&fake, "/fake/deliveries", &[]).await.0, 200, "no call of SmartShape's");
    let response = raw_call(&fake, "PUT", "/webhook/", &headers, WEBHOOK).await;
    assert!(response.contains("content-length: 100\r\n") && response.ends_with("\r\n\r\n{"), "{response}");
    let stored = &fake.webhooks()[0];
    assert_eq!((stored.owner.as_str(), stored.event, stored.secret()), ("ada", EventKind::FileUploaded, "s"));
    assert!(raw_call(&fake, "GET", "/webhook/", &headers, "").await.ends_with("\r\n\r\n<html>"));
    let response = raw_call(&fake, "GET", "/webhook/", &headers, "").await;
    assert!(response.contains("location: http://127.0.0.1:1/login\r\n"), "{response}");
    assert_eq!(get(&fake, "/webhook/", &headers).await.0, 200, "all were given");
}

#[tokio::test]
async fn web_pages_can_neither_trigger_nor_read_events() {
    let fake = quick().start().await.unwrap();
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    fake.register(EventKind::FileUploaded, &endpoint.url, "a secret");
    let port = fake.base_url().rsplit_once(':').unwrap().1.to_owned();
    let calls = [
        ("POST", "/fake/events/file_uploaded"),
        ("GET", "/fake/deliveries"),
        ("GET", "/fake/attributes"),
        ("GET", "/fake"),
    ];
    for (method, path) in calls {
        for header in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-origin"),
            // A name that an attacker lets resolve to this machine.
            ("host", "rebind.evil.example"),
            ("host", "127.0.0.1.evil.example:8043"),
            ("host", "10.0.0.1"),
        ] {
            let (status, body) = call(&fake, method, path, &[header], "{}").await;
            assert_eq!((status, &body["title"]), (403, &json!("Forbidden")), "{path} {header:?}");
        }
    }
    assert!(fake.deliveries().is_empty());
    for host in [format!("localhost:{port}"), "[::1]".to_owned(), "127.0.0.1".to_owned()] {
        let headers = [("host", host.as_str()), ("sec-fetch-site", "none")];
        assert_eq!(get(&fake, "/fake/deliveries", &headers).await.0, 200, "{host}");
    }
    // In a network of containers each has a name.
    let remote = SenderSettings { allow_remote: true, ..SenderSettings::quick() };
    let fake = FakeSmartShape::builder().sender(remote).start().await.unwrap();
    assert_eq!(get(&fake, "/fake/deliveries", &[("host", "fake:8043")]).await.0, 200);
    let page = [("host", "fake:8043"), ("origin", "http://fake:8043")];
    assert_eq!(get(&fake, "/fake/deliveries", &page).await.0, 403);
}
