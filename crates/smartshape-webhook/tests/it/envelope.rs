//! The envelope, tolerant and strict.

use serde_json::{Value, json};
use smartshape_webhook::{Envelope, EnvelopeErrorKind, Person};

fn sample() -> Value {
    json!({
        "file": "5c6f", "event": "file_uploaded", "data": {}, "owner": "test@smartshape.io",
        "runTimestamp": 1_550_824_748_604_u64, "uuid": "a36b623a-c1ed-49b5-9585-3532fe8e9881"
    })
}

/// The sample, with another value of a field.
fn sample_with(field: &str, value: impl Into<Value>) -> String {
    let mut body = sample();
    body[field] = value.into();
    body.to_string()
}

fn error(body: impl AsRef<[u8]>) -> (EnvelopeErrorKind, String) {
    let error = Envelope::parse(body.as_ref()).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn envelope_tolerates_other_forms() {
    let body = r#" {"\u0066ile": "caf\u00e9 \"x\"", "event": "file\u005fuploaded", "data": null, "more": [1],
        "owner": {"id": "5c6aeed079bf3f432d3c929e", "username": "Zoé"}, "runTimestamp": 1550824748604.0,
        "uuid": "5c6fb52c194afb281976f5e4"} "#;
    let envelope = Envelope::parse(body.as_bytes()).unwrap();
    assert_eq!((envelope.file(), envelope.event()), ("café \"x\"", "file_uploaded"));
    assert_eq!(envelope.owner().username(), Some("Zoé"));
    assert_eq!(envelope.owner_key(), "5c6aeed079bf3f432d3c929e");
    assert_eq!(envelope.uuid(), "5c6fb52c194afb281976f5e4");
    assert_eq!(envelope.run_timestamp_raw(), "1550824748604.0");
    let shown = format!("{envelope:?}");
    for text in ["café", "file_uploaded", "null", "Zoé", "1550824748604.0", "5c6fb52c194afb281976f5e4"] {
        assert!(shown.contains(text), "{shown}");
    }
    assert_eq!(envelope.triggered_at().unwrap().to_string(), "2019-02-22T08:39:08.604Z");

    for (form, expected) in [
        (json!("2019-02-22T08:39:08.604Z"), Some("2019-02-22T08:39:08.604Z")),
        (json!("1550824748604"), Some("2019-02-22T08:39:08.604Z")),
        (json!(u64::MAX), None),
        (json!(-1e300), None),
        (json!("soon"), None),
    ] {
        let body = sample_with("runTimestamp", form);
        let time = Envelope::parse(body.as_bytes()).unwrap().triggered_at().map(|time| time.to_string());
        assert_eq!(time.as_deref(), expected, "{body}");
    }
    let body = sample().to_string().replace("1550824748604", "1e400000");
    assert_eq!(Envelope::parse(body.as_bytes()).unwrap().triggered_at(), None);
    let body = sample_with("owner", "");
    assert_eq!(Envelope::parse(body.as_bytes()).unwrap().owner(), &Person::Other(String::new()));
}

#[test]
fn envelope_fields_are_mandatory() {
    for field in ["file", "event", "data", "owner", "runTimestamp", "uuid"] {
        let mut body = sample();
        body.as_object_mut().unwrap().remove(field);
        let (kind, text) = error(body.to_string());
        assert_eq!(kind, EnvelopeErrorKind::Invalid, "{field}");
        assert!(text.contains(field), "{text}");
    }
}

