//! Lists: selectors, chunks, versions.

use serde_json::{Value, json};

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn selectors() {
    let w = World::new().await;
    for (name, labels) in [("a", vec![("x", "1")]), ("b", vec![("x", "2"), ("y", "1")]), ("c", vec![])] {
        w.post(MAPS, config_map(name, &labels)).await.ok();
    }
    let table: [(&str, &[&str]); 8] = [
        ("", &["a", "b", "c"]),
        ("?labelSelector=x", &["a", "b"]),
        ("?labelSelector=x%3D2", &["b"]),
        ("?labelSelector=x%21%3D2", &["a", "c"]),
        ("?labelSelector=x+in+(1,2),!y", &["a"]),
        ("?fieldSelector=metadata.name%3Dc", &["c"]),
        ("?fieldSelector=metadata.name%21%3Dc", &["a", "b"]),
        ("?fieldSelector=metadata.namespace%3Dother", &[]),
    ];
    for (query, expect) in table {
        let list = w.get(&format!("{MAPS}{query}")).await.ok();
        assert_eq!(names(&list), expect, "{query}");
        // Items of a list do not repeat the list's kind.
        assert!(list["items"].as_array().unwrap().iter().all(|i| i.get("kind").is_none()));
    }
    for (query, message) in [
        (
            "?fieldSelector=data.k%3D1",
            r#""data.k" is not a known field selector: only "metadata.name", "metadata.namespace""#,
        ),
        ("?labelSelector=x+in+(", "unable to parse requirement: "),
    ] {
        let fault = w.get(&format!("{MAPS}{query}")).await.fault();
        assert_eq!((fault.0, fault.1.as_str()), (400, "BadRequest"));
        assert!(fault.2.starts_with(message), "{}", fault.2);
    }
}

#[tokio::test]
async fn chunks_are_one_snapshot() {
    let w = World::new().await;
    for i in 0..10 {
        w.post(MAPS, config_map(&format!("m{i}"), &[("odd", if i % 2 == 1 { "yes" } else { "no" })]))
            .await
            .ok();
    }
    let first = w.get(&format!("{MAPS}?limit=4")).await.ok();
    assert_eq!(names(&first), ["m0", "m1", "m2", "m3"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    // What happens in between is not seen.
    w.delete(&format!("{MAPS}/m5")).await.ok();
    w.post(MAPS, config_map("m99", &[])).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = w.get(&format!("{MAPS}?limit=4&continue={token}")).await.ok();
    assert_eq!(names(&second), ["m4", "m5", "m6", "m7"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let next = second["metadata"]["continue"].as_str().unwrap();
    let third = w.get(&format!("{MAPS}?limit=4&continue={next}")).await.ok();
    assert_eq!(names(&third), ["m8", "m9"]);
    assert!(third["metadata"].get("continue").is_none());

    let odd = w.get(&format!("{MAPS}?limit=2&labelSelector=odd%3Dyes")).await.ok();
    assert_eq!(names(&odd), ["m1", "m3"]);
    assert!(odd["metadata"].get("remainingItemCount").is_none());
    let rest = odd["metadata"]["continue"].as_str().unwrap();
    let rest = w.get(&format!("{MAPS}?labelSelector=odd%3Dyes&continue={rest}")).await.ok();
    assert_eq!(names(&rest), ["m7", "m9"]);

    // After compaction the token is worth only a token for an inconsistent rest.
    w.store.compact(w.store.revision()).await.unwrap();
    let answer = w.get(&format!("{MAPS}?limit=4&continue={token}")).await;
    assert_eq!((answer.code, answer.fault().1.as_str()), (410, "Expired"));
    let token = answer.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let inconsistent = w.get(&format!("{MAPS}?limit=4&continue={token}")).await.ok();
    assert_eq!(names(&inconsistent), ["m4", "m6", "m7", "m8"]);
    assert_eq!(w.get(&format!("{MAPS}?continue=x")).await.fault().0, 400);
}

#[tokio::test]
async fn versions() {
    let w = World::new().await;
    let a = w.post(MAPS, config_map("a", &[])).await.ok();
    let at_a = a["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    w.post(MAPS, config_map("b", &[])).await.ok();
    let table: [(String, &[&str]); 5] = [
        (String::new(), &["a", "b"]),
        ("?resourceVersion=0".into(), &["a", "b"]),
        (format!("?resourceVersion={at_a}"), &["a", "b"]),
        (format!("?resourceVersion={at_a}&resourceVersionMatch=NotOlderThan"), &["a", "b"]),
        (format!("?resourceVersion={at_a}&resourceVersionMatch=Exact"), &["a"]),
    ];
    for (query, expect) in table {
        assert_eq!(names(&w.get(&format!("{MAPS}{query}")).await.ok()), expect, "{query}");
    }
    let exact = w.get(&format!("{MAPS}?resourceVersion={at_a}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(exact["metadata"]["resourceVersion"], at_a.as_str());
    let fault = w.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.fault();
    assert_eq!(fault.0, 422);
    tokio::time::pause();
    let answer = w.get(&format!("{MAPS}?resourceVersion=99999")).await;
    let fault = answer.fault();
    assert_eq!((fault.0, fault.1.as_str()), (504, "Timeout"));
    assert!(fault.2.starts_with("Timeout: Too large resource version: 99999, current: "), "{}", fault.2);
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn long_lists_come_in_pieces_and_compressed() {
    let w = World::new().await;
    let data: String = "0123456789abcdef".repeat(256);
    for i in 0..60 {
        let object = json!({"metadata": {"name": format!("m{i:02}")}, "data": {"k": data}});
        w.post(MAPS, object).await.ok();
    }
    let plain = w.get(MAPS).await;
    assert_eq!(names(&plain.ok()).len(), 60);
    let packed = w.raw("GET", MAPS, &[("accept-encoding", "gzip")], vec![]).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = http_body_util::BodyExt::collect(packed.into_body()).await.unwrap().to_bytes();
    assert!(bytes.len() < plain.text.len() / 4);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
    assert_eq!(text, plain.text);
    let deleted = w.delete(MAPS).await.ok();
    assert_eq!(names(&deleted).len(), 60);
    assert!(names(&w.get(MAPS).await.ok()).is_empty());
}
