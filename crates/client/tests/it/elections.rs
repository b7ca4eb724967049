use std::sync::Arc;
use std::time::Duration;

use client::{LeaderConfig, LeaderElector};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::script::{Answer, Script, Virtual, Zeros, ok};

fn lease(holder: &str, rv: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"l","namespace":"kube-system","resourceVersion":"{rv}"}},
        "spec":{{"holderIdentity":"{holder}","leaseDurationSeconds":15,"leaseTransitions":3}}}}"#
    )
}

fn elector(script: &Script) -> LeaderElector {
    LeaderElector::new(
        LeaderConfig::new("kube-system", "l", "me"),
        script.client(),
        Arc::new(Virtual::new()),
        Arc::new(Zeros),
    )
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_taken_and_given_back() {
    let missing = r#"{"kind":"Status","code":404,"reason":"NotFound"}"#;
    let script = Script::new([Answer::Full(404, missing.into()), ok(&lease("me", 1)), ok(&lease("", 2))]);
    elector(&script).run(CancellationToken::new(), |_| async {}).await;
    let asked = script.asked();
    let verbs: Vec<_> = asked.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(verbs, ["GET", "POST", "PUT"]);
    assert!(asked[2].contains(r#""holderIdentity":"""#), "{}", asked[2]);
}

#[tokio::test(start_paused = true)]
async fn another_ones_lease_is_taken_when_it_has_not_changed_for_its_duration() {
    let held = (0..8).map(|_| ok(&lease("other", 1)));
    let script = Script::new(held.chain([ok(&lease("other", 1)), ok(&lease("me", 2)), ok(&lease("", 3))]));
    let start = tokio::time::Instant::now();
    elector(&script).run(CancellationToken::new(), |_| async {}).await;
    assert_eq!(start.elapsed().as_secs(), 16);
    let put = script.asked().into_iter().find(|line| line.starts_with("PUT")).unwrap();
    let body: Value = serde_json::from_str(put.splitn(3, ' ').nth(2).unwrap()).unwrap();
    assert_eq!(body["spec"]["leaseTransitions"], 4);
    assert_eq!(body["spec"]["holderIdentity"], "me");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops() {
    let mut answers = vec![ok(&lease("", 1)), ok(&lease("me", 2))];
    answers.extend((0..20).map(|_| Answer::Broken));
    let script = Script::new(answers);
    let start = tokio::time::Instant::now();
    let work = |leading: CancellationToken| async move { leading.cancelled().await };
    tokio::time::timeout(Duration::from_secs(60), elector(&script).run(CancellationToken::new(), work))
        .await
        .expect("the election ends");
    assert_eq!(start.elapsed().as_secs(), 10);
}
