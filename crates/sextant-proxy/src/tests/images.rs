//! Tests that a subtask has its caller's image, in all collaborations. The server only compares the ends of the names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::encrypted::{key, organizations};
use super::fake_server::Seen;
use super::*;

/// A proxy with and one without encryption, and what their servers see.
async fn both() -> [(Served, Seen); 2] {
    let (first, second) = (organizations().await, organizations().await);
    let proxies = (proxy(first.0).await, proxy_with(second.0, Cryptor::Encrypted(key(0))).await);
    [(proxies.0, first.1), (proxies.1, second.1)]
}

fn no_task_in(seen: &Seen) -> bool {
    seen.requests.lock().iter().all(|request| request.method() == "GET")
}

/// Tasks with this text before and after their organizations.
fn tasks(part: &str, input: &str) -> [String; 2] {
    let organizations = format!(r#""organizations": [{{"id": 1, "input": "{input}"}}]"#);
    [format!("{{{part}, {organizations}}}"), format!("{{{organizations}, {part}}}")]
}

#[tokio::test]
async fn a_subtask_of_another_image_does_not_leave() {
    // A small input, and one that is longer than a task that is read completely.
    for input in ["YWJj".to_owned(), STANDARD.encode(vec![7; 600_000])] {
        for (proxy, seen) in both().await {
            for (part, status) in [
                (r#""image": "evil.example/i""#, 403),
                (r#""image": "I""#, 403),
                (r#""image": "i ""#, 403),
                (r#""image": "i:latest""#, 403),
                (r#""image": "docker.io/library/i""#, 403),
                (r#""image": """#, 403),
                (r#""name": "none""#, 403),
                (r#""Image": "i""#, 403),
                (r#""databases": [{"image": "i"}]"#, 403),
                (r#""image": null"#, 403),
                (r#""image": 1"#, 403),
                (r#""image": ["i"]"#, 403),
                (r#""image": {"image": "i"}"#, 403),
                (r#""image": true"#, 403),
                (r#""image": "i", "image": "evil.example/i""#, 400),
                (r#""image": "evil.example/i", "image": "i""#, 400),
                (r#""image": "i", "image": "i""#, 400),
                (r#""image": "i", "\u0069mage": "evil.example/i""#, 400),
                (r#""\u0069mage": "evil.example/i", "image": "i""#, 400),
                (r#""\u0069mage": "i""#, 400),
                (r#""image": "i", "na\u006de": "x""#, 400),
                (r#""image": "\ud800""#, 403),
                (r#""image": "i"}, {"image": "i""#, 400),
                (r#""image": "i", "x": NaN"#, 400),
            ] {
                for task in tasks(part, &input) {
                    let got = proxy.ask("POST", "/task", task.clone()).await;
                    let says = got.json()["msg"].as_str().unwrap().to_owned();
                    assert_eq!(got.status, status, "{part}: {says}");
                    assert!(status == 400 || says.contains("image of the algorithm that creates it"), "{part}: {says}");
                }
            }
            let whole = [
                "[]",
                "\"i\"",
                "null",
                "",
                "{",
                r#"["i"]"#,
                r#"{"image": "i"} {"image": "i"}"#,
                "\u{feff}{\"image\": \"i\"}",
            ];
            for task in whole {
                let got = proxy.ask("POST", "/task", task).await;
                assert!(matches!(got.status.as_u16(), 400), "{task}: {}", got.text());
            }
            let wide: Vec<u8> = r#"{"image": "i"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
            assert_eq!(proxy.ask("POST", "/task", wide).await.status, 400);
            // Python's parser also reads UTF-16 and UTF-32. The proxy does not find the end of this text there, and must not send it.
            let long = tasks(r#""image": "evil.example/i", "description": "\u{2200}\u{7b00}\u{2200}""#, &input);
            for task in long {
                let units: Vec<u16> = task.encode_utf16().collect();
                for wide in [
                    units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>(),
                    units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
                    [0xfeff].iter().chain(&units).flat_map(|unit| unit.to_le_bytes()).collect(),
                    task.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect(),
                    task.chars().flat_map(|character| u32::from(character).to_be_bytes()).collect(),
                ] {
                    let got = proxy.ask("POST", "/task", wide).await;
                    assert!(matches!(got.status.as_u16(), 400 | 413), "{}", got.text());
                }
            }
            // The server may see the beginning of a long task, but can't process it.
            let seen = seen.requests.lock();
            assert!(seen.iter().all(|request| request.method() == "GET" || request.body().is_empty()));
            assert!(input.len() > 1000 || seen.iter().all(|request| request.method() == "GET"));
        }
    }
}

#[tokio::test]
async fn a_subtask_of_the_callers_image_leaves_as_it_is() {
    for length in [0, 100, 60_000, 70_000, 3_000_000] {
        for (proxy, seen) in both().await {
            for task in tasks(
                r#""name": "a \"b\" \u00e9 ä", "image": "\u0069", "x": [[{"image": "other"}], 1.5e300]"#,
                &STANDARD.encode(vec![7; length]),
            ) {
                for task in [task.clone(), format!(" {task}\r\n\t ")] {
                    let got = proxy.ask("POST", "/task", task.clone()).await;
                    assert_eq!(got.status, 201, "{}", got.text());
                    if !proxy.shared.cryptor.is_encrypted() {
                        assert!(seen.last().body() == &task);
                        assert_eq!(seen.last().headers()[header::CONTENT_LENGTH], task.len().to_string());
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_token_without_an_image_creates_nothing() {
    for (proxy, seen) in both().await {
        for claims in [
            ALGORITHM.replace("\"image\":\"i\",", ""),
            ALGORITHM.replace("\"image\":\"i\"", "\"image\":null"),
            ALGORITHM.replace("\"image\":\"i\"", "\"image\":[\"i\"]"),
            r#"{"client_type":"container","sub":"7"}"#.to_owned(),
        ] {
            let task = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YWJj" }] }).to_string();
            let request = Request::post("/task").header(header::AUTHORIZATION, bearer(&claims));
            let got = proxy.send(request.body(Full::new(task.into())).unwrap()).await;
            assert_eq!(got.status, 403, "{claims}: {}", got.text());
        }
        assert!(no_task_in(&seen));
    }
}

#[tokio::test]
async fn a_compressed_subtask_does_not_leave() {
    for (proxy, seen) in both().await {
        for codings in [&["gzip"][..], &["identity", "gzip"], &["identity, gzip"], &["GZIP"]] {
            let mut request = Request::post("/task").header(header::AUTHORIZATION, bearer(ALGORITHM));
            for coding in codings {
                request = request.header(header::CONTENT_ENCODING, *coding);
            }
            let task = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YWJj" }] }).to_string();
            let got = proxy.send(request.body(Full::new(task.into())).unwrap()).await;
            assert_eq!(got.status, 415, "{codings:?}");
        }
        assert!(no_task_in(&seen));
    }
}

/// Parts other than the image take no memory. A task whose checked parts are too large is refused.
#[tokio::test]
async fn what_is_looked_through_is_kept_small() {
    let (to, seen) = organizations().await;
    let proxy = proxy(to).await;
    let organizations: Vec<_> = (0..500).map(|id| json!({ "id": id, "input": "YWJj".repeat(500) })).collect();
    let task = json!({ "image": "i", "description": "x".repeat(2_000_000), "organizations": organizations });
    assert_eq!(proxy.ask("POST", "/task", task.to_string()).await.status, 201);
    let before = seen.count();
    for filler in [" ".repeat(5_000_000), "1,".repeat(2_000_000), "[".repeat(3_000_000), "{},".repeat(1_000_000)] {
        let got = proxy.ask("POST", "/task", format!(r#"{{"image": "i", "x": [{filler}1]}}"#)).await;
        assert!(matches!(got.status.as_u16(), 400 | 413), "{}", got.text());
    }
    for trailing in [" ".repeat(5_000_000), "}".repeat(100), "x".to_owned()] {
        let got = proxy.ask("POST", "/task", format!(r#"{{"image": "i"}}{trailing}"#)).await;
        assert!(matches!(got.status.as_u16(), 400 | 413), "{}", got.text());
    }
    assert!(seen.requests.lock()[before..].iter().all(|request| request.body().is_empty()));
}
