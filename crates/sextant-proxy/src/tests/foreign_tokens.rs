//! Tests tokens of other organizations of the same server: the proxy does not act for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use vantage6::OrganizationId;

use super::encrypted::{key, message};
use super::fake_server::{Seen, server};
use super::*;
use crate::ownership::OwnerCache;

const SECRET: &[u8] = b"a message to this organization";

/// A server whose organization 2 has this public key and a job with an encrypted message.
async fn planted(public_key: String) -> (SocketAddr, Seen) {
    let text = message(SECRET.to_vec(), 0).await;
    server(move |request, _| {
        let said = match (request.method().as_str(), request.uri().path()) {
            ("POST", _) => json!({ "id": 10 }),
            (_, "/api/task/7") => json!({ "id": 7, "parent": null, "job_id": 3, "init_org": { "id": 1 }, "image": "i", "created_at": "2023-11-14T22:13:19" }),
            (_, "/api/task/9") => json!({ "id": 9, "parent": { "id": 7 }, "init_org": { "id": 2 }, "image": "i" }),
            (_, "/api/run/5") => json!({ "id": 5, "task": { "id": 9 } }),
            (_, "/api/result/5") => json!({ "result": text, "task": { "id": 9 } }),
            (_, "/api/result") => json!({ "data": [{ "result": text, "task": { "id": 9 } }] }),
            _ => json!({ "id": 2, "name": "x", "public_key": public_key }),
        };
        async move { answer(200, said.to_string()) }
    })
    .await
}

/// Returns whether an algorithm of organization 2 can create a subtask and gets a decrypted result. Its requests are answered in any case.
async fn is_served(proxy: &Served, seen: &Seen) -> bool {
    let task = json!({ "image": "i", "organizations": [{ "id": 2, "input": "YQ==" }] }).to_string();
    let got = proxy.ask("POST", "/task", task).await;
    let posts = seen.requests.lock().iter().filter(|request| request.method() == "POST").count();
    let is_sent = got.status == 200;
    assert_eq!(posts, usize::from(is_sent), "{}", got.text());
    assert!(is_sent || got.status == 403 && got.text().contains("another organization's node"), "{}", got.text());
    for path in ["/result?task_id=9", "/result/5"] {
        let got = proxy.get(path).await;
        assert_eq!(got.status, 200);
        assert_eq!(got.text().contains(&STANDARD.encode(SECRET)), is_sent, "{}", got.text());
    }
    is_sent
}

#[tokio::test]
async fn nothing_is_done_for_another_organizations_algorithm() {
    for (public_key, expected) in [
        (key(0).public().to_server(), true),
        (key(1).public().to_server(), false),
        (String::new(), false),
        ("no key".to_owned(), false),
    ] {
        let (to, seen) = planted(public_key.clone()).await;
        let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), |settings| settings.owners = OwnerCache::default()).await;
        assert_eq!(is_served(&proxy, &seen).await, expected, "{public_key}");
    }
}

/// Anybody may publish a copy of a public key.
#[tokio::test]
async fn a_copied_public_key_makes_no_organization_ours() {
    for (own, expected) in [(1, false), (2, true), (3, false)] {
        let (to, seen) = planted(key(0).public().to_server()).await;
        let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), |settings| {
            settings.owners = OwnerCache::default();
            settings.organization = Some(OrganizationId(own));
        })
        .await;
        assert_eq!(is_served(&proxy, &seen).await, expected, "{own}");
    }
}

#[tokio::test]
async fn where_nothing_is_encrypted_another_organizations_algorithm_makes_no_subtasks_either() {
    for (own, status) in [(1, 403), (2, 200)] {
        let (to, _) = planted(String::new()).await;
        let proxy = proxy_of(to, Cryptor::Plain, |settings| {
            settings.owners = OwnerCache::default();
            settings.organization = Some(OrganizationId(own));
        })
        .await;
        for (path, body) in [("/task", TASK), ("/blobstream", "a blob")] {
            assert_eq!(proxy.ask("POST", path, body).await.status.as_u16(), status, "{own} {path}");
        }
    }
}
