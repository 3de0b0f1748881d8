//! What the outlet publishes to a stream, and when it succeeds.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::object_store;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use smartshape_webhook::{Handler as _, HandlerErrorKind};
use smartshape_webhook_outlet::{CloudEvent, JetStreamOutlet, JetStreamOutletBuilder, OutletErrorKind};
use test_nats::Servers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::{BODY, body_of, delivery};

/// One server, or a cluster, with a stream.
pub(crate) struct Nats {
    pub(crate) servers: Servers,
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
}

impl Nats {
    /// `None` without the environment variable `NATS_SERVER`, which `cargo xtask test` sets.
    pub(crate) async fn start(count: usize, settings: &str) -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("NATS_SERVER")?);
        let servers = Servers::start(&program, count, settings).unwrap();
        let urls: Vec<String> = servers.urls().split(',').map(str::to_owned).collect();
        let client = async_nats::connect(urls).await.unwrap();
        let jetstream = jetstream::new(client.clone());
        jetstream.create_stream(Config { num_replicas: count, ..events() }).await.unwrap();
        Some(Self { servers, client, jetstream })
    }

    pub(crate) fn builder(&self) -> JetStreamOutletBuilder {
        JetStreamOutlet::builder(&self.servers.urls(), "EVENTS").min_replicas(1)
    }

    pub(crate) async fn outlet(&self) -> JetStreamOutlet {
        self.builder().open().await.unwrap()
    }

    /// All messages of the stream, in its order.
    pub(crate) async fn messages(&self) -> Vec<jetstream::Message> {
        let mut stream = self.jetstream.get_stream("EVENTS").await.unwrap();
        let count = stream.info().await.unwrap().state.messages;
        let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
        let consumer = stream.create_consumer(config).await.unwrap();
        let messages = consumer.messages().await.unwrap();
        messages.take(usize::try_from(count).unwrap()).try_collect().await.unwrap()
    }
}

pub(crate) fn events() -> Config {
    Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["smartshape.>".to_owned()],
        discard: DiscardPolicy::New,
        ..Default::default()
    }
}

#[tokio::test]
async fn repetitions_are_stored_once() {
    let Some(mut nats) = Nats::start(1, "").await else { return };
    let outlet = nats.outlet().await;
    let publish = async |outlet: &JetStreamOutlet| {
        let attempts = (0..100).map(|number| outlet.handle(delivery(&body_of(&format!("u{}", number % 10)))));
        for outcome in join_all(attempts).await {
            outcome.unwrap();
        }
    };
    publish(&outlet).await;
    nats.servers.kill(0).unwrap();
    nats.servers.restart().unwrap();
    publish(&nats.outlet().await).await;
    assert_eq!(nats.messages().await.len(), 10);
}

#[tokio::test]
async fn unfit_streams_are_rejected() {
    let Some(nats) = Nats::start(1, "").await else { return };
    let fit = || Config { name: "OTHER".to_owned(), subjects: vec!["other.>".to_owned()], ..events() };
    let unfit = [
        (Config { storage: StorageType::Memory, ..fit() }, "in memory"),
        (Config { discard: DiscardPolicy::Old, ..fit() }, "drop its oldest events"),
        (Config { retention: RetentionPolicy::WorkQueue, ..fit() }, "retention policy limits"),
        (Config { retention: RetentionPolicy::Interest, ..fit() }, "retention policy limits"),
        (Config { max_age: Duration::from_secs(3600), ..fit() }, "within a day"),
        (Config { no_ack: true, ..fit() }, "does not acknowledge"),
        (Config { subjects: vec!["other.file_uploaded.>".to_owned()], ..fit() }, "do not include other.>"),
        (Config { subjects: vec!["another".to_owned()], ..fit() }, "do not include other.>"),
    ];
    let builder = || JetStreamOutlet::builder(&nats.servers.urls(), "OTHER").subject_prefix("other");
    for (config, expected) in unfit {
        nats.jetstream.create_stream(config).await.unwrap();
        let error = builder().min_replicas(1).open().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        nats.jetstream.delete_stream("OTHER").await.unwrap();
    }
    let error = builder().open().await.unwrap_err();
    assert!(error.to_string().contains("stream not found"), "{error}");
    assert_eq!(error.kind(), OutletErrorKind::Stream);
    nats.jetstream.create_stream(fit()).await.unwrap();
    let error = builder().open().await.unwrap_err().to_string();
    assert!(error.contains("number of replicas is 1, below 3"), "{error}");
    let objects = object_store::Config { bucket: "bodies".to_owned(), ..Default::default() };
    let with_objects = || builder().min_replicas(1).object_store("bodies").open();
    let error = with_objects().await.unwrap_err().to_string();
    assert!(error.contains("object store"), "{error}");
    nats.jetstream
        .create_object_store(object_store::Config { storage: StorageType::Memory, ..objects.clone() })
        .await
        .unwrap();
    let error = with_objects().await.unwrap_err();
    assert!(error.to_string().contains("object store does not fit: it is in memory"), "{error}");
    assert_eq!(error.kind(), OutletErrorKind::ObjectStore);
    nats.jetstream.delete_object_store("bodies").await.unwrap();
    let max_age = Duration::from_secs(30 * 24 * 60 * 60);
    nats.jetstream.create_object_store(object_store::Config { max_age, ..objects }).await.unwrap();
    let error = with_objects().await.unwrap_err().to_string();
    assert!(error.contains("it deletes objects before their events"), "{error}");
    builder().min_replicas(1).open().await.unwrap();
}

