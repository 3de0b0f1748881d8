//! The outlet to a stream of NATS.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{InfoErrorKind, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr};
use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::Url;

use crate::tls::client_config;
use crate::{CloudEvent, OutletError, OutletErrorKind};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_PREFIX: &str = "smartshape";
const DEFAULT_REPLICAS: usize = 3;
/// The stream knows a repetition for as long as it keeps the event.
const MIN_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// No stream stores a message with longer headers.
const MAX_HEADER_BYTES: usize = 65_535;
/// Messages of an object, unless `max_payload` is smaller: the size that other clients use.
const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// A longer name, or one with other characters, is [`OTHER_EVENT`] in the subject: the server closes connections that
/// send long subjects.
const MAX_EVENT_TOKEN: usize = 64;
const OTHER_EVENT: &str = "other";

/// Publishes each delivery to a stream of [NATS JetStream](https://docs.nats.io/nats-concepts/jetstream), once for each
/// [`CloudEvent::id`].
///
/// The message has the body as it was received and the headers of [`CloudEvent::headers`]. Its subject is
/// `<prefix>.<event>.<id>`, so that a consumer can filter by event: `smartshape.file_uploaded.*`. An event whose name
/// is longer than 64 bytes or has other characters than letters, digits, `-` and `_` has `other` in its place;
/// `ce-type` is always the name.
///
/// Success is the acknowledgement of this stream, or its statement that it stores a message with this subject already:
/// a repetition changes nothing for as long as the stream keeps the event. Anything else is an error after which the
/// delivery is retried; no error is [permanent](HandlerError::permanent). While a cluster elects a leader, which takes
/// seconds, all attempts fail.
///
/// A message above the server's `max_payload` (1 MiB by default) needs an
/// [object store](JetStreamOutletBuilder::object_store): the body becomes the object named by the id, and the message
/// is empty and has the header `ce-dataref: objectstore:<bucket>/<id>`.
///
/// The connection is made by [`open`](JetStreamOutletBuilder::open), or with the first delivery
/// ([`open_lazy`](JetStreamOutletBuilder::open_lazy)), and again whenever it is lost. Cheap to clone.
///
/// ```no_run
/// use smartshape_webhook_outlet::JetStreamOutlet;
///
/// # async fn run() -> Result<(), smartshape_webhook_outlet::OutletError> {
/// let urls = "nats://a.example.com:4222,nats://b.example.com:4222";
/// let outlet = JetStreamOutlet::builder(urls, "EVENTS").credentials_file("outlet.creds").open().await?;
/// assert_eq!(format!("{outlet:?}"), r#"JetStreamOutlet { stream: "EVENTS", .. }"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JetStreamOutlet(Arc<Inner>);

struct Inner {
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    stream: String,
    prefix: String,
    timeout: Duration,
    bucket: Option<String>,
    min_replicas: usize,
    connection: OnceCell<Connection>,
}

/// A connection whose stream and object store were checked.
struct Connection {
    client: Client,
    jetstream: Context,
    /// Limit of the stream, in bytes, headers included.
    max_message_size: usize,
    objects: Option<(String, ObjectStore)>,
}

