use super::super::observed::Sandbox;
use super::*;

fn pod(policy: &str, inits: &[&str], names: &[&str]) -> Pod {
    let container =
        |name: &&str| Container { name: (*name).into(), image: Some("img".into()), ..Container::default() };
    let mut pod = Pod::default();
    pod.metadata.uid = Some("u".into());
    pod.metadata.generation = Some(1);
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy = Some(policy.into());
    spec.init_containers = (!inits.is_empty()).then(|| inits.iter().map(container).collect());
    spec.containers = names.iter().map(container).collect();
    pod
}

/// `a` running, `a:3` ended with 3, `a+` created.
fn seen(text: &str) -> Seen {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    let mut c =
        Seen { id: format!("id-{name}"), state: State::Running, image: "img".into(), ..Seen::default() };
    match &text[name.len()..] {
        "" => {}
        "+" => c.state = State::Created,
        code => {
            c.state = State::Exited;
            c.exit_code = code[1..].parse().expect("a code");
        }
    }
    c.name = name;
    c
}

fn observed(containers: &[&str]) -> Observed {
    let sandbox = Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.9".into()], ..Sandbox::default() };
    Observed { sandboxes: vec![sandbox], containers: containers.iter().map(|c| seen(c)).collect() }
}

fn make(pod: &Pod, old: &PodStatus, observed: &Observed, reasons: &Reasons, terminal: bool) -> PodStatus {
    let ids: BTreeSet<String> = observed.running().map(|c| c.id.clone()).collect();
    status(&Input {
        pod,
        old,
        observed,
        reasons,
        probed: &Probed { started: ids.clone(), ready: ids },
        host_ips: &["192.0.2.1".into()],
        runtime: "containerd",
        terminal,
        verdict: None,
        now: Timestamp::from_second(1_700_000_000).expect("in range"),
    })
}

#[test]
fn phases() {
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], bool, &'a str);
    let cases: &[Case] = &[
        ("Always", &[], &["a", "b"], &[], false, "Pending"),
        ("Always", &[], &["a", "b"], &["a"], false, "Pending"),
        ("Always", &[], &["a", "b"], &["a", "b"], false, "Running"),
        ("Always", &[], &["a", "b"], &["a", "b:1"], false, "Running"),
        ("Always", &[], &["a"], &["a:0"], false, "Running"),
        ("Always", &[], &["a"], &["a:0"], true, "Succeeded"),
        ("Always", &[], &["a"], &["a:137"], true, "Failed"),
        ("Always", &[], &["a"], &[], true, "Failed"),
        ("Always", &[], &["a", "b"], &["a:0"], true, "Failed"),
        ("Always", &["i"], &["a"], &["i"], true, "Failed"),
        ("OnFailure", &[], &["a"], &["a:0"], false, "Succeeded"),
        ("OnFailure", &[], &["a"], &["a:1"], false, "Running"),
        ("Never", &[], &["a"], &["a:1"], false, "Failed"),
        ("Never", &[], &["a", "b"], &["a:0", "b"], false, "Running"),
        ("Never", &[], &["a", "b"], &["a:0", "b:2"], false, "Failed"),
        ("Always", &["i"], &["a"], &["i"], false, "Pending"),
        ("Always", &["i"], &["a"], &["i:0", "a"], false, "Running"),
        ("Never", &["i"], &["a"], &["i:1"], false, "Failed"),
        ("Always", &["i"], &["a"], &["i:1"], false, "Pending"),
    ];
    for (policy, inits, names, containers, terminal, expect) in cases {
        let pod = pod(policy, inits, names);
        let got = make(&pod, &PodStatus::default(), &observed(containers), &Reasons::new(), *terminal);
        assert_eq!(
            got.phase.as_deref(),
            Some(*expect),
            "{policy} {inits:?} {containers:?} terminal {terminal}"
        );
    }
}