#[tokio::test]
async fn large_bodies_become_objects() {
    let Some(nats) = Nats::start(1, "max_payload: 65536").await else { return };
    let objects = object_store::Config { bucket: "bodies".to_owned(), ..Default::default() };
    let objects = nats.jetstream.create_object_store(objects).await.unwrap();
    let large = body_of("large").replace("1.0e0", &"1".repeat(300_000));
    let error = nats.outlet().await.handle(delivery(&large)).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(error.to_string().contains("max_payload"), "{error}");

    let outlet = nats.builder().object_store("bodies").open().await.unwrap();
    for body in [&large, &large, BODY] {
        outlet.handle(delivery(body)).await.unwrap();
    }
    // Around the limit, the headers decide.
    for bytes in [64_000, 65_000, 65_100, 65_200, 65_300, 65_536, 65_537] {
        let body = body_of(&bytes.to_string());
        let body = body.replace("1.0e0", &"1".repeat(bytes + 5 - body.len()));
        outlet.handle(delivery(&body)).await.unwrap();
    }
    let messages = nats.messages().await;
    assert_eq!(messages.len(), 9);
    let id = CloudEvent::from(&delivery(&large)).id;
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-dataref").unwrap().as_str(), format!("objectstore:bodies/{id}"));
    assert_eq!(headers.get("ce-id").unwrap().as_str(), id);
    assert!(messages[0].payload.is_empty());
    let mut stored = Vec::new();
    objects.get(&id).await.unwrap().read_to_end(&mut stored).await.unwrap();
    assert!(stored == large.as_bytes());
    assert_eq!(messages[1].payload, BODY.as_bytes());

    // A consumer has deleted the object, and an operator the event, which is replayed.
    objects.delete(&id).await.unwrap();
    nats.jetstream.get_stream("EVENTS").await.unwrap().purge().await.unwrap();
    outlet.handle(delivery(&large)).await.unwrap();
    stored.clear();
    objects.get(&id).await.unwrap().read_to_end(&mut stored).await.unwrap();
    assert!(stored == large.as_bytes(), "the event refers to an object that is deleted");
}

#[tokio::test]
async fn bodies_above_the_size_limit_of_the_stream_become_objects() {
    let Some(nats) = Nats::start(1, "").await else { return };
    nats.jetstream.update_stream(Config { max_message_size: 2000, ..events() }).await.unwrap();
    let objects = object_store::Config { bucket: "bodies".to_owned(), ..Default::default() };
    nats.jetstream.create_object_store(objects).await.unwrap();
    let outlet = nats.builder().object_store("bodies").open().await.unwrap();
    let large = body_of("large").replace("1.0e0", &"1".repeat(2000));
    outlet.handle(delivery(&large)).await.unwrap();
    assert!(nats.messages().await[0].headers.as_ref().unwrap().get("ce-dataref").is_some());
}

