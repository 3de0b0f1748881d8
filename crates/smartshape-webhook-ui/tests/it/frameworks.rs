//! The console on actix-web and warp.

use bytes::Bytes;
use http::Request;
use smartshape_webhook_ui::Visitor;

use crate::{Fixture, OWN};

#[actix_web::test]
async fn console_is_a_route_of_actix_and_a_filter_of_warp() {
    use tower::ServiceExt as _;
    use warp::Filter as _;

    let fixture = Fixture::new().await;
    fixture.store(1, "f", "{}").await;
    let ui = fixture.ui(Visitor::owner("o"));
    let app = actix_web::App::new().route("/ops/inbox", smartshape_webhook_ui::actix::console(ui.clone()));
    let app = actix_web::test::init_service(app).await;
    let warp = warp::service(warp::path!("ops" / "inbox").and(smartshape_webhook_ui::warp::console(ui)));
    for (method, query, headers, form, expected) in [
        ("GET", "", &[][..], "", 200),
        ("GET", "?view=events", &[], "", 200),
        ("GET", "?asset=ui.css", &[], "", 200),
        ("DELETE", "", &[], "", 405),
        ("POST", "", &[], "do=pause&back=?", 403),
        ("POST", "", OWN, "do=pause&back=?", 303),
        ("POST", "", OWN, "do=resume&back=?", 303),
    ] {
        let uri = format!("/ops/inbox{query}");
        let mut request = actix_web::test::TestRequest::with_uri(&uri).set_payload(form);
        request = request.method(method.parse().unwrap());
        let mut other = Request::builder().method(method).uri(&uri).header("content-length", form.len());
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
            other = other.header(*name, *value);
        }
        let response = actix_web::test::call_service(&app, request.to_request()).await;
        assert_eq!(response.status().as_u16(), expected, "actix: {method} {query} {form}");
        assert!(response.headers().contains_key("content-security-policy"));
        let response = warp.clone().oneshot(other.body(form.to_owned()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "warp: {method} {query} {form}");
        assert!(response.headers().contains_key("content-security-policy"));
    }
}

#[actix_web::test]
async fn body_is_read_only_of_visitors_who_may_send_one() {
    use actix_web::dev::Payload;
    use futures_util::stream::pending;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::ServiceExt as _;

    let fixture = Fixture::new().await;
    let request = |headers: &[(&str, &str)]| {
        let request = Request::post("/").header("content-length", 1_000_000);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        // It never arrives.
        request.body(StreamBody::new(pending::<Result<Frame<Bytes>, std::io::Error>>())).unwrap()
    };
    for (visitor, headers, expected) in
        [(Visitor::nobody(), OWN, 401), (Visitor::owner("o"), &[("sec-fetch-site", "cross-site")][..], 403)]
    {
        let ui = fixture.ui(visitor);
        assert_eq!(ui.clone().oneshot(request(headers)).await.unwrap().status(), expected);
        let warp = warp::service(smartshape_webhook_ui::warp::console(ui.clone()));
        assert_eq!(warp.oneshot(request(headers)).await.unwrap().status().as_u16(), expected);
        let app = actix_web::App::new().route("/", smartshape_webhook_ui::actix::console(ui));
        let app = actix_web::test::init_service(app).await;
        let mut post = actix_web::test::TestRequest::post();
        for header in headers {
            post = post.insert_header(*header);
        }
        let mut post = post.to_request();
        *post.payload() = Payload::Stream { payload: Box::pin(pending()) };
        assert_eq!(actix_web::test::call_service(&app, post).await.status().as_u16(), expected);
    }
}