fn conditions(status: &PodStatus) -> String {
    let word = |c: &PodCondition| {
        format!("{}={}{}", c.type_, c.status, c.reason.as_ref().map_or(String::new(), |r| format!("({r})")))
    };
    status.conditions.iter().flatten().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn conditions_follow_the_containers() {
    let pod = pod("Never", &[], &["a"]);
    for (containers, expect) in [
        (
            &[][..],
            "PodReadyToStartContainers=True Initialized=True Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady) PodScheduled=True",
        ),
        (
            &["a"],
            "PodReadyToStartContainers=True Initialized=True Ready=True ContainersReady=True PodScheduled=True",
        ),
        (
            &["a:0"],
            "PodReadyToStartContainers=True Initialized=True(PodCompleted) Ready=False(PodCompleted) ContainersReady=False(PodCompleted) PodScheduled=True",
        ),
        (
            &["a:1"],
            "PodReadyToStartContainers=True Initialized=True Ready=False(PodFailed) ContainersReady=False(PodFailed) PodScheduled=True",
        ),
    ] {
        let got = make(&pod, &PodStatus::default(), &observed(containers), &Reasons::new(), false);
        assert_eq!(conditions(&got), expect, "{containers:?}");
    }
}

#[test]
fn a_failed_start_is_shown_as_waiting() {
    let pod = pod("Always", &[], &["a"]);
    let reasons = Reasons::from([("a".into(), ("CrashLoopBackOff".into(), "back-off 10s".into()))]);
    let got = make(&pod, &PodStatus::default(), &observed(&["a:7"]), &reasons, false);
    let c = &got.container_statuses.expect("statuses")[0];
    let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref()).expect("waiting");
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = c.last_state.as_ref().and_then(|s| s.terminated.as_ref()).expect("last state");
    assert_eq!((last.exit_code, last.container_id.as_deref()), (7, Some("containerd://id-a")));
    assert_eq!(got.phase.as_deref(), Some("Running"));
}

#[test]
fn transition_times_stay_until_the_status_changes() {
    let pod = pod("Always", &[], &["a"]);
    let first = make(&pod, &PodStatus::default(), &observed(&["a"]), &Reasons::new(), false);
    let later = |old: &PodStatus, containers: &[&str]| {
        let observed = observed(containers);
        status(&Input {
            pod: &pod,
            old,
            observed: &observed,
            reasons: &Reasons::new(),
            probed: &Probed::default(),
            host_ips: &["192.0.2.1".into()],
            runtime: "containerd",
            terminal: false,
            verdict: None,
            now: Timestamp::from_second(1_700_000_060).expect("in range"),
        })
    };
    let second = later(&first, &["a"]);
    let at = |s: &PodStatus, t: &str| {
        s.conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == t)
            .and_then(|c| c.last_transition_time.clone())
            .map(|t| t.0.as_second())
    };
    assert_eq!(at(&second, "Initialized"), Some(1_700_000_000));
    assert_eq!(at(&second, "Ready"), Some(1_700_000_060), "it became unready");
    let patch = patch("u", &first, &second).expect("a patch");
    assert_eq!(patch["status"]["conditions"].as_array().map(Vec::len), Some(2), "{patch}");
    assert_eq!(patch["metadata"]["uid"], "u");
    assert!(super::patch("u", &second, &second).is_none());
}

#[test]
fn a_terminal_phase_is_final() {
    let mut pod = pod("Always", &[], &["a"]);
    pod.status.get_or_insert_default().phase = Some("Failed".into());
    let old =
        PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..PodStatus::default() };
    let got = make(&pod, &old, &observed(&["a"]), &Reasons::new(), false);
    assert_eq!((got.phase.as_deref(), got.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

#[test]
fn addresses_are_one_per_family() {
    let ips: Vec<String> = ["fd00::1", "10.0.0.1", "10.0.0.2"].map(str::to_owned).to_vec();
    assert_eq!(sorted_ips(&ips, &["192.0.2.1".into()]), ["10.0.0.1", "fd00::1"]);
    assert_eq!(sorted_ips(&ips, &["fd01::1".into()]), ["fd00::1", "10.0.0.1"]);
}