#[tokio::test]
async fn consumers_in_rust_and_python_read_the_same() {
    let Ok(command) = std::env::var("NATS_STREAM_IN_PYTHON") else { return };
    let Some(nats) = Nats::start(1, "max_payload: 65536").await else { return };
    let config = object_store::Config { bucket: "bodies".to_owned(), ..Default::default() };
    let objects = nats.jetstream.create_object_store(config).await.unwrap();
    let outlet = nats.builder().object_store("bodies").open().await.unwrap();
    let large = body_of("large").replace("1.0e0", &"1".repeat(300_000));
    let bodies = [BODY, &large, &body_of("\u{1F512}")];
    let mut expected = String::new();
    for body in bodies {
        outlet.handle(delivery(body)).await.unwrap();
    }
    for (message, body) in nats.messages().await.iter().zip(bodies) {
        let header = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        let mut read = message.payload.to_vec();
        if let Some(name) = header("ce-dataref").and_then(|it| it.strip_prefix("objectstore:bodies/")) {
            objects.get(name).await.unwrap().read_to_end(&mut read).await.unwrap();
        }
        assert!(read == body.as_bytes());
        let hexadecimal: String = read.iter().map(|byte| format!("{byte:02x}")).collect();
        expected += &format!("{} {} {hexadecimal}\n", header("ce-id").unwrap(), header("ce-type").unwrap());
    }
    let mut words = command.split('\t');
    let mut program = Command::new(words.next().unwrap());
    let output = program.args(words).args(["read", &nats.servers.urls(), "EVENTS"]).output().unwrap();
    assert!(output.stdout == expected.as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn long_attributes_fail_alone() {
    let Some(nats) = Nats::start(1, "").await else { return };
    let outlet = nats.outlet().await;
    let text = "%".repeat(16_000);
    let long = BODY.replace("gr\\u00f6\\u00dfe", &text).replace("file_uploaded", &text);
    let error = outlet.handle(delivery(&long)).await.unwrap_err();
    assert!(error.to_string().contains("65535"), "{error}");
    // Long or strange names of events do not reach the subject.
    for name in ["a b", "a.b", ">", "*", "\\r\\nPUB x 0", &"e".repeat(5_000)] {
        outlet.handle(delivery(&BODY.replace("file_uploaded", name))).await.unwrap();
    }
    for message in nats.messages().await {
        assert!(message.subject.starts_with("smartshape.other."), "{}", message.subject);
    }
}

#[tokio::test]
async fn foreign_acknowledgement_is_a_failure() {
    let Some(nats) = Nats::start(1, "").await else { return };
    let outlet = nats.builder().timeout(Duration::from_secs(5)).open().await.unwrap();
    nats.jetstream.delete_stream("EVENTS").await.unwrap();
    assert!(outlet.handle(delivery(BODY)).await.is_err());
    // The last is the stream's own while another message of the subject is on its way, which a dying leader takes with
    // it.
    let on_its_way = r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#;
    for response in [r#"{"stream":"OTHER","seq":1}"#, r#"{"success":true}"#, "", "+OK", on_its_way] {
        let mut requests = nats.client.subscribe("smartshape.>").await.unwrap();
        // Once the server has responded, it knows of the subscription.
        nats.jetstream.query_account().await.unwrap();
        let (outcome, request) = tokio::join!(outlet.handle(delivery(BODY)), async {
            let request = requests.next().await.unwrap();
            nats.client.publish(request.reply.unwrap(), response.into()).await.unwrap();
            nats.client.flush().await
        });
        request.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), HandlerErrorKind::Retry, "{response}");
    }
    // Another stream that takes its subjects over.
    nats.jetstream.create_stream(Config { name: "OTHER".to_owned(), ..events() }).await.unwrap();
    assert!(outlet.handle(delivery(BODY)).await.is_err());
}

#[tokio::test]
async fn lazy_outlet_connects_once_the_server_is_up() {
    let Some(mut nats) = Nats::start(1, "").await else { return };
    nats.servers.kill(0).unwrap();
    let outlet = nats.builder().open_lazy().unwrap();
    let error = outlet.handle(delivery(BODY)).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Retry);
    assert!(error.to_string().contains("the servers cannot be connected to"), "{error}");
    nats.servers.restart().unwrap();
    outlet.handle(delivery(BODY)).await.unwrap();
    // What does not fit is not published to.
    let error = nats.builder().min_replicas(3).open_lazy().unwrap().handle(delivery(&body_of("other"))).await;
    assert!(error.unwrap_err().to_string().contains("number of replicas is 1"));
    assert_eq!(nats.messages().await.len(), 1);
}

#[tokio::test]
async fn silent_and_foreign_servers_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let open = || JetStreamOutlet::builder(&url, "EVENTS").timeout(Duration::from_millis(200)).open();
    let error = tokio::time::timeout(Duration::from_secs(30), open()).await.expect("a bound").unwrap_err();
    assert!(error.to_string().contains("no response within 200ms"), "{error}");
    drop(listener);
    let error = tokio::time::timeout(Duration::from_secs(30), open()).await.expect("a bound").unwrap_err();
    assert!(error.to_string().starts_with("the servers cannot be"), "{error}");
    assert_eq!(error.kind(), OutletErrorKind::Unavailable);
}

