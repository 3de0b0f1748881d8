//! `smartshape check`.

use axum::Router;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use smartshape_webhook::EventKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::event::{receiver, serve};
use crate::faulty_endpoints::{self, Fault};
use crate::support::{Home, RunResult, SECRET, run, unused_url};

const NO_TOKEN: &str = "rejects a request without a token";
const EMPTY: &str = "rejects an empty token";
const MALFORMED: &str = "rejects malformed tokens";
const FOREIGN: &str = "rejects a token of another secret";
const CHANGED: &str = "rejects a token with a character changed";
const OF_NOTHING: &str = "rejects tokens of no secret";
const TWO_TOKENS: &str = "rejects two different tokens";
const METHODS: &str = "rejects other methods than POST";
const BEFORE_THE_BODY: &str = "rejects a bad token before the body comes";
const COSTLY: &str = "rejects costly tokens without hashing them";
const NO_EVENT: &str = "rejects what is no event, and lives on";
const NOT_JSON: &str = "rejects what is not JSON, and lives on";

async fn checked(url: &str, arguments: &[&str]) -> RunResult {
    let home = Home::new();
    let all = [&["--json", "check", url, "--cost", "4"], arguments].concat();
    run(home.program(&all).env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)).await
}

/// The cases of this result.
fn cases<'a>(lines: &'a [Value], result: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line["result"] == result).map(|line| line["case"].as_str().unwrap()).collect()
}

async fn finds_with(fault: Fault, arguments: &[&str], fails: &[&str], warns: &[&str]) -> Vec<Value> {
    let ran = checked(&faulty_endpoints::serve(fault).await, arguments).await;
    let lines = ran.lines();
    assert_eq!((&*cases(&lines, "fail"), &*cases(&lines, "warn")), (fails, warns), "{ran:?}");
    assert_eq!(ran.code, Some(i32::from(!fails.is_empty())), "{ran:?}");
    lines
}

/// One test for each fault: these cases fail, these warn, and all others pass.
macro_rules! faults {
    ($($name:ident: $fault:expr => fails $fails:expr, warns $warns:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            finds_with($fault, &["--timeout", "60"], &$fails, &$warns).await;
        }
    )*};
}

faults! {
    nothing_is_found_where_nothing_is_wrong: Fault::None => fails [], warns [];
    believes_requests_without_token: Fault::BelievesNoToken => fails [NO_TOKEN], warns [];
    believes_an_empty_token: Fault::BelievesEmptyToken => fails [EMPTY], warns [];
    believes_any_token: Fault::BelievesAnyToken => fails [FOREIGN, CHANGED, OF_NOTHING], warns [];
    remembers_tokens_by_their_start: Fault::RemembersTokensByTheirStart => fails [CHANGED], warns [];
    believes_the_empty_secret: Fault::BelievesTheEmptySecret => fails [OF_NOTHING], warns [];
    believes_the_first_of_two_tokens: Fault::BelievesTheFirstOfTwoTokens => fails [], warns [TWO_TOKENS];
    believes_any_method: Fault::BelievesAnyMethod => fails [METHODS], warns [];
    closes_instead_of_rejecting: Fault::ClosesOnRejection =>
        fails [NO_TOKEN, EMPTY, MALFORMED, FOREIGN, CHANGED, OF_NOTHING, COSTLY],
        warns [TWO_TOKENS, BEFORE_THE_BODY];
    says_ok_to_the_wrong_token: Fault::SaysOkToTheWrongToken =>
        fails [EMPTY, MALFORMED, FOREIGN, CHANGED, OF_NOTHING], warns [TWO_TOKENS, BEFORE_THE_BODY];
    fails_without_a_token: Fault::FailsWithoutAToken => fails [], warns [NO_TOKEN];
    rejects_prefix_2a: Fault::Rejects2a => fails ["accepts a token of prefix 2a"], warns [];
    rejects_prefix_2y: Fault::Rejects2y => fails [], warns ["accepts a token of prefix 2y"];
    rejects_cost_12: Fault::RejectsCost12 => fails ["accepts a token of cost 12"], warns [];
    rejects_one_event: Fault::RejectsOneEvent => fails ["accepts annotation_updated"], warns [];
    fails_on_unknown_events: Fault::FailsOnUnknownEvents => fails ["accepts an event of unknown name"], warns [];
    rejects_new_fields: Fault::RejectsNewFields => fails ["accepts new fields"], warns [];
    wants_an_exact_content_type: Fault::WantsExactContentType =>
        fails ["accepts a content type with charset"], warns [];
    rejects_chunks: Fault::RejectsChunks => fails ["accepts a body in chunks"], warns [];
    limits_the_body: Fault::LimitsTheBody => fails ["accepts a body of 1 MB"], warns [];
    rejects_what_is_not_ascii: Fault::RejectsNonAscii => fails ["accepts text that is not ASCII"], warns [];
    rejects_objects_as_values: Fault::RejectsObjectsAsValues =>
        fails [], warns ["accepts attribute values of newer form"];
    rejects_old_events: Fault::RejectsOldEvents => fails [],
        warns ["accepts runTimestamp in seconds or as text", "accepts an event of three days ago"];
    fails_on_duplicates: Fault::FailsOnDuplicates =>
        fails ["accepts an event again", "accepts an event twice at once"], warns [];
    believes_anything: Fault::BelievesAnything => fails [NOT_JSON], warns [NO_EVENT];
    closes_each_connection: Fault::ClosesEachConnection => fails [], warns ["keeps the connection"];
}