impl JetStreamOutlet {
    /// Starts to build an outlet to the stream of this name.
    ///
    /// `urls` are one or more servers of a cluster, separated by commas: `nats://host:4222`, or `tls://host:4222`,
    /// which insists on TLS, also with the other servers and with those that a server announces. They may contain a
    /// user and a password (`nats://user:password@host:4222`) or a token (`nats://token@host:4222`), percent-encoded:
    /// those of the first URL are used for all servers.
    pub fn builder(urls: &str, stream: &str) -> JetStreamOutletBuilder {
        JetStreamOutletBuilder {
            urls: urls.to_owned(),
            stream: stream.to_owned(),
            prefix: DEFAULT_PREFIX.to_owned(),
            credentials_file: None,
            root_certificates: None,
            object_store: None,
            min_replicas: DEFAULT_REPLICAS,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The connection. Made by the first call that succeeds.
    async fn connection(&self) -> Result<&Connection, OutletError> {
        self.0.connection.get_or_try_init(|| self.0.connect()).await
    }

    async fn publish(&self, event: CloudEvent) -> Result<(), HandlerError> {
        let Inner { stream, prefix, .. } = &*self.0;
        let connection = self.connection().await?;
        let Connection { client, jetstream, .. } = connection;
        let mut headers = HeaderMap::new();
        for (name, value) in event.headers() {
            headers.insert(name, value);
        }
        headers.insert(NATS_EXPECTED_STREAM, stream.as_str());
        // Insert if new: only if no message of the stream has this subject.
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        let mut data = event.data.clone();
        if encoded_len(&headers) + data.len() > client.max_payload().min(connection.max_message_size) {
            headers.insert("ce-dataref", connection.store(&event).await?);
            data = Bytes::new();
        }
        let header_bytes = encoded_len(&headers);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(HandlerError::retry(format!(
                "the attributes take {header_bytes} bytes as headers; JetStream stores {MAX_HEADER_BYTES} at most"
            )));
        }
        let subject = format!("{prefix}.{}.{}", event_token(&event.event_type), event.id);
        let message = PublishMessage::build().headers(headers).payload(data);
        match jetstream.send_publish(subject, message).await?.await {
            Ok(ack) if ack.stream == *stream => Ok(()),
            Ok(ack) => Err(HandlerError::retry(format!(
                "the stream {} acknowledged the event instead of {stream}: its subjects have changed",
                ack.stream
            ))),
            // Error 10071: a message of this subject is stored. While one is only on its way, the error is 10164, and
            // whether it will be stored is not known.
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(()),
            Err(error) => Err(HandlerError::retry(error)),
        }
    }
}

impl Inner {
    /// Connects, and checks the stream and the object store.
    async fn connect(&self) -> Result<Connection, OutletError> {
        let client = self.options.clone().connect(self.servers.clone()).await.map_err(|error| {
            OutletError::new(OutletErrorKind::Unavailable, "the servers cannot be connected to", error)
        })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(self.timeout);

        let (kind, what) = (OutletErrorKind::Stream, "the stream does not fit");
        let stream = jetstream
            .get_stream(&self.stream)
            .await
            .map_err(|error| OutletError::new(kind, "the stream cannot be used", error))?;
        let config = &stream.cached_info().config;
        check(config, self.min_replicas).map_err(|why| OutletError::new(kind, what, why))?;
        let subject = format!("{}.{OTHER_EVENT}.0", self.prefix);
        if !jetstream.stream_by_subject(subject).await.is_ok_and(|name| name == self.stream) {
            let why = format!("its subjects do not include {}.>", self.prefix);
            return Err(OutletError::new(kind, what, why));
        }
        let mut objects = None;
        if let Some(bucket) = &self.bucket {
            let (kind, what) = (OutletErrorKind::ObjectStore, "the object store cannot be used");
            let backing = jetstream.get_stream(format!("OBJ_{bucket}")).await;
            let backing = backing.map_err(|error| OutletError::new(kind, what, error))?;
            check(&backing.cached_info().config, self.min_replicas)
                .and_then(|()| check_outlives(&backing.cached_info().config, config))
                .map_err(|why| OutletError::new(kind, "the object store does not fit", why))?;
            let store = jetstream.get_object_store(bucket).await;
            objects = Some((bucket.clone(), store.map_err(|error| OutletError::new(kind, what, error))?));
        }
        // Zero or less: no limit of its own.
        let max_message_size = match config.max_message_size {
            bytes @ 1.. => bytes as usize,
            _ => usize::MAX,
        };
        Ok(Connection { client, jetstream, max_message_size, objects })
    }
}

impl Connection {
    /// Stores the body as an object, unless that was done before, and returns the reference to it.
    async fn store(&self, event: &CloudEvent) -> Result<String, HandlerError> {
        let Some((bucket, objects)) = &self.objects else {
            return Err(HandlerError::retry(format!(
                "the event has {} bytes, which is more than max_payload of the server or max_msg_size of the stream: object_store names a bucket for such",
                event.data.len()
            )));
        };
        match objects.info(&event.id).await {
            // An object that an earlier attempt stored long ago may be deleted before its event.
            Ok(info) if !info.deleted && info.modified.is_some_and(|at| is_recent(at.unix_timestamp())) => {}
            Err(error) if error.kind() != InfoErrorKind::NotFound => return Err(HandlerError::retry(error)),
            _ => {
                let chunk_size = Some(self.client.max_payload().min(MAX_CHUNK_BYTES));
                let metadata = ObjectMetadata { name: event.id.clone(), chunk_size, ..Default::default() };
                objects.put(metadata, &mut event.data.as_ref()).await?;
            }
        }
        Ok(format!("objectstore:{bucket}/{}", event.id))
    }
}

impl Handler for JetStreamOutlet {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let published = self.publish(CloudEvent::from(&delivery));
        timeout(self.0.timeout, published)
            .await
            .unwrap_or_else(|_| Err(HandlerError::retry("the stream did not acknowledge the event in time")))
    }
}

