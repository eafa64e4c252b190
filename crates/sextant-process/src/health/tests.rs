use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use super::*;

async fn ask(health: &Arc<Health>, path: &str) -> (u16, String) {
    let (status, body) = answer(pages::router(health.clone()), Method::GET, path).await;
    (status.as_u16(), body)
}

async fn answer(router: Router, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn ready_when_nothing_is_against_it() {
    let health = Health::waiting_for(&["server", "isolation"]);
    assert_eq!(ask(&health, "/healthz").await.0, 200);
    health.ready("server");
    let (status, text) = ask(&health, "/readyz").await;
    assert_eq!((status, text.as_str()), (503, "isolation: has not started yet\n"));
    health.ready("isolation");
    assert_eq!(ask(&health, "/readyz").await, (200, "ready\n".into()));
    health.unready("isolation", "the API server can be reached");
    assert_eq!(ask(&health, "/readyz").await, (503, "isolation: the API server can be reached\n".into()));
    assert_eq!(ask(&health, "/").await.0, 404);
}

#[tokio::test]
async fn metrics_tell_what_is_ready() {
    let health = Health::waiting_for(&["server"]);
    let (status, text) = ask(&health, "/metrics").await;
    assert_eq!(status, 200);
    for line in ["sextant_ready 0", "sextant_part_ready{part=\"server\"} 0", "process_resident_memory_bytes "] {
        assert!(text.contains(line), "{text}");
    }
    health.ready("server");
    let text = ask(&health, "/metrics").await.1;
    assert!(text.contains("sextant_ready 1") && text.contains("sextant_part_ready{part=\"server\"} 1"), "{text}");
}

#[tokio::test]
async fn only_reading_is_possible() {
    let health = Health::waiting_for(&[]);
    for (method, path, status) in [
        (Method::HEAD, "/readyz", 200),
        (Method::POST, "/readyz", 404),
        (Method::DELETE, "/metrics", 404),
        (Method::GET, "/healthz/", 404),
        (Method::OPTIONS, "*", 404),
    ] {
        let (answered, body) = answer(pages::router(health.clone()), method.clone(), path).await;
        assert_eq!(answered.as_u16(), status, "{method} {path}");
        assert!(status == 200 || body.contains("/metrics"), "{body}");
    }
}

#[tokio::test]
async fn answers_over_the_network() {
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    assert!(listen(address).unwrap_err().contains("`health.listen`"));
    let server = tokio::spawn(serve(listener, Health::waiting_for(&[])));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/readyz").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    server.abort();
}
