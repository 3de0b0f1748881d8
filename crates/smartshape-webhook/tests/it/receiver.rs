//! The receive path without a framework.

use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{
    BoxHandler, ConfigError, Delivery, EventRouter, FileOptimized, FileUploaded, Handler, HandlerError,
    NamedSecret, Receiver, ReceiverBuilder, RejectionKind, RequestHead, Secret, TOKEN_HEADER,
};

use crate::common::{
    SECRET, TOKEN, body_stream, builder, claim, event, head, serve, succeed, token_of, uploaded,
};
use crate::store::Store;

#[tokio::test]
async fn event_router_calls_the_right_handler() {
    let router = EventRouter::new()
        .on(|file: FileUploaded, _| async move { Err(format!("uploaded {:?}", file.name).into()) })
        .on(|_: FileOptimized, _| async { Err("optimized".into()) });
    let handler = BoxHandler::new(router.fallback(|delivery: Delivery| async move {
        Err(HandlerError::from(format!("fallback {}", delivery.event_name())))
    }));
    for (name, data, expected) in [
        ("file_uploaded", r#"{"name":"a"}"#, "uploaded Some(\"a\")"),
        ("file_optimized", "{}", "optimized"),
        ("annotation_created", "{}", "fallback annotation_created"),
        ("file_deleted", "{}", "fallback file_deleted"),
        ("file_uploaded", "[]", "fallback file_uploaded"),
    ] {
        let delivery = Delivery::for_test(event(name, data, "u")).unwrap();
        assert_eq!(handler.handle(delivery).await.unwrap_err().to_string(), expected);
    }
}

#[test]
fn invalid_settings_are_named_with_the_valid_ones() {
    let secret = |name: &str| NamedSecret::new(name, Secret::generate().unwrap());
    let many = (0..17)
        .fold(Receiver::builder(), |builder, number| builder.named_secret(secret(&number.to_string())));
    let same = NamedSecret::new("other", Secret::new(SECRET).unwrap());
    let name = |name: &str| name.to_owned();
    for (builder, expected, text) in [
        (Receiver::builder(), ConfigError::NoSecret, "a receiver needs a secret"),
        (many, ConfigError::TooManySecrets(17), "17 secrets were given, and at most 16"),
        (
            builder().named_secret(secret("default")),
            ConfigError::SameName(name("default")),
            "the name \"default\"",
        ),
        (
            builder().named_secret(same),
            ConfigError::SameSecret(name("default"), name("other")),
            "\"default\" and \"other\" are equal",
        ),
        (builder().max_cost(3), ConfigError::MaxCost(3), "max_cost is 3, and bcrypt's costs go from 4 to 31"),
        (builder().max_cost(32), ConfigError::MaxCost(32), "max_cost is 32"),
        (builder().min_cost(3), ConfigError::MinCost(3), "min_cost is 3, and must be from 4 to max_cost"),
        (builder().min_cost(8).max_cost(7), ConfigError::MinCost(8), "min_cost is 8"),
        (
            builder().max_body_bytes(2).memory_limit_bytes(1),
            ConfigError::BodyLimitOverMemory,
            "max_body_bytes is more than memory_limit_bytes",
        ),
        (
            builder().max_body_bytes(u64::MAX).memory_limit_bytes(u64::MAX),
            ConfigError::BodyLimitOverMemory,
            "max_body_bytes",
        ),
        (builder().max_in_flight(0), ConfigError::Zero("max_in_flight"), "max_in_flight must not be zero"),
        (builder().max_in_flight(1_000_001), ConfigError::MaxInFlight, "max_in_flight is above 1000000"),
        (builder().verify_threads(1001), ConfigError::TooManyThreads, "verify_threads is above 1000"),
        (
            builder().verify_timeout(Duration::ZERO),
            ConfigError::Zero("verify_timeout"),
            "verify_timeout must not be zero",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error, expected);
        assert!(error.to_string().contains(text), "{error}");
        // A `main` that returns it shows it so.
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}

#[tokio::test]
async fn timeouts_may_be_disabled() {
    let endless = |builder: ReceiverBuilder| {
        builder
            .body_idle_timeout(Duration::MAX)
            .body_timeout(Duration::MAX)
            .verify_timeout(Duration::MAX)
            .duplicate_timeout(Duration::MAX)
            .build()
            .unwrap()
    };
    let shared = Store::default();
    for receiver in [endless(builder()), endless(builder().dedup_store(shared, Duration::MAX))] {
        assert_eq!(serve(&receiver, uploaded("u"), succeed).await.status(), 200);
        assert_eq!(serve(&receiver, uploaded("u"), succeed).await.status(), 200, "a duplicate");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let named = NamedSecret::new("name", Secret::new(SECRET).unwrap());
    let builder = builder();
    let receiver = self::builder().build().unwrap();
    for shown in [format!("{named:?}"), format!("{builder:?}"), format!("{receiver:?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(shown.contains("\"name\"") || shown.contains("\"default\""), "{shown}");
    }
    assert_eq!(format!("{:?}", Secret::new(SECRET).unwrap()), "Secret(redacted)");
}

#[tokio::test]
async fn rejection_says_whether_the_token_was_verified() {
    let receiver = builder().max_body_bytes(200).max_in_flight(1).build().unwrap();
    let respond = async |head: RequestHead, body: &str, handler: BoxHandler| {
        let response = receiver.serve(&head, body_stream(body.to_owned()), Arc::new(handler)).await;
        response.rejection().map(|rejection| (rejection.kind(), rejection.token_verified()))
    };
    let (known, forged) = (|| head(&TOKEN), head(&token_of("the secret of nobody", 7)));
    let declared = [(TOKEN_HEADER, TOKEN.as_bytes()), ("content-length", b"201")];
    let declared = RequestHead::from_parts("POST", declared);
    let handler = || BoxHandler::new(succeed);
    let rejects =
        |error: fn() -> HandlerError| BoxHandler::new(move |_: Delivery| async move { Err(error()) });
    let later = || HandlerError::retry_after(Duration::from_secs(1), "later");
    let panics = BoxHandler::new(|_: Delivery| async { panic!("broken") });
    let (event, long) = (uploaded("u"), "x".repeat(201));
    let rejections = [
        (respond(forged, &event, handler()).await, RejectionKind::TokenUnmatched, false),
        (respond(head("evil"), &event, handler()).await, RejectionKind::TokenMalformed, false),
        (respond(declared, &long, handler()).await, RejectionKind::BodyTooLarge, false),
        (respond(known(), &long, handler()).await, RejectionKind::BodyTooLarge, true),
        (respond(known(), "evil", handler()).await, RejectionKind::NotJson, true),
        (respond(known(), &event, rejects(|| "no".into())).await, RejectionKind::HandlerFailed, true),
        (respond(known(), &event, rejects(later)).await, RejectionKind::HandlerUnavailable, true),
        (respond(known(), &event, panics).await, RejectionKind::HandlerFailed, true),
    ];
    for (rejection, kind, verified) in rejections {
        assert_eq!(rejection, Some((kind, verified)));
    }
    let unexpected =
        receiver.extract::<FileOptimized>(&known(), body_stream(event.clone())).await.unwrap_err();
    assert!(unexpected.rejection().unwrap().token_verified());
    let _held = claim(&receiver, event.clone()).await;
    let exhausted = respond(known(), &event, handler()).await;
    assert_eq!(exhausted, Some((RejectionKind::TooManyInFlight, true)));
    receiver.drain(Duration::ZERO).await;
    assert_eq!(respond(known(), &event, handler()).await, Some((RejectionKind::Draining, false)));
}
