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
    // Any version will do: then the limit does not count.
    let any = w.get(&format!("{MAPS}?resourceVersion=0&limit=1")).await.ok();
    assert_eq!((names(&any), any["metadata"].get("continue")), (vec!["a", "b"], None));
    let legacy = w.get(&format!("{MAPS}?resourceVersion={at_a}&limit=1")).await.ok();
    assert_eq!((names(&legacy), &legacy["metadata"]["resourceVersion"]), (vec!["a"], &json!(at_a)));
    let exact = w.get(&format!("{MAPS}?resourceVersion={at_a}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(exact["metadata"]["resourceVersion"], at_a.as_str());
    let invalid = |why: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
    let table = [
        (
            "resourceVersionMatch=Exact",
            422,
            invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            422,
            invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        ),
        (
            "resourceVersionMatch=Newer&resourceVersion=1",
            422,
            invalid(
                r#"resourceVersionMatch: Unsupported value: "Newer": supported values: "Exact", "NotOlderThan", """#,
            ),
        ),
        (
            "sendInitialEvents=true",
            422,
            invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            "resourceVersion=x",
            400,
            r#"invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#
                .into(),
        ),
        (
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0&resourceVersion=1",
            400,
            "specifying resource version is not allowed when using continue".into(),
        ),
    ];
    for (query, code, message) in table {
        let fault = w.get(&format!("{MAPS}?{query}")).await.fault();
        assert_eq!((fault.0, fault.2), (code, message), "{query}");
    }
    tokio::time::pause();
    let answer = w.get(&format!("{MAPS}?resourceVersion=99999")).await;
    let fault = answer.fault();
    assert_eq!((fault.0, fault.1.as_str()), (504, "Timeout"));
    assert!(fault.2.starts_with("Timeout: Too large resource version: 99999, current: "), "{}", fault.2);
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(
        (&answer.json()["details"]["retryAfterSeconds"], answer.headers.get("retry-after")),
        (&json!(1), Some(&http::HeaderValue::from_static("1")))
    );
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

/// Each form of a list says the same, in pieces and in one.
#[tokio::test]
async fn every_form_of_a_list() {
    use apimachinery::codec::protobuf::{decode, envelope};
    let w = World::new().await;
    for i in 0..40 {
        let data = "0123456789abcdef".repeat(if i == 0 { 1 } else { 512 });
        let object = json!({"metadata": {"name": format!("m{i:02}"), "labels": {"n": i.to_string()}}, "data": {"k": data}});
        w.post(MAPS, object).await.ok();
    }
    let media = "application/vnd.kubernetes.protobuf";
    let of_meta = |media: &str, kind: &str| format!("{media};as={kind};g=meta.k8s.io;v=v1");
    // One object, all in one piece, and all in several pieces; with and without more to come.
    for query in ["?limit=1", "?limit=3&labelSelector=n%21%3D5", "", "?limit=30", "?labelSelector=none"] {
        let path = format!("{MAPS}{query}");
        let plain = w.get(&path).await.ok();
        for (accept, kind, ty) in [
            (media.to_owned(), "ConfigMapList", api::object_type("", "v1", "ConfigMapList")),
            (
                of_meta(media, "PartialObjectMetadataList"),
                "PartialObjectMetadataList",
                api::object_type("meta.k8s.io", "v1", "PartialObjectMetadataList"),
            ),
        ] {
            let answer = w.raw("GET", &path, &[("accept", &accept)], vec![]).await;
            assert_eq!(answer.headers()["content-type"], media);
            let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
            let opened = envelope::unwrap(&bytes).unwrap();
            assert_eq!(opened.kind, kind);
            let mut got = decode(api::schema(), ty.unwrap(), opened.raw).unwrap();
            got["items"].as_array_mut().into_iter().flatten().for_each(apimachinery::managed_fields::unfold);
            if got["items"].is_null() {
                // Protobuf cannot tell an empty list from none.
                got["items"] = json!([]);
            }
            let mut expect = plain.clone();
            for key in ["kind", "apiVersion"] {
                expect.as_object_mut().unwrap().remove(key);
                got.as_object_mut().unwrap().remove(key);
            }
            if kind == "PartialObjectMetadataList" {
                for item in expect["items"].as_array_mut().unwrap() {
                    *item = json!({"metadata": item["metadata"]});
                }
            }
            assert_eq!(got, expect, "{accept} {query}");
        }
        let accept = of_meta("application/json", "PartialObjectMetadataList");
        let metadata = w.send("GET", &path, &[("accept", &accept)], vec![]).await.ok();
        assert_eq!(metadata["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(metadata["metadata"], plain["metadata"]);
        let accept = of_meta("application/json", "Table");
        // Twice: made and kept.
        for _ in 0..2 {
            w.advance(7);
            let table = w.send("GET", &path, &[("accept", &accept)], vec![]).await.ok();
            assert_eq!(table["metadata"], plain["metadata"]);
            let rows = table["rows"].as_array().unwrap();
            assert_eq!(rows.len(), plain["items"].as_array().unwrap().len());
            for ((row, item), metadata) in
                rows.iter().zip(plain["items"].as_array().unwrap()).zip(metadata["items"].as_array().unwrap())
            {
                assert_eq!(metadata["kind"], "PartialObjectMetadata");
                assert_eq!(metadata["metadata"], item["metadata"]);
                assert_eq!(&row["object"], metadata);
                let one = format!("{MAPS}/{}", item["metadata"]["name"].as_str().unwrap());
                let one = w.send("GET", &one, &[("accept", &accept)], vec![]).await.ok();
                assert_eq!(row["cells"], one["rows"][0]["cells"]);
            }
        }
    }
    let yaml = w.send("GET", &format!("{MAPS}?limit=2"), &[("accept", "application/yaml")], vec![]).await;
    assert!(yaml.text.contains("kind: ConfigMapList\n"), "{}", yaml.text);
    let wrong = of_meta("application/json", "PartialObjectMetadata");
    assert_eq!(w.send("GET", MAPS, &[("accept", &wrong)], vec![]).await.fault().0, 406);
}

/// Either group names an Event's fields in its own way, whichever was asked first.
#[tokio::test]
async fn selectors_of_events_in_both_groups() {
    let w = World::new().await;
    let (core, events) =
        ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    let event = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r",
        "type": "Normal", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"namespace": "default", "name": "n"},
    });
    w.post(events, event).await.ok();
    let table = [
        (core, "source", Some("c")),
        (events, "reportingController", Some("c")),
        (core, "reportingComponent", Some("c")),
        (events, "regarding.name", Some("n")),
        (core, "involvedObject.name", Some("n")),
        (core, "regarding.name", None),
        (events, "source", None),
    ];
    for (path, field, value) in table {
        let answer = w.get(&format!("{path}?fieldSelector={field}%3D{}", value.unwrap_or("x"))).await;
        match value {
            Some(_) => assert_eq!(names(&answer.ok()), ["e"], "{path} {field}"),
            None => assert_eq!(answer.fault().0, 400, "{path} {field}"),
        }
    }
}