impl fmt::Debug for JetStreamOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamOutlet").field("stream", &self.0.stream).finish_non_exhaustive()
    }
}

/// Builds a [`JetStreamOutlet`]; [`JetStreamOutlet::builder`] starts it.
#[must_use]
pub struct JetStreamOutletBuilder {
    urls: String,
    stream: String,
    prefix: String,
    credentials_file: Option<PathBuf>,
    root_certificates: Option<Vec<u8>>,
    object_store: Option<String>,
    min_replicas: usize,
    timeout: Duration,
}

impl JetStreamOutletBuilder {
    /// First part of each message's subject. Defaults to `smartshape`. The stream's subjects must include
    /// `<prefix>.>`.
    pub fn subject_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Authenticates with a credentials file (`.creds`), with a JWT and the seed of its key.
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials_file = Some(path.into());
        self
    }

    /// Trusts these certificates too, in PEM form, beside those of the system. For servers with a certificate of an own
    /// authority.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Name of an existing object store (bucket) for bodies above the server's `max_payload`. Without it they fail.
    pub fn object_store(mut self, bucket: &str) -> Self {
        self.object_store = Some(bucket.to_owned());
        self
    }

    /// Minimum number of replicas of the stream and of the object store. Defaults to 3: one server of a cluster can
    /// then fail without losing an acknowledged event.
    ///
    /// A single server (1) acknowledges before it syncs to disk, unless `sync_interval: always` is set there, which a
    /// client cannot see.
    pub fn min_replicas(mut self, replicas: usize) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// Maximum time to open the outlet, and maximum time for an attempt, from publishing to the acknowledgement.
    /// Defaults to 30 seconds.
    ///
    /// Keep it below the lease of the inbox's worker, or below the time that SmartShape waits for an endpoint.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects and checks that the stream and the object store keep what they acknowledge: storage in files, enough
    /// replicas, no deletion of old events when they are full (discard policy new), nor before a day has passed
    /// (`max_age`), nor when consumers have acknowledged them (retention policy limits). Creates and changes neither.
    ///
    /// The user needs permission to publish to `<prefix>.>`, `$JS.API.STREAM.INFO.<stream>` and `$JS.API.STREAM.NAMES`.
    ///
    /// # Errors
    ///
    /// [`OutletError`] if a setting is invalid, no server can be connected to, or the stream or the object store is
    /// missing or does not fit.
    pub async fn open(self) -> Result<JetStreamOutlet, OutletError> {
        let outlet = self.open_lazy()?;
        let limit = outlet.0.timeout;
        let connected = timeout(limit, outlet.connection()).await;
        connected.map_err(|_| {
            let why = format!("no response within {limit:?}");
            OutletError::new(OutletErrorKind::Unavailable, "the servers cannot be used", why)
        })??;
        Ok(outlet)
    }

    /// Returns at once: the first delivery connects and checks, as [`open`](Self::open) does. Until that has succeeded,
    /// every attempt fails with the reason. For a service that accepts deliveries while the servers are down.
    ///
    /// ```
    /// use smartshape_webhook_outlet::JetStreamOutlet;
    ///
    /// assert!(JetStreamOutlet::builder("nats://127.0.0.1:1", "EVENTS").open_lazy().is_ok());
    /// assert!(JetStreamOutlet::builder("nats://", "EVENTS").open_lazy().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutletError`] if a setting is invalid or the credentials file cannot be read.
    pub fn open_lazy(self) -> Result<JetStreamOutlet, OutletError> {
        if !self.prefix.split('.').all(is_token) {
            let why = "it is not letters, digits, - and _, in parts separated by dots";
            let what = "the subject prefix is invalid";
            return Err(OutletError::new(OutletErrorKind::SubjectPrefix, what, why));
        }
        let is_name = |character: char| !character.is_whitespace() && !".*>/\\".contains(character);
        if self.stream.is_empty() || !self.stream.chars().all(is_name) {
            let why = "JetStream permits none of . * > / \\ and no space";
            let what = "the name of the stream is invalid";
            return Err(OutletError::new(OutletErrorKind::StreamName, what, why));
        }
        let (servers, mut options) = servers(&self.urls)?;
        if let Some(path) = &self.credentials_file {
            let (kind, what) = (OutletErrorKind::CredentialsFile, "the credentials file cannot be used");
            let unusable = |error| OutletError::new(kind, what, error);
            let text = std::fs::read_to_string(path).map_err(unusable)?;
            options = options.credentials(&text).map_err(unusable)?;
        }
        let options = options
            .name("smartshape-webhook-outlet")
            .tls_client_config(client_config(self.root_certificates.as_deref())?);
        Ok(JetStreamOutlet(Arc::new(Inner {
            servers,
            options,
            stream: self.stream,
            prefix: self.prefix,
            timeout: self.timeout,
            bucket: self.object_store,
            min_replicas: self.min_replicas,
            connection: OnceCell::new(),
        })))
    }
}

