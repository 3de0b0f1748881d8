//! `smartshape relay` to a stream of NATS.

use std::path::Path;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::{ConnectOptions, jetstream};
use smartshape_fake::EventPayload;
use smartshape_webhook::EventKind::FileUploaded;
use test_nats::Servers;

use crate::relay::Relay;
use crate::support::Home;

/// Does nothing without the environment variable `NATS_SERVER`, which `cargo xtask test` sets.
#[tokio::test]
async fn relay_publishes_to_a_stream_once_it_can_be_reached() {
    let Some(program) = std::env::var_os("NATS_SERVER") else { return };
    let mut servers = Servers::start(Path::new(&program), 1, "authorization { token: do-not-show }").unwrap();
    let client = ConnectOptions::with_token("do-not-show".to_owned()).connect(servers.urls()).await.unwrap();
    let jetstream = jetstream::new(client);
    let config = Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["smartshape.>".to_owned()],
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let stream = jetstream.create_stream(config).await.unwrap();
    servers.kill(0).unwrap();

    let home = Home::new();
    let url = servers.urls().replace("nats://", "nats://do-not-show@");
    home.write("url", format!("{url}/EVENTS\n"));
    let relay = Relay::of(&home, "[[route]]\nto = { file = 'url' }\nmin_replicas = 1\n").await;
    let event = EventPayload::sample(FileUploaded);
    relay.accepts(&event).await;
    let attempts = r#"smartshape_relay_attempts_total{target="nats:EVENTS",outcome="#;
    relay.wait_for_counter(&format!("{attempts}\"failed\"}}")).await;
    servers.restart().unwrap();
    relay.wait_for_metric(&format!("{attempts}\"passed_on\"}} 1")).await;
    assert_eq!(stream.get_raw_message(1).await.unwrap().payload, event.to_body());
    let log = relay.terminate().await;
    assert!(!log.contains("do-not-show"), "{log}");
}
