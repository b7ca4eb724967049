use std::sync::{Arc, Mutex};

use api::core::v1::ConfigMap;
use client::{Error, Event, Informer, ListParams};
use tokio_util::sync::CancellationToken;

use crate::script::{Answer, Script, Zeros, ok};

fn item(name: &str, rv: &str) -> String {
    format!(r#"{{"metadata":{{"namespace":"n","name":"{name}","resourceVersion":"{rv}"}}}}"#)
}

fn list(rv: &str, items: &[String]) -> Answer {
    ok(&format!(
        r#"{{"kind":"ConfigMapList","metadata":{{"resourceVersion":"{rv}"}},"items":[{}]}}"#,
        items.join(",")
    ))
}

fn frame(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// Runs an informer over a script until the script hangs; answers what the handler saw and what was asked.
async fn check(answers: Vec<Answer>, seen: &[&str], asked: &[&str]) {
    let script = Script::new(answers);
    let informer = Informer::<ConfigMap>::new(script.client(), "", ListParams::default(), Arc::new(Zeros));
    let log = Arc::new(Mutex::new(Vec::new()));
    let handler_log = log.clone();
    informer.add_handler(move |event: &Event<ConfigMap>| {
        let verb = match event {
            Event::Added(_) => "+",
            Event::Updated { .. } => "~",
            Event::Deleted(_) => "-",
        };
        let meta = &event.object().metadata;
        let rv = meta.resource_version.as_deref().unwrap();
        handler_log.lock().unwrap().push(format!("{verb}{}@{rv}", meta.name.as_deref().unwrap()));
    });
    let shutdown = CancellationToken::new();
    let run = tokio::spawn({
        let (informer, shutdown) = (informer.clone(), shutdown.clone());
        async move { informer.run(shutdown).await }
    });
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(informer.has_synced());
    shutdown.cancel();
    run.await.unwrap();
    assert_eq!(*log.lock().unwrap(), seen);
    let base = "GET /api/v1/configmaps?";
    let got = script.asked();
    let got: Vec<_> = got.iter().map(|uri| uri.strip_prefix(base).unwrap()).collect();
    assert_eq!(got, asked);
}

const WATCH: &str = "watch=true&allowWatchBookmarks=true&resourceVersion=";

fn watch(rv: &str) -> String {
    format!("{WATCH}{rv}&timeoutSeconds=300")
}

#[tokio::test(start_paused = true)]
async fn list_then_watch_then_resume() {
    check(
        vec![
            list("5", &[item("a", "3"), item("b", "4")]),
            Answer::Stream {
                chunks: vec![
                    frame("ADDED", &item("c", "6")),
                    frame("MODIFIED", &item("a", "7")) + &frame("DELETED", &item("b", "8")),
                    frame("BOOKMARK", r#"{"metadata":{"resourceVersion":"20"}}"#),
                ],
                hang: false,
            },
        ],
        &["+a@3", "+b@4", "+c@6", "~a@7", "-b@8"],
        &["resourceVersion=0", &watch("5"), &watch("20")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_old_leads_to_a_new_list() {
    let expired = frame("ERROR", r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#);
    check(
        vec![
            list("5", &[item("a", "3"), item("b", "4")]),
            Answer::Stream { chunks: vec![expired], hang: false },
            list("9", &[item("b", "7"), item("c", "8")]),
        ],
        &["+a@3", "+b@4", "-a@3", "~b@7", "+c@8"],
        &["resourceVersion=0", &watch("5"), "limit=500", &watch("9")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_is_resumed_without_a_list() {
    check(
        vec![
            Answer::Broken,
            Answer::Full(503, String::new()),
            list("5", &[]),
            Answer::Broken,
            Answer::Stream { chunks: vec![frame("ADDED", &item("c", "6"))], hang: true },
        ],
        &["+c@6"],
        &["resourceVersion=0", "resourceVersion=0", "resourceVersion=0", &watch("5"), &watch("5")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed() {
    let first = ok(&format!(
        r#"{{"metadata":{{"resourceVersion":"9","continue":"tok"}},"items":[{}]}}"#,
        item("a", "1")
    ));
    check(
        vec![
            list("5", &[]),
            Answer::Full(410, r#"{"kind":"Status","code":410,"reason":"Gone"}"#.into()),
            first,
            list("9", &[item("b", "2")]),
        ],
        &["+a@1", "+b@2"],
        &["resourceVersion=0", &watch("5"), "limit=500", "limit=500&continue=tok", &watch("9")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn errors_carry_the_status() {
    let script = Script::new([
        Answer::Full(404, r#"{"kind":"Status","code":404,"reason":"NotFound","message":"m"}"#.into()),
        Answer::Full(500, "boom".into()),
        ok("{"),
    ]);
    let client = script.client();
    let error = client.get::<ConfigMap>("n", "a").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "m");
    let error = client.get::<ConfigMap>("n", "a").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (500, "boom"));
    assert!(matches!(client.get::<ConfigMap>("n", "a").await, Err(Error::Decode { .. })));
    assert!(matches!(client.get::<ConfigMap>("n", "").await, Err(Error::Request { .. })));
}