#[tokio::test]
async fn credentials_are_used_and_not_shown() {
    let settings = r#"authorization { user: ada, password: "do-not-sh@w" }"#;
    let Some(program) = std::env::var_os("NATS_SERVER") else { return };
    let servers = Servers::start(program.as_ref(), 1, settings).unwrap();
    let urls = |user: &str| servers.urls().replace("nats://", &format!("nats://{user}"));
    for user in ["", "do-not-show@", "ada:do-not-show@", "ada:do-not-sh%40w@"] {
        let builder = JetStreamOutlet::builder(&urls(user), "EVENTS").timeout(Duration::from_secs(10));
        let shown = format!("{builder:?}");
        let error = builder.open().await.unwrap_err();
        let shown = format!("{shown} {error} {error:?}");
        assert!(!shown.contains("do-not"), "{shown}");
        // The right ones get as far as the stream.
        assert_eq!(shown.contains("stream not found"), user.contains("%40"), "{shown}");
    }
    for (urls, expected) in [
        ("", "the URL is invalid"),
        ("do-not-show", "the URL is invalid"),
        ("http://do-not-show@127.0.0.1", "neither nats:// nor tls://"),
        ("nats://127.0.0.1/do-not-show", "not a host and a port"),
        ("nats://do-not-show@", "the URL is invalid"),
        ("nats://127.0.0.1:4222,do-not-show", "the URL is invalid"),
    ] {
        let error = JetStreamOutlet::builder(urls, "EVENTS").open().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected) && !shown.contains("do-not-show"), "{shown}");
        assert_eq!(error.kind(), OutletErrorKind::Url, "{shown}");
    }
    for prefix in ["", "a..b", "a.*", "$JS.API", "a b"] {
        let outlet = JetStreamOutlet::builder("nats://127.0.0.1", "EVENTS").subject_prefix(prefix);
        let error = outlet.open().await.unwrap_err();
        assert!(error.to_string().contains("prefix"), "{prefix}: {error}");
        assert_eq!(error.kind(), OutletErrorKind::SubjectPrefix);
    }
    for name in ["", "a.b", "a b", "*", ">", "a/b"] {
        let error = JetStreamOutlet::builder("nats://127.0.0.1", name).open_lazy().unwrap_err();
        assert!(error.to_string().contains("name of the stream"), "{name}: {error}");
        assert_eq!(error.kind(), OutletErrorKind::StreamName);
    }
    let missing =
        JetStreamOutlet::builder("nats://127.0.0.1", "EVENTS").credentials_file("/nonexistent").open();
    let error = missing.await.unwrap_err();
    assert!(error.to_string().starts_with("the credentials file cannot be used"), "{error}");
    assert_eq!(error.kind(), OutletErrorKind::CredentialsFile);
}

#[tokio::test]
async fn certificates_are_verified() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let Some(program) = std::env::var_os("NATS_SERVER") else { return };
    let files = std::env::temp_dir().join(format!("outlet-tls-{}", std::process::id()));
    std::fs::create_dir_all(&files).unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(files.join(name), text).unwrap();
        files.join(name)
    };
    let (cert, secret) = (file("cert.pem", key.cert.pem()), file("key.pem", key.signing_key.serialize_pem()));
    let servers =
        Servers::start(program.as_ref(), 1, &format!("tls {{ cert_file: {cert:?}, key_file: {secret:?} }}"));
    let url = servers.as_ref().unwrap().urls().replace("nats://127.0.0.1", "tls://localhost");
    let builder = || JetStreamOutlet::builder(&url, "EVENTS").timeout(Duration::from_secs(10));
    let error = builder().open().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = builder().root_certificates(key.cert.pem()).open().await.unwrap_err();
    assert!(error.to_string().contains("stream not found"), "{error}");
    std::fs::remove_dir_all(&files).unwrap();
    // A server without TLS.
    let Some(nats) = Nats::start(1, "").await else { return };
    let url = nats.servers.urls().replace("nats://", "tls://");
    let error =
        JetStreamOutlet::builder(&url, "EVENTS").timeout(Duration::from_secs(10)).open().await.unwrap_err();
    assert!(error.to_string().starts_with("the servers cannot be connected to"), "{error}");
}

/// Without TLS, whoever is on the way would get the credentials from a client whose connection was lost.
#[tokio::test]
async fn announced_servers_need_tls_too() {
    let (acceptor, certificate) = crate::tls_acceptor();
    let (named, announced) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("tls://ada:do-not-show@localhost:{}", named.local_addr().unwrap().port());
    let announced_url = announced.local_addr().unwrap();
    let info = format!("INFO {{\"max_payload\":1048576,\"connect_urls\":[\"{announced_url}\"]}}\r\n");
    // Accepts the client, and loses the connection.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = named.accept().await {
            let _ = stream.write_all(info.as_bytes()).await;
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"PONG\r\n").await;
        }
    });
    let outlet = JetStreamOutlet::builder(&url, "EVENTS").root_certificates(certificate).open_lazy().unwrap();
    tokio::spawn(async move { outlet.handle(delivery(BODY)).await });
    let connection = tokio::time::timeout(Duration::from_secs(30), announced.accept()).await;
    let (mut stream, _) = connection.unwrap().unwrap();
    stream.write_all(b"INFO {}\r\n").await.unwrap();
    // The record of a TLS handshake, and not CONNECT.
    assert_eq!(stream.read_u8().await.unwrap(), 0x16);
}