#[tokio::test]
async fn check_finds_hanging_instead_of_rejecting() {
    // Each of these cases waits for the whole of it.
    let arguments = ["--only", "rejects", "--timeout", "3"];
    let fails = [NO_TOKEN, EMPTY, MALFORMED, FOREIGN, CHANGED, OF_NOTHING, COSTLY];
    let lines = finds_with(Fault::HangsOnRejection, &arguments, &fails, &[TWO_TOKENS, BEFORE_THE_BODY]).await;
    assert_eq!(lines[0]["seen"][0], "no response within 3000 ms");
    assert!(lines[0]["why"][0].as_str().unwrap().contains("waits for nothing"), "{}", lines[0]);
}

#[tokio::test]
async fn check_finds_hashing_of_cost_14() {
    let lines = finds_with(Fault::HashesCost14, &["--timeout", "60"], &[COSTLY], &[]).await;
    let costly = lines.iter().find(|line| line["case"] == COSTLY).unwrap();
    // It may have a bound above that.
    assert!(costly["why"][0].as_str().unwrap().contains("--destructive shows which"), "{costly}");
}

#[tokio::test]
async fn check_finds_reading_the_body_first() {
    let arguments = ["--only", "token", "--timeout", "10"];
    finds_with(Fault::ReadsTheBodyFirst, &arguments, &[], &[BEFORE_THE_BODY]).await;
}

#[tokio::test]
async fn check_finds_crashing_on_broken_json() {
    let lines =
        finds_with(Fault::DiesOfBrokenJson, &["--destructive", "--timeout", "60"], &[NOT_JSON], &[]).await;
    let skipped: Vec<_> = lines.iter().filter(|line| line["result"] == "skipped").collect();
    assert_eq!(skipped.len(), 6);
    assert!(skipped[0]["reason"].as_str().unwrap().contains("gone"), "{skipped:?}");
}

#[tokio::test]
async fn check_finds_responses_that_smartshape_does_not_accept() {
    for (fault, seen) in
        [(Fault::Status202, "the status is 202"), (Fault::TextPlain, "the content type is text/plain")]
    {
        let arguments = ["--timeout", "60", "--only", "_"];
        let ran = checked(&faulty_endpoints::serve(fault).await, &arguments).await;
        let lines = ran.lines();
        assert_eq!((ran.code, lines.len()), (Some(1), EventKind::ALL.len()), "{ran:?}");
        for line in lines {
            assert_eq!(line["result"], "fail", "{line}");
            assert!(line["seen"].to_string().contains(seen), "{line}");
            assert_eq!(line["why"].as_array().unwrap().len(), 1, "{line}");
        }
        assert_eq!(ran.err, "", "neither the secret nor the path is wrong");
    }
}

#[tokio::test]
async fn check_asks_about_path_and_secret_where_all_is_turned_away() {
    let (url, _) = receiver().await;
    for (url, secret) in [(url.as_str(), "another secret of mine"), (&format!("{url}/elsewhere"), SECRET)] {
        let ran = checked(url, &["--secret", secret, "--timeout", "60", "--only", "_"]).await;
        let ran = ran.assert_exits(1, "no signed event was accepted: are the URL's path and");
        assert!(ran.err.contains("--event") && ran.err.contains("--owner"), "{ran:?}");
    }
}