#[test]
fn envelope_rejects_impossible_types_and_names_the_field() {
    let lists = ["file", "event", "owner", "runTimestamp", "uuid"].map(|field| (field, json!(["private"])));
    let values = [
        ("file", json!(7)),
        ("file", json!(null)),
        ("event", json!("")),
        ("owner", json!(7)),
        ("owner", json!(7.5)),
        ("owner", json!(null)),
        ("runTimestamp", json!(null)),
        ("runTimestamp", json!(true)),
        ("runTimestamp", json!({})),
        ("uuid", json!("")),
        ("uuid", json!(7)),
    ];
    for (field, value) in values.into_iter().chain(lists) {
        let body = sample_with(field, value);
        let (kind, text) = error(&body);
        assert_eq!(kind, EnvelopeErrorKind::Invalid, "{body}");
        assert!(text.contains(&format!("`{field}`")) && !text.contains("private"), "{text}");
    }
    let doubled = sample().to_string().replacen('{', r#"{"uuid": "other","#, 1);
    assert_eq!(error(doubled).0, EnvelopeErrorKind::Invalid);
    for body in ["7", "null", "\"text\"", r#"["f", "e", {}, "o", 1, "u"]"#] {
        assert_eq!(error(body).0, EnvelopeErrorKind::Invalid, "{body}");
    }
}

#[test]
fn owner_may_have_any_form() {
    for (owner, key) in [
        (json!("Zoé"), "Zoé"),
        (json!({"_id": "a", "id": "b", "email": "c@d"}), "a"),
        (json!({"id": 7, "email": "c@d"}), "7"),
        (json!({"id": {"deep": [1]}, "email": "c@d", "username": "e"}), "c@d"),
        (json!({"id": "", "email": null, "username": "e"}), "e"),
        (json!({"login": "f"}), r#"{"login":"f"}"#),
    ] {
        let body = sample_with("owner", owner);
        assert_eq!(Envelope::parse(body.as_bytes()).unwrap().owner_key(), key, "{body}");
    }
}

#[test]
fn envelope_error_distinguishes_invalid_json() {
    let whole = sample().to_string();
    for body in [
        b"".to_vec(),
        b"{".to_vec(),
        b"letmein".to_vec(),
        b"\xff\xfe".to_vec(),
        b"[1, 2".to_vec(),
        whole.as_bytes()[..whole.len() - 1].to_vec(),
        [b" \xef\xbb\xbf".as_slice(), whole.as_bytes()].concat(),
        [whole.as_bytes(), b"\xef\xbb\xbf".as_slice()].concat(),
        whole.replace("file", "fi\nle").into_bytes(),
        [whole.as_bytes(), b"\0".as_slice()].concat(),
        [whole.as_bytes(), b"{}".as_slice()].concat(),
        whole.replace("5c6f", "\u{0}").into_bytes(),
    ] {
        assert_eq!(error(&body).0, EnvelopeErrorKind::NotJson, "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn lone_surrogate_elsewhere_is_tolerated() {
    let sent = sample().to_string();
    for extra in [
        r#""more \ud83d":1"#,
        r#""\uDE00":{"\ud83d":"\ud83d"}"#,
        r#""more":"cut \ud83d""#,
        r#""\ud83d\u0022":[]"#,
    ] {
        for body in
            [sent.replacen('{', &format!("{{{extra},"), 1), format!("{},{extra}}}", &sent[..sent.len() - 1])]
        {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!((envelope.file(), envelope.event()), ("5c6f", "file_uploaded"), "{body}");
        }
        let body = sent
            .replace(r#""test@smartshape.io""#, &format!(r#"{{{extra},"id":"5","username":"A \ud83d"}}"#));
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        assert_eq!((envelope.owner_key(), envelope.owner().username()), ("5", Some("A \u{fffd}")), "{body}");
    }
}

/// Replaced by U+FFFD, they would give two different deliveries the same key.
#[test]
fn lone_surrogate_in_an_identifying_text_stays_escaped() {
    let body = sample().to_string();
    for half in [r"a \ud83d", r"a \ud83e", r"\uDE00\n"] {
        let body = ["5c6f", "file_uploaded", "a36b623a-c1ed-49b5-9585-3532fe8e9881", "test@smartshape.io"]
            .into_iter()
            .fold(body.clone(), |body, text| body.replace(text, half));
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        assert_eq!((envelope.file(), envelope.event(), envelope.uuid()), (half, half, half));
        assert_eq!((envelope.owner().to_string().as_str(), envelope.owner_key()), (half, half));
        assert_eq!(envelope.kind(), None);
    }
}

/// The memory limit counts the body alone, and decoded texts are kept beside it.
#[test]
fn envelope_texts_have_a_maximum_length() {
    for (sent, field) in
        [("5c6f", "file"), ("file_uploaded", "event"), ("a36b623a", "uuid"), ("test@smartshape.io", "owner")]
    {
        for filling in ["x", "\\n"] {
            let body = sample().to_string();
            assert!(body.contains(sent), "{field}");
            let long = |bytes: usize| body.replacen(sent, &filling.repeat(bytes / filling.len()), 1);
            assert!(Envelope::parse(long(16_000).as_bytes()).is_ok(), "{field}");
            let (kind, error) = error(long(17_000).as_bytes());
            assert_eq!(kind, EnvelopeErrorKind::Invalid);
            assert!(error.contains(&format!("`{field}` is longer than 16384 bytes")), "{error}");
        }
    }
}
