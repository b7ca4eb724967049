//! Watches.

use apimachinery::codec::protobuf::{decode, envelope};
use apiserver::server::Body;
use futures::future::join_all;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::{Events, World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pair(event: &str, name: &str) -> (String, String) {
    (event.into(), name.into())
}

#[tokio::test]
async fn events_follow_the_list() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), json!({"data": {"x": "1"}})).await.ok();
    let list = w.get(MAPS).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut with_state = w.watch(&format!("{MAPS}?watch=true")).await;
    let mut any = w.watch(&format!("{MAPS}?watch=1&resourceVersion=0")).await;
    let mut after = w.watch(&format!("{MAPS}?watch=true&resourceVersion={from}")).await;
    let mut elsewhere = w.watch("/api/v1/namespaces/other/configmaps?watch=true&timeoutSeconds=1").await;
    w.post(MAPS, config_map("b", &[])).await.ok();
    w.patch("merge", &format!("{MAPS}/b"), json!({"data": {"x": "1"}})).await.ok();
    let last = w.get(&format!("{MAPS}/b")).await.ok();
    w.delete(&format!("{MAPS}/b")).await.ok();
    for events in [&mut with_state, &mut any] {
        assert_eq!(events.brief().await, pair("ADDED", "a"));
    }
    for events in [&mut with_state, &mut any, &mut after] {
        assert_eq!(events.brief().await, pair("ADDED", "b"));
        let modified = events.next().await.unwrap();
        assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &last));
        // A deletion shows the last state, at the deletion's version.
        let mut expect = last.clone();
        expect["metadata"]["resourceVersion"] = json!(w.store.revision().to_string());
        let deleted = events.next().await.unwrap();
        assert_eq!((&deleted["type"], &deleted["object"]), (&json!("DELETED"), &expect));
    }
    assert_eq!(elsewhere.next().await, None);
}

#[tokio::test]
async fn objects_come_to_match_and_cease_to() {
    let w = World::new().await;
    let mut labels = w.watch(&format!("{MAPS}?watch=true&labelSelector=x%3D1")).await;
    w.post(MAPS, config_map("a", &[("x", "0")])).await.ok();
    let label = |value: &str| json!({"metadata": {"labels": {"x": value}}});
    w.patch("merge", &format!("{MAPS}/a"), label("1")).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), json!({"data": {"n": "1"}})).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), label("2")).await.ok();
    w.delete(&format!("{MAPS}/a")).await.ok();
    w.post(MAPS, config_map("b", &[("x", "1")])).await.ok();
    assert_eq!(labels.brief().await, pair("ADDED", "a"));
    assert_eq!(labels.brief().await, pair("MODIFIED", "a"));
    let left = labels.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["x"], "1");
    assert_eq!(labels.brief().await, pair("ADDED", "b"));

    let mut named = w.watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Dc")).await;
    w.post(MAPS, config_map("d", &[])).await.ok();
    w.post(MAPS, config_map("c", &[])).await.ok();
    assert_eq!(named.brief().await, pair("ADDED", "c"));
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_told_so() {
    let w = World::new().await;
    for i in 0..5 {
        w.post(MAPS, config_map(&format!("m{i}"), &[])).await.ok();
    }
    w.store.compact(w.store.revision()).await.unwrap();
    let mut events = w.watch(&format!("{MAPS}?watch=true&resourceVersion=2")).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(event["object"]["message"].as_str().unwrap().starts_with("too old resource version: 2 ("));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn bookmarks_and_initial_events() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let mut events = w
        .watch(&format!(
            "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(events.brief().await, pair("ADDED", "a"));
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], w.store.revision().to_string());
    tokio::time::pause();
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(bookmark["object"]["metadata"].get("annotations").is_none());
}

