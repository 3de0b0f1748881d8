//! Each call against the fake.

use std::collections::BTreeMap;

use serde_json::json;
use smartshape_api::{Client, ErrorKind, EventKind};
use smartshape_fake::FaultInjection;

use crate::server::{EMPTY_LIST, Server};
use crate::{PASSWORD, SECRET, desired, everything_of, fake, settings};

#[tokio::test]
async fn login_session_create_list_delete() {
    let fake = fake().session_required(true).seats(1).start().await.unwrap();
    let client = Client::builder().base_url(fake.base_url()).build().unwrap();
    let error = client.login("ada", "a guess").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unauthorized, Some(503)));
    assert!(error.to_string().contains("password"), "{error}");

    let client = client.clone().with_auth_token(client.login("ada", PASSWORD).await.unwrap());
    let error = client.list_webhooks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "a session is needed");
    let session = client.open_session().await.unwrap();
    assert_eq!(client.open_session().await.unwrap_err().kind(), ErrorKind::NoSeat);
    let client = client.with_session_token(session);

    let record =
        client.create_webhook(&desired(EventKind::FileUploaded, "http://127.0.0.1:1/")).await.unwrap();
    let stored = &fake.webhooks()[0];
    assert_eq!(
        (&stored.id, stored.event, stored.url.as_str(), stored.secret()),
        (&record.id, EventKind::FileUploaded, "http://127.0.0.1:1/", SECRET)
    );
    let listed = &client.list_webhooks().await.unwrap()[0];
    assert_eq!((&listed.id, listed.kind()), (&record.id, Some(EventKind::FileUploaded)));
    assert_eq!(listed.url.as_deref(), Some("http://127.0.0.1:1/"));
    client.delete_webhook(&record.id).await.unwrap();
    assert!(fake.webhooks().is_empty());
    assert_eq!(client.delete_webhook(&record.id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn attributes_are_upserted() {
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).build().unwrap();
    let nodes = BTreeMap::from([("5b33".to_owned(), BTreeMap::from([("mtime".to_owned(), json!([7]))]))]);
    client.upsert_attributes("5c6f/é", &nodes).await.unwrap();
    let stored = &fake.attributes()[0];
    assert_eq!((stored.file.as_deref(), stored.node.as_str()), (Some("5c6f/é"), "5b33"));
    assert_eq!((stored.name.as_str(), &stored.value), ("mtime", &json!([7])));
}

#[tokio::test]
async fn requests_use_the_path_and_host_of_the_base_url() {
    let server = Server::responding_with(EMPTY_LIST).await;
    let fake = fake().start().await.unwrap();
    let client = settings(&fake).base_url(format!("{}/smart/", server.url)).build().unwrap();
    assert_eq!(client.list_webhooks().await.unwrap(), []);
    let host = server.url.replace("http://", "host: ");
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /smart/webhook/ HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("{host}\r\n")) && request.contains("authorization: Bearer fake."));
    assert!(!request.contains("x-smartshape-session"), "{request}");
}

#[tokio::test]
async fn secrets_echoed_by_the_server_are_redacted() {
    let fake = fake().start().await.unwrap();
    let token = fake.bearer_token();
    let client =
        settings(&fake).auth_token(smartshape_api::AuthToken::new(token.clone()).unwrap()).build().unwrap();
    let url = "http://a/?key=hunter2";
    for status in [200, 302, 400, 418, 500, 503] {
        let body = json!({
            "success": false, "error": {"title": token, "detail": format!("{SECRET} {url}"), "code": PASSWORD}
        });
        for body in [body.to_string(), format!("<html>{token} {SECRET} {PASSWORD} {url}")] {
            fake.inject(FaultInjection::raw(status, "application/json", body.clone()));
            let error = client.create_webhook(&desired(EventKind::FileUploaded, url)).await.unwrap_err();
            let text = everything_of(&error);
            assert!(![&token, SECRET, "hunter2"].iter().any(|secret| text.contains(secret)), "{text}");
            fake.inject(FaultInjection::raw(status, "application/json", body));
            let text = everything_of(&client.login("ada", PASSWORD).await.unwrap_err());
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
    assert!(!format!("{client:?} {:?}", settings(&fake)).contains("fake."));
}

#[test]
fn clients_and_futures_are_send() {
    fn is_send<T: Send + Sync>(value: T) -> T {
        value
    }
    let client = is_send(Client::builder().base_url("http://127.0.0.1:1").build().unwrap());
    let mut records = Vec::new();
    let future = client.reconcile(&[], &mut records, |_| Ok(()));
    fn future_is_send(_: impl Future + Send) {}
    future_is_send(future);
}
