//! Upstream's own pods for every check and release (`k8s.io/pod-security-admission/test/testdata`), gathered in
//! `fixtures.jsonl`: one pod a line, with the check it is about, level, verdict, first and last release.

use serde_json::{Value, json};

use super::*;

#[test]
fn upstreams_pods() {
    let mut judged = 0;
    for line in include_str!("fixtures.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let pod = &line["pod"];
        for case in line["cases"].as_array().unwrap() {
            let text = |i: usize| case[i].as_str().unwrap();
            let level = Level::parse(text(1)).unwrap();
            for minor in case[3].as_u64().unwrap()..=case[4].as_u64().unwrap() {
                let version = Version::Minor(minor.try_into().unwrap());
                let found = evaluate(Standard { level, version }, &pod["metadata"], &pod["spec"]);
                assert_eq!(found.is_empty(), text(2) == "pass", "{case} v1.{minor} {found:?} {pod}");
                judged += 1;
            }
        }
    }
    assert!(judged > 3500, "{judged}");
}

fn check(standard: &str, spec: Value, annotations: Value, expect: &str) {
    let (level, version) = standard.split_once(':').unwrap();
    let standard =
        Standard { level: Level::parse(level).unwrap(), version: Version::parse(version).unwrap() };
    let found = evaluate(standard, &json!({"annotations": annotations}), &spec);
    assert_eq!(details(&found), expect, "{standard} {spec}");
}

/// The texts of upstream's `check_*_test.go`.
#[test]
fn details_of_faults() {
    let two = |context: Value, other: Value| json!({"containers": [{"name": "a", "securityContext": context}, {"name": "b", "securityContext": other}]});
    let one = |context: Value| json!({"containers": [{"name": "a", "securityContext": context}]});
    let baseline: &[(Value, &str)] = &[
        (json!({"hostNetwork": true, "hostIPC": true}), "host namespaces (hostNetwork=true, hostIPC=true)"),
        (
            two(json!({"privileged": true}), json!({"privileged": true})),
            r#"privileged (containers "a", "b" must not set securityContext.privileged=true)"#,
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 0}]},
                {"name": "b", "ports": [{"hostPort": 9}]}]}),
            r#"hostPort (containers "a", "b" use hostPorts 80, 9)"#,
        ),
        (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), r#"hostPath volumes (volume "v")"#),
        (
            two(
                json!({"capabilities": {"add": ["FOO", "BAR"]}}),
                json!({"capabilities": {"add": ["CHOWN"]}}),
            ),
            r#"non-default capabilities (container "a" must not include "BAR", "FOO" in securityContext.capabilities.add)"#,
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "a"}, {"name": "net.ipv4.tcp_rmem"}, {"name": "b"}]}}),
            "forbidden sysctls (a, b)",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}},
                "containers": [{"name": "a", "securityContext": {"seLinuxOptions": {"role": "r"}}}]}),
            "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may \
             not be set; role may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}},
                "containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}),
            "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            one(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}},
                "lifecycle": {"preStop": {"tcpSocket": {"host": "g"}}}}]}),
            r#"probe or lifecycle host (container "a" uses probe or lifecycle hosts "g", "h")"#,
        ),
        (
            one(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ];
    for (spec, expect) in baseline {
        check("baseline:latest", spec.clone(), json!({}), expect);
    }
    check(
        "baseline:latest",
        json!({}),
        json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
    );
    check(
        "baseline:v1.18",
        json!({}),
        json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
    );
    check(
        "restricted:latest",
        json!({"containers": [{"name": "a"}]}),
        json!({}),
        "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot \
         != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \
         \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    check(
        "restricted:v1.7",
        json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false},
            "volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}, {"name": "x"}]}),
        json!({}),
        "restricted volume types (volumes \"v\", \"w\", \"x\" use restricted volume types \"hostPath\", \"nfs\", \
         \"unknown\"), runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
    );
    check("privileged:latest", json!({"hostNetwork": true}), json!({}), "");
}

#[test]
fn policies() {
    type Case<'a> = (&'a [(usize, &'a str)], &'a str, &'a [&'a str]);
    let table: &[Case<'_>] = &[
        (&[], "privileged:latest privileged:latest privileged:latest", &[]),
        (&[(0, "baseline")], "baseline:latest privileged:latest baseline:latest", &[]),
        (&[(0, "restricted"), (1, "v1.24")], "restricted:v1.24 privileged:latest restricted:v1.24", &[]),
        (
            &[(0, "restricted"), (4, "baseline"), (5, "v1.0")],
            "restricted:latest privileged:latest baseline:v1.0",
            &[],
        ),
        (
            &[(0, "none"), (2, "none"), (3, "v1.01"), (4, "none"), (5, "1.2")],
            "restricted:latest privileged:latest privileged:latest",
            &[
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"none\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.01\": must be \"latest\" \
                 or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"none\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \
                 \"v1.x\"",
            ],
        ),
    ];
    for (labels, expect, faults) in table {
        let label = |key: &str| labels.iter().find(|(i, _)| LABELS[*i] == key).map(|(_, value)| *value);
        let (policy, errors) = Policy::of_labels(label, &Policy::PRIVILEGED);
        assert_eq!(format!("{} {} {}", policy.enforce, policy.audit, policy.warn), *expect, "{labels:?}");
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, *faults);
    }
}