#[tokio::test]
async fn the_end_of_the_server_ends_watches() {
    let w = World::new().await;
    let mut events = w.watch(&format!("{MAPS}?watch=true")).await;
    w.server.stop();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn metadata_and_tables() {
    let w = World::new().await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let response =
        w.raw("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &[("accept", accept)], vec![]).await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let text = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let event: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert!(event["object"].get("data").is_none());
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let answer =
        w.send("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &[("accept", accept)], vec![]).await;
    let event: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(event["object"]["kind"], "Table");
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
}

/// The frames of a watch in protobuf, read by the codec.
struct Frames {
    body: Body,
    rest: Vec<u8>,
}

/// The only field of a message, or the only one with this tag.
fn field(message: &[u8], tag: u8) -> &[u8] {
    let mut rest = message;
    while let Some((key, more)) = rest.split_first() {
        assert_eq!(key & 7, 2, "only fields with bytes are in a WatchEvent");
        let mut length = 0;
        let mut digits = 0;
        for (place, byte) in more.iter().enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * place);
            digits = place + 1;
            if *byte < 0x80 {
                break;
            }
        }
        let (inside, behind) = more[digits..].split_at(length);
        if key >> 3 == tag {
            return inside;
        }
        rest = behind;
    }
    panic!("no field {tag}");
}

impl Frames {
    async fn open(w: &World, path: &str, accept: &str) -> Self {
        let answer = w.raw("GET", path, &[("accept", accept)], vec![]).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        Self { body: answer.into_body(), rest: Vec::new() }
    }

    /// Type, and the object with its kind.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((head, rest)) = self.rest.split_first_chunk::<4>()
                && let Some((frame, rest)) = rest.split_at_checked(u32::from_be_bytes(*head) as usize)
            {
                let event = String::from_utf8(field(frame, 1).to_vec()).unwrap();
                let opened = envelope::unwrap(field(field(frame, 2), 1)).unwrap();
                let (group, version) = apimachinery::gvk::split(opened.api_version).unwrap();
                let ty = api::object_type(group, version, opened.kind).expect("a known kind");
                let mut object = decode(api::schema(), ty, opened.raw).unwrap();
                apimachinery::managed_fields::unfold(&mut object);
                object["kind"] = json!(opened.kind);
                object["apiVersion"] = json!(opened.api_version);
                self.rest = rest.to_vec();
                return Some((event, object));
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(120), self.body.frame());
            let data = frame.await.expect("an event")?.unwrap().into_data().unwrap();
            self.rest.extend_from_slice(&data);
        }
    }
}

