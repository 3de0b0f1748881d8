//! Several secrets, and secrets that change.

use conformance::harness::{Harness, SECRET, assert_rejected, assert_success, event, good_token, new_token};
use smartshape_webhook::{EventKind, NamedSecret, Secret};

fn named(name: &str, plain: &str) -> NamedSecret {
    NamedSecret::new(name, Secret::new(plain).unwrap())
}

pub(crate) async fn rotation(harness: Harness) {
    let server = harness.start().await;
    let next = new_token("the next secret of the table");
    assert_success(&server.deliver_with(good_token(), "1").await);
    assert_rejected(&server.deliver_with(&next, "2").await, 401, "unauthorized");

    let (old, new) = (named("old", SECRET), named("new", "the next secret of the table"));
    server.receiver.replace_secrets(vec![old, new.clone()]).unwrap();
    assert_success(&server.deliver_with(&next, "3").await);
    assert_success(&server.deliver_with(good_token(), "4").await);

    server.receiver.replace_secrets(vec![new]).unwrap();
    assert_rejected(&server.deliver_with(good_token(), "5").await, 401, "unauthorized");
    assert_success(&server.deliver_with(&next, "6").await);
    assert!(server.receiver.replace_secrets(Vec::new()).is_err());
    assert_success(&server.deliver_with(&next, "7").await);
}

pub(crate) async fn scope(harness: Harness) {
    let annotations =
        named("annotations", "the secret for annotations").scoped_to([EventKind::AnnotationCreated]);
    let server = harness.start_with(|builder| builder.named_secret(annotations)).await;
    let token = new_token("the secret for annotations");
    assert_rejected(&server.deliver_with(&token, "1").await, 401, "unauthorized");
    let unknown = event("2").replace("file_uploaded", "file_deleted");
    assert_rejected(&server.exchange(server.delivery_with(&token, &unknown)).await, 401, "unauthorized");
    assert_eq!(server.script.seen(), []);
    let annotation = event("1").replace("file_uploaded", "annotation_created");
    assert_success(&server.exchange(server.delivery_with(&token, &annotation)).await);
    assert_success(&server.deliver(&event("1")).await);
}

pub(crate) async fn names(harness: Harness) {
    use conformance::target::Target;
    if harness.target == Target::AxumPlain {
        return; // A plain handler sees nothing but the body.
    }
    let server =
        harness.start_with(|builder| builder.named_secret(named("second", "the second secret"))).await;
    assert_success(&server.deliver(&event("1")).await);
    assert_success(&server.deliver_with(&new_token("the second secret"), "2").await);
    let names: Vec<_> = server.script.seen().into_iter().map(|seen| seen.secret.unwrap()).collect();
    assert_eq!(names, ["default", "second"]);
}