impl fmt::Debug for JetStreamOutletBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamOutletBuilder").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The servers without credentials, and options with them and with what `tls://` means: the client would not use a
/// URL's for servers that it learns of.
fn servers(urls: &str) -> Result<(Vec<ServerAddr>, ConnectOptions), OutletError> {
    let invalid = |why: &str| OutletError::new(OutletErrorKind::Url, "the URL is invalid", why);
    let mut servers = Vec::new();
    let mut options = ConnectOptions::new();
    for text in urls.split(',') {
        let mut url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "nats" | "tls") {
            return Err(invalid("it begins with neither nats:// nor tls://"));
        }
        if url.scheme() == "tls" {
            options = options.require_tls(true);
        }
        if url.host_str().is_none_or(str::is_empty) || !matches!(url.path(), "" | "/") {
            return Err(invalid("it is not a host and a port"));
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if servers.is_empty() && !url.username().is_empty() {
            let user = decode(url.username());
            options = match url.password() {
                Some(password) => options.user_and_password(user, decode(password)),
                None => options.token(user),
            };
        }
        let removed = url.set_username("").and_then(|()| url.set_password(None));
        removed.map_err(|()| invalid("it is not a host and a port"))?;
        let server = url.as_str().parse();
        servers.push(server.map_err(|error: std::io::Error| invalid(&error.to_string()))?);
    }
    Ok((servers, options))
}

/// Why a stream would lose or repeat what it acknowledges.
fn check(config: &Config, min_replicas: usize) -> Result<(), String> {
    let why = if config.storage != StorageType::File {
        "it is in memory, so a restart would lose acknowledged events: create it with storage in files"
    } else if config.num_replicas < min_replicas {
        return Err(format!(
            "its number of replicas is {}, below {min_replicas}: raise it, or lower min_replicas",
            config.num_replicas
        ));
    } else if config.discard != DiscardPolicy::New {
        "full, it would drop its oldest events: set its discard policy to new"
    } else if config.retention != RetentionPolicy::Limits {
        "it deletes what its consumers have acknowledged, so a repetition would be stored again: create it with the \
         retention policy limits"
    } else if config.max_age != Duration::ZERO && config.max_age < MIN_MAX_AGE {
        "it deletes events within a day, so a repetition would be stored again: raise its max_age"
    } else if config.no_ack {
        "it does not acknowledge messages: turn its no_ack off"
    } else if config.sealed || config.mirror.is_some() {
        "nothing can be published to it: it is sealed or a mirror"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

/// Why objects may be deleted before the events that refer to them.
fn check_outlives(objects: &Config, events: &Config) -> Result<(), String> {
    let outlives = objects.max_age.is_zero()
        || (!events.max_age.is_zero() && objects.max_age >= events.max_age + MIN_MAX_AGE);
    let why = "it deletes objects before their events: raise its max_age to a day more than the stream's, or to no limit";
    if outlives { Ok(()) } else { Err(why.to_owned()) }
}

/// Whether it was within half of the day by which objects outlive events.
fn is_recent(seconds: i64) -> bool {
    (Timestamp::now().as_second() - seconds).unsigned_abs() < MIN_MAX_AGE.as_secs() / 2
}

fn event_token(event: &str) -> &str {
    if event.len() <= MAX_EVENT_TOKEN && is_token(event) { event } else { OTHER_EVENT }
}

/// Whether a text can be a part of a subject, without a character that means something there.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Bytes of the headers in a message.
fn encoded_len(headers: &HeaderMap) -> usize {
    let version_and_end = "NATS/1.0\r\n\r\n".len();
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| name.len() + ": \r\n".len() + value.as_str().len())
    });
    version_and_end + lines.sum::<usize>()
}