/// Whoever watches sees the same, whatever the form: what is there, what comes, changes, leaves the selection and
/// goes, bookmarks, and an error.
#[tokio::test]
async fn every_form_tells_the_same() {
    let w = World::new().await;
    let labels = |x: &str| json!({"metadata": {"labels": {"x": x}}});
    w.post(MAPS, config_map("old", &[("x", "1")])).await.ok();
    w.patch("merge", &format!("{MAPS}/old"), json!({"data": {"n": "1"}})).await.ok();
    let path = format!(
        "{MAPS}?watch=true&labelSelector=x%3D1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
         &allowWatchBookmarks=true"
    );
    let media = "application/vnd.kubernetes.protobuf";
    let metadata = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let mut plain = w.watch(&path).await;
    let mut packed = Frames::open(&w, &path, &format!("{media};stream=watch,application/json")).await;
    let mut packed_again = Frames::open(&w, &path, media).await;
    let mut packed_metadata = Frames::open(&w, &path, &format!("{media};{metadata}")).await;
    let mut metadata = w.watch_as(&path, &format!("application/json;{metadata}")).await;
    let mut table = w.watch_as(&path, "application/json;as=Table;g=meta.k8s.io;v=v1").await;
    w.post(MAPS, config_map("new", &[("x", "1")])).await.ok();
    w.patch("merge", &format!("{MAPS}/new"), json!({"data": {"n": "1"}})).await.ok();
    w.patch("merge", &format!("{MAPS}/new"), labels("2")).await.ok();
    w.patch("merge", &format!("{MAPS}/new"), labels("1")).await.ok();
    w.delete(&format!("{MAPS}/new")).await.ok();
    let expect = [
        ("ADDED", "old"),
        ("BOOKMARK", ""),
        ("ADDED", "new"),
        ("MODIFIED", "new"),
        ("DELETED", "new"),
        ("ADDED", "new"),
        ("DELETED", "new"),
    ];
    let mut version = 0;
    for (number, (event, name)) in expect.into_iter().enumerate() {
        let told = plain.next().await.unwrap();
        let object = &told["object"];
        assert_eq!((&told["type"], &object["kind"]), (&json!(event), &json!("ConfigMap")), "{number}");
        assert_eq!(object["metadata"]["name"].as_str().unwrap_or_default(), name);
        // Each event has a version of its own: also the one that only says that an object has left.
        let newer: i64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(newer > version || name.is_empty(), "{number}: {newer} after {version}");
        version = newer;
        for packed in [&mut packed, &mut packed_again] {
            assert_eq!(packed.next().await.unwrap(), (event.to_owned(), object.clone()), "{number}");
        }
        let reduced = json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        });
        assert_eq!(packed_metadata.next().await.unwrap(), (event.to_owned(), reduced.clone()), "{number}");
        assert_eq!(metadata.next().await.unwrap(), json!({"type": event, "object": reduced}), "{number}");
        let shown = table.next().await.unwrap();
        assert_eq!((&shown["type"], &shown["object"]["kind"]), (&json!(event), &json!("Table")));
        assert_eq!(shown["object"]["rows"][0]["object"], reduced);
        assert_eq!(shown["object"]["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
        // Columns are told once.
        assert_eq!(shown["object"]["columnDefinitions"].as_array().unwrap().is_empty(), number > 0);
    }
    w.store.compact(w.store.revision()).await.unwrap();
    let mut late = Frames::open(&w, &format!("{MAPS}?watch=1&resourceVersion=2"), media).await;
    let (event, status) = late.next().await.unwrap();
    assert_eq!((&*event, &status["kind"], &status["code"]), ("ERROR", &json!("Status"), &json!(410)));
    assert_eq!(late.next().await, None);
    for accept in ["application/yaml", "application/yaml, application/json", "text/html"] {
        let answer = w.send("GET", &path, &[("accept", accept)], vec![]).await;
        assert_eq!(answer.code, 406, "{accept}");
        assert!(answer.text.contains("application/vnd.kubernetes.protobuf;stream=watch"), "{}", answer.text);
    }
}