#[tokio::test]
async fn check_passes_for_this_projects_receiver() {
    let (url, received) = receiver().await;
    let ran = checked(&url, &["--destructive", "--timeout", "60"]).await.assert_ok();
    let lines = ran.lines();
    assert_eq!(cases(&lines, "pass").len(), lines.len(), "{ran:?}");
    // What it handled says that it was a test.
    let received = received.lock().unwrap();
    let (read, deep): (Vec<_>, Vec<_>) = received.iter().partition(|event| event.is_object());
    // A case that had the uuid of another one would be acknowledged without being handled.
    assert_eq!((read.len(), deep.len()), (49, 1));
    assert!(read.iter().all(|event| event["file"] == "7e577e577e577e577e577e57"));
    let owners = read.iter().filter(|event| event["owner"] == "smartshape-check@example.com").count();
    assert_eq!(owners, read.len() - 2, "all but those of which it is the point");
}

#[tokio::test]
async fn check_prints_a_table() {
    let home = Home::new();
    let believes_all =
        || async { ([(CONTENT_TYPE, "application/json")], r#"{"success": true}"#).into_response() };
    let url = serve(Router::new().fallback(believes_all)).await;
    let arguments =
        ["check", &url, "--cost", "4", "--secret", SECRET, "--only", "of another", "--timeout", "60"];
    let ran = home.run(&arguments).await;
    let expected = "\
CASE                               RESULT
accepts a uuid of another form     pass
rejects a token of another secret  FAIL
    seen: it was accepted
    why it matters: whoever knows the URL can forge events

2 cases: 1 passed, 1 failed, 0 warned, 0 skipped
";
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), expected), "{ran:?}");
}

#[tokio::test]
async fn check_sends_only_the_registered_events() {
    let (url, received) = receiver().await;
    let arguments = ["--event", "file_optimized", "--file", "5c6f", "--only", "accepts", "--timeout", "60"];
    let arguments = [&arguments[..], &["--owner", "ada@example.com"]].concat();
    let lines = checked(&url, &arguments).await.assert_ok().lines();
    let other = lines.iter().find(|line| line["case"] == "accepts annotation_created").unwrap();
    assert_eq!(other["reason"], "not one of the events of --event");
    assert!(cases(&lines, "skipped").contains(&"accepts an event of unknown name"), "{lines:?}");
    let received = received.lock().unwrap();
    assert!(received.iter().all(|event| event["event"] == "file_optimized" && event["file"] == "5c6f"));
    let owners = received.iter().filter(|event| event["owner"] == "ada@example.com").count();
    assert_eq!(owners, received.len() - 2, "all but those of which it is the point");
}

#[tokio::test]
async fn check_sends_the_header_in_both_cases() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    let heads = tokio::spawn(async move {
        let mut heads = Vec::new();
        while heads.len() < 2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // The program first sees whether anybody is there.
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let response = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n\
                          {\"success\":true}";
            if !request.is_empty() {
                stream.write_all(response.as_bytes()).await.unwrap();
                heads.push(String::from_utf8(request).unwrap());
            }
        }
        heads
    });
    checked(&url, &["--only", "file_uploaded", "--timeout", "60"]).await.assert_ok();
    checked(&url, &["--only", "whatever its case", "--timeout", "60"]).await.assert_ok();
    let heads = heads.await.unwrap();
    assert!(heads[0].contains("\r\nx-smartshape-token: $2b$04$"), "{heads:?}");
    assert!(heads[1].contains("\r\nX-Smartshape-Token: $2b$04$"), "{heads:?}");
    let is_marked = |head: &String| head.to_lowercase().contains("\r\nx-smartshape-fake: 1\r\n");
    assert!(heads.iter().all(is_marked), "{heads:?}");
}

#[tokio::test]
async fn check_rejects_invalid_settings_before_any_case() {
    let home = Home::new();
    let (_socket, unused) = unused_url();
    let check =
        async |arguments: &[&str]| home.run(&[&["check", "--secret", SECRET], arguments].concat()).await;
    check(&[&unused]).await.assert_fails(2, "does the endpoint run there?");
    check(&["nonsense"]).await.assert_fails(2, "absolute URL");
    check(&[&unused, "--only", "nothing of the kind"]).await.assert_fails(2, "no case's name contains");
    check(&[&unused, "--event", "file_deleted"]).await.assert_fails(2, "configuration_removed");
    home.run(&["check", &unused]).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
}
