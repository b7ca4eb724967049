use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn uids_are_random_and_of_version_4() {
    struct Ones;
    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }
    assert_eq!(uid(&Ones), "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[test]
fn finalizers_of_a_deletion() {
    use GarbageCollection::*;
    let options = |policy: &str| DeleteOptions {
        propagation_policy: (!policy.is_empty()).then(|| policy.into()),
        ..DeleteOptions::default()
    };
    let check = |present: &[&str], policy: &str, default, expect: Option<&[&str]>| {
        let object = json!({"metadata": {"finalizers": present}});
        let got = deletion_finalizers(&object, &options(policy), default);
        let expect = expect.map(|e| e.iter().map(|f| f.to_string()).collect::<Vec<_>>());
        assert_eq!(got, expect, "{present:?} {policy}");
    };
    check(&[], "", Background, None);
    check(&[], "Background", Background, None);
    check(&[], "Foreground", Background, Some(&[FOREGROUND]));
    check(&["a"], "Orphan", Background, Some(&["a", ORPHAN]));
    check(&["a", ORPHAN], "", Background, None);
    check(&["a", ORPHAN], "Background", Background, Some(&["a"]));
    check(&[], "", Orphan, Some(&[ORPHAN]));
    check(&[], "Foreground", Unsupported, None);
}

#[test]
fn graceful_deletion() {
    let pod_grace: Grace = |_, asked| asked.unwrap_or(30);
    let mut object = json!({"metadata": {"name": "p", "generation": 1}});
    let mut options = DeleteOptions::default();
    assert_eq!(before_delete(&mut object, &mut options, at(100), Some(pod_grace)), Graceful::Update);
    assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:02:10Z");
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(object["metadata"]["generation"], 2);
    // The same again changes nothing, longer neither.
    for asked in [None, Some(30), Some(60)] {
        let mut options = DeleteOptions { grace_period_seconds: asked, ..DeleteOptions::default() };
        let before = object.clone();
        assert_eq!(before_delete(&mut object, &mut options, at(105), Some(pod_grace)), Graceful::Pending);
        assert_eq!(object, before);
    }
    // Shorter counts from the beginning of the deletion.
    let mut options = DeleteOptions { grace_period_seconds: Some(10), ..DeleteOptions::default() };
    assert_eq!(before_delete(&mut object, &mut options, at(105), Some(pod_grace)), Graceful::Update);
    assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:01:50Z");
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 10);
    // A kind without grace.
    let mut object = json!({"metadata": {"name": "c"}});
    assert_eq!(before_delete(&mut object, &mut options, at(105), None), Graceful::No);
    assert_eq!(object, json!({"metadata": {"name": "c"}}));
}

#[test]
fn an_unchanged_object_is_not_written() {
    let old = json!({"metadata": {"name": "a", "resourceVersion": "5"}, "data": {"k": "v"}});
    assert!(same_but_version(&json!({"metadata": {"name": "a"}, "data": {"k": "v"}}), &old));
    assert!(same_but_version(&old, &old));
    assert!(!same_but_version(&json!({"metadata": {"name": "a"}, "data": {"k": "w"}}), &old));
    assert!(!same_but_version(&json!({"metadata": {"name": "a"}}), &old));
}

#[test]
fn duplicate_owners() {
    let mut object = json!({"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "2"}, {"uid": "1"}]}});
    assert!(deduplicate_owners(&mut object, false).unwrap().ends_with("observed: 1"));
    assert_eq!(object["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    assert_eq!(deduplicate_owners(&mut object, false), None);
}
