//! `smartshape check`.

use axum::Router;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use crate::event::{receiver, serve};
use crate::support::{Home, SECRET, ran};

#[tokio::test]
async fn an_endpoint_of_this_project_passes() {
    let (home, (url, received)) = (Home::new(), receiver().await);
    let mut program =
        home.program(&["check", &url, "--cost", "4", "--timeout", "60", "--event", "file_optimized"]);
    let checked = ran(program.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)).await.succeeds();
    assert_eq!(checked.out.lines().filter(|line| line.ends_with("  ok")).count(), 4, "{checked:?}");
    // The handler saw it once.
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn each_fault_of_others_is_named() {
    let home = Home::new();
    let believes_all =
        || async { ([(CONTENT_TYPE, "application/json")], r#"{"success": true}"#).into_response() };
    let url = serve(Router::new().fallback(believes_all)).await;
    let checked = home.run(&["check", &url, "--cost", "4", "--secret", SECRET]).await;
    assert_eq!((checked.code, checked.out.matches("anybody can forge").count()), (Some(1), 2), "{checked:?}");

    let fails = || async { http::StatusCode::INTERNAL_SERVER_ERROR };
    let url = serve(Router::new().fallback(fails)).await;
    let checked = home.run(&["--json", "check", &url, "--cost", "4", "--secret", SECRET]).await;
    assert_eq!((checked.code, checked.out.matches(r#""ok":false"#).count()), (Some(1), 4), "{checked:?}");
    home.run(&["check", "nonsense", "--secret", SECRET]).await.fails(2, "absolute URL");
}