/// Which parameters go together, and what a watch begins with.
#[tokio::test]
async fn parameters() {
    let w = World::new().await;
    let a = w.post(MAPS, config_map("a", &[])).await.ok();
    let at_a = a["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    w.post(MAPS, config_map("b", &[])).await.ok();
    let invalid = |why: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
    let needs = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let table = [
        ("sendInitialEvents=true", 422, invalid(needs)),
        (
            "sendInitialEvents=false&resourceVersionMatch=Exact",
            422,
            invalid(&format!(
                r#"[{needs}, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]"#
            )),
        ),
        (
            "resourceVersionMatch=NotOlderThan&resourceVersion=5",
            422,
            invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
        ),
        (
            "resourceVersion=x",
            500,
            r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#.into(),
        ),
        ("timeoutSeconds=x", 400, r#"strconv.ParseInt: parsing "x": invalid syntax"#.into()),
    ];
    for (query, code, message) in table {
        let fault = w.get(&format!("{MAPS}?watch=true&{query}")).await.fault();
        assert_eq!((fault.0, fault.2), (code, message), "{query}");
    }
    let exact = "resourceVersionMatch=NotOlderThan";
    for (query, expect) in [
        (String::new(), &["a", "b"][..]),
        ("&resourceVersion=0&allowWatchBookmarks=true".into(), &["a", "b", "initial"]),
        (format!("&resourceVersion={at_a}"), &["b"]),
        (format!("&sendInitialEvents=false&{exact}"), &[]),
        (format!("&sendInitialEvents=false&{exact}&resourceVersion={at_a}"), &["b"]),
        (format!("&sendInitialEvents=true&{exact}"), &["a", "b"]),
        (
            format!("&sendInitialEvents=true&{exact}&resourceVersion={at_a}&allowWatchBookmarks=true"),
            &["a", "b", "initial"],
        ),
        (format!("&fieldSelector=metadata.name%3Db&sendInitialEvents=true&{exact}"), &["b"]),
    ] {
        let mut events = w.watch(&format!("{MAPS}?watch=true{query}")).await;
        for name in expect {
            let event = events.next().await.unwrap();
            match *name {
                "initial" => {
                    let note = &event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
                    assert_eq!((&event["type"], note), (&json!("BOOKMARK"), &json!("true")), "{query}");
                }
                name => assert_eq!(event["object"]["metadata"]["name"], name, "{query}"),
            }
        }
        // And nothing else: the next is what happens now.
        w.patch("merge", &format!("{MAPS}/b"), json!({"data": {"n": query}})).await.ok();
        assert_eq!(events.brief().await, pair("MODIFIED", "b"), "{query}");
    }
    tokio::time::pause();
    let future = format!("{MAPS}?watch=true&sendInitialEvents=true&{exact}&resourceVersion=99999");
    let event = w.watch(&future).await.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(504)));
    assert_eq!(event["object"]["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

/// Ways to one object, old and new.
#[tokio::test]
async fn one_object() {
    let w = World::new().await;
    for name in ["a", "b"] {
        w.post(MAPS, config_map(name, &[])).await.ok();
    }
    for path in [
        "/api/v1/watch/namespaces/default/configmaps/b",
        "/api/v1/watch/namespaces/default/configmaps?fieldSelector=metadata.name%3Db",
        "/api/v1/watch/configmaps?fieldSelector=metadata.name%3Db",
        "/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name%3Db,metadata.namespace%3Ddefault",
    ] {
        let mut events = w.watch(path).await;
        assert_eq!(events.brief().await, pair("ADDED", "b"), "{path}");
        w.patch("merge", &format!("{MAPS}/a"), json!({"data": {"n": path}})).await.ok();
        w.patch("merge", &format!("{MAPS}/b"), json!({"data": {"n": path}})).await.ok();
        assert_eq!(events.brief().await, pair("MODIFIED", "b"), "{path}");
    }
    let other = "/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Da";
    assert_eq!(w.get(other).await.fault().2, "fieldSelector metadata.name doesn't match requested name");
}

/// A watcher that does not read: the others get everything at once, and it finds everything when it comes back,
/// from the log, or is told that it is too late.
#[tokio::test]
async fn a_slow_watcher_harms_nobody() {
    const WRITES: usize = 420;
    let w = World::new().await;
    let path = format!("{MAPS}?watch=true&resourceVersion={}", w.store.revision());
    let mut slow = w.watch(&path).await;
    let mut late = w.watch(&path).await;
    let readers: Vec<Events> = join_all((0..8).map(|_| w.watch(&path))).await;
    // More than the store keeps in memory for watchers.
    let data = "x".repeat(16 << 10);
    let write = async {
        for number in 0..WRITES {
            let object = json!({"metadata": {"name": format!("m{number}")}, "data": {"k": data}});
            w.post(MAPS, object).await.ok();
        }
    };
    let read = |mut events: Events| async move {
        for number in 0..WRITES {
            assert_eq!(events.brief().await, pair("ADDED", &format!("m{number}")));
        }
    };
    tokio::join!(write, join_all(readers.into_iter().map(read)));
    for number in 0..WRITES {
        assert_eq!(slow.brief().await, pair("ADDED", &format!("m{number}")));
    }
    w.store.compact(w.store.revision()).await.unwrap();
    let mut last = late.next().await.unwrap();
    while last["type"] != "ERROR" {
        last = late.next().await.unwrap();
    }
    assert_eq!(last["object"]["code"], 410);
    assert_eq!(late.next().await, None);
}
