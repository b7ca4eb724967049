//! The single checks and from which release on each holds (upstream `policy/check_*.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Level, Standard, Version, Violation};
use crate::check::{flag, items, present, text};

/// Judges `metadata` and `spec` of a pod.
type Judge = fn(&Value, &Value) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor release on which rule holds, rising.
    versions: &'static [(u32, Judge)],
    /// The baseline check that is not asked where this one is.
    instead_of: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u32, Judge)]) -> Check {
    Check { id, level: Level::Baseline, versions, instead_of: "" }
}

const fn restricted(id: &'static str, instead_of: &'static str, versions: &'static [(u32, Judge)]) -> Check {
    Check { id, level: Level::Restricted, versions, instead_of }
}

/// The release after which no check changed: newer versions and `latest` mean this one.
const NEWEST: u32 = 35;

/// In the order in which faults are told: by level, then by name.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, app_armor)]),
    baseline("capabilities_baseline", &[(0, capabilities)]),
    baseline("hostNamespaces", &[(0, host_namespaces)]),
    baseline("hostPathVolumes", &[(0, host_path_volumes)]),
    baseline("hostPorts", &[(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    baseline("privileged", &[(0, privileged)]),
    baseline("procMount", &[(0, proc_mount), (35, |m, s| unless_user_namespace(proc_mount, m, s))]),
    baseline("seLinuxOptions", &[(0, |_, s| selinux(s, 4)), (31, |_, s| selinux(s, 5))]),
    baseline("seccompProfile_baseline", &[(0, seccomp_annotations), (19, |_, s| seccomp(s, false))]),
    baseline(
        "sysctls",
        &[
            (0, |_, s| sysctls(s, 5)),
            (27, |_, s| sysctls(s, 6)),
            (29, |_, s| sysctls(s, 10)),
            (32, |_, s| sysctls(s, 12)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        "",
        &[(8, privilege_escalation), (25, |m, s| unless_windows(privilege_escalation, m, s))],
    ),
    restricted(
        "capabilities_restricted",
        "capabilities_baseline",
        &[(22, capabilities_restricted), (25, |m, s| unless_windows(capabilities_restricted, m, s))],
    ),
    restricted("procMount_restricted", "procMount", &[(35, proc_mount)]),
    restricted("restrictedVolumes", "hostPathVolumes", &[(0, volumes)]),
    restricted("runAsNonRoot", "", &[(0, non_root), (35, |m, s| unless_user_namespace(non_root, m, s))]),
    restricted("runAsUser", "", &[(23, user), (35, |m, s| unless_user_namespace(user, m, s))]),
    restricted(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[(19, |_, s| seccomp(s, true)), (25, |m, s| unless_windows(|_, s| seccomp(s, true), m, s))],
    ),
];

/// The rules of a standard, in order.
pub(super) fn of(standard: Standard) -> impl Iterator<Item = Judge> {
    let minor = match standard.version {
        Version::Latest => NEWEST,
        Version::Minor(minor) => minor.min(NEWEST),
    };
    let applies = move |check: &Check| {
        let rule = check.versions.iter().rev().find(|(from, _)| *from <= minor)?;
        (check.level <= standard.level).then_some(rule.1)
    };
    CHECKS.iter().filter_map(move |check| {
        let replaced = CHECKS.iter().any(|other| other.instead_of == check.id && applies(other).is_some());
        applies(check).filter(|_| !replaced)
    })
}

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

fn unless_windows(judge: Judge, metadata: &Value, spec: &Value) -> Option<Violation> {
    if text(&spec["os"], "name") == "windows" { None } else { judge(metadata, spec) }
}

/// Root in a user namespace is nobody outside (KEP-127).
fn unless_user_namespace(judge: Judge, metadata: &Value, spec: &Value) -> Option<Violation> {
    if spec["hostUsers"] == false { None } else { judge(metadata, spec) }
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(spec, list))
}

/// The names of the containers that are bad.
fn bad<'a>(spec: &'a Value, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
    containers(spec).filter(|container| is_bad(container)).map(|container| text(container, "name")).collect()
}

fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}

fn quoted<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("\"{}\"", word.as_ref())).collect();
    words.join(", ")
}

/// `container "a"`, `containers "a", "b"`
fn named(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// `pod and container "a"`
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let pod = pod.then(|| "pod".to_owned());
    let names = (!names.is_empty()).then(|| named(names));
    let all: Vec<String> = pod.into_iter().chain(names).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn context(of: &Value) -> &Value {
    &of["securityContext"]
}

fn app_armor(metadata: &Value, spec: &Value) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut sets_bad = |of| {
        let profile = present(context(of), "appArmorProfile").map(|profile| text(profile, "type"));
        let profile = profile.filter(|profile| !matches!(*profile, "RuntimeDefault" | "Localhost"));
        profile.map(|profile| values.insert(profile.to_owned())).is_some()
    };
    let pod = sets_bad(spec);
    let names = bad(spec, sets_bad);
    let mut annotations: Vec<String> = crate::check::entries(metadata, "annotations")
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| {
            let allowed = matches!(*value, "" | "runtime/default") || value.starts_with("localhost/");
            key.starts_with(ANNOTATION) && !allowed
        })
        .map(|(key, value)| format!("{key}={}", apimachinery::field::quote(value)))
        .collect();
    annotations.sort();
    let annotated = plural(annotations.len(), "annotation", "annotations");
    let by = match (setters(pod, &names), annotations.is_empty()) {
        (None, true) => return None,
        (Some(by), true) => by,
        (Some(by), false) => format!("{by} and {annotated}"),
        (None, false) => annotated.to_owned(),
    };
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    violation(reason, format!("{by} must not set AppArmor profile type to {}", quoted(values)))
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The containers that add capabilities besides those allowed, and what they add.
fn adding<'a>(spec: &'a Value, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut added = BTreeSet::new();
    let names = bad(spec, |container| {
        let list = items(&context(container)["capabilities"], "add").iter().filter_map(Value::as_str);
        let forbidden: Vec<&str> = list.filter(|name| !allowed.contains(name)).collect();
        added.extend(forbidden.iter().copied());
        !forbidden.is_empty()
    });
    (names, added)
}

fn added(names: &[&str], capabilities: &BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", named(names), quoted(capabilities))
}

fn capabilities(_: &Value, spec: &Value) -> Option<Violation> {
    let (names, capabilities) = adding(spec, &CAPABILITIES);
    (!names.is_empty()).then(|| violation("non-default capabilities", added(&names, &capabilities)))?
}

fn capabilities_restricted(_: &Value, spec: &Value) -> Option<Violation> {
    let keeping = bad(spec, |container| {
        !items(&context(container)["capabilities"], "drop").iter().any(|name| name == "ALL")
    });
    let (names, capabilities) = adding(spec, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !names.is_empty() {
        details.push(added(&names, &capabilities));
    }
    (!details.is_empty()).then(|| violation("unrestricted capabilities", details.join("; ")))?
}

fn host_namespaces(_: &Value, spec: &Value) -> Option<Violation> {
    let used = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| flag(spec, field));
    let used: Vec<String> = used.map(|field| format!("{field}=true")).collect();
    (!used.is_empty()).then(|| violation("host namespaces", used.join(", ")))?
}

fn host_path_volumes(_: &Value, spec: &Value) -> Option<Violation> {
    let names = items(spec, "volumes").iter().filter(|v| present(v, "hostPath").is_some());
    let names: Vec<&str> = names.map(|volume| text(volume, "name")).collect();
    let detail = || format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names));
    (!names.is_empty()).then(|| violation("hostPath volumes", detail()))?
}

fn host_ports(_: &Value, spec: &Value) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = bad(spec, |container| {
        let list = items(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
        let taken: Vec<String> = list.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let any = !taken.is_empty();
        ports.extend(taken);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (uses, port) = (plural(names.len(), "uses", "use"), plural(ports.len(), "hostPort", "hostPorts"));
    let ports: Vec<String> = ports.into_iter().collect();
    violation("hostPort", format!("{} {uses} {port} {}", named(&names), ports.join(", ")))
}

fn probe_hosts(_: &Value, spec: &Value) -> Option<Violation> {
    const WHERE: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let mut hosts = BTreeSet::new();
    let names: BTreeSet<&str> = bad(spec, |container| {
        let handlers = WHERE.iter().filter_map(|pointer| container.pointer(pointer));
        let all = handlers.flat_map(|h| [text(&h["httpGet"], "host"), text(&h["tcpSocket"], "host")]);
        let given: Vec<&str> = all.filter(|host| !host.is_empty()).collect();
        hosts.extend(given.iter().copied());
        !given.is_empty()
    })
    .into_iter()
    .collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural(names.len(), "uses", "use");
    let host = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    violation("probe or lifecycle host", format!("{} {uses} {host} {}", named(&names), quoted(&hosts)))
}

fn privileged(_: &Value, spec: &Value) -> Option<Violation> {
    let names = bad(spec, |container| flag(context(container), "privileged"));
    let detail = || format!("{} must not set securityContext.privileged=true", named(&names));
    (!names.is_empty()).then(|| violation("privileged", detail()))?
}

fn proc_mount(_: &Value, spec: &Value) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let names = bad(spec, |container| {
        let kind = context(container)["procMount"].as_str().filter(|kind| *kind != "Default");
        kind.map(|kind| types.insert(kind)).is_some()
    });
    let detail = || format!("{} must not set securityContext.procMount to {}", named(&names), quoted(&types));
    (!names.is_empty()).then(|| violation("procMount", detail()))?
}

const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// `allowed`: how many of the types above.
fn selinux(spec: &Value, allowed: usize) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut sets_bad = |of| {
        let Some(options) = present(context(of), "seLinuxOptions") else { return false };
        let kind = text(options, "type");
        let bad_kind = !SELINUX_TYPES.iter().take(allowed).any(|known| *known == kind);
        if bad_kind {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (!text(options, "user").is_empty(), !text(options, "role").is_empty());
        user |= sets_user;
        role |= sets_role;
        bad_kind || sets_user || sets_role
    };
    let pod = sets_bad(spec);
    let names = bad(spec, sets_bad);
    let by = setters(pod, &names)?;
    let types =
        (!types.is_empty()).then(|| format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let data: Vec<String> = types.into_iter().chain(user).chain(role).collect();
    let detail = format!("{by} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    violation("seLinuxOptions", detail)
}

/// Before 1.19 annotations said it.
fn seccomp_annotations(metadata: &Value, spec: &Value) -> Option<Violation> {
    let keys = containers(spec)
        .map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", text(c, "name")))
        .chain(["seccomp.security.alpha.kubernetes.io/pod".to_owned()]);
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = metadata["annotations"].get(&key)?.as_str()?;
            let valid =
                matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!valid).then(|| format!("{key}={}", apimachinery::field::quote(value)))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let annotations = plural(forbidden.len(), "annotation", "annotations");
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    violation("seccompProfile", format!("forbidden {annotations} {}", forbidden.join(", ")))
}

/// `required`: leaving it out is a fault, too.
fn seccomp(spec: &Value, required: bool) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut sets_bad = |of| {
        let Some(profile) = present(context(of), "seccompProfile") else { return false };
        let kind = text(profile, "type");
        let bad_kind = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad_kind {
            values.insert(kind.to_owned());
        }
        bad_kind
    };
    let pod = sets_bad(spec);
    let names = bad(spec, sets_bad);
    if let Some(by) = setters(pod, &names) {
        let detail = format!("{by} must not set securityContext.seccompProfile.type to {}", quoted(&values));
        return violation("seccompProfile", detail);
    }
    let of_pod = present(context(spec), "seccompProfile").is_some();
    let names = bad(spec, |c| !of_pod && present(context(c), "seccompProfile").is_none());
    if names.is_empty() || !required {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&names)
    );
    violation("seccompProfile", detail)
}

const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// `allowed`: how many of the names above.
fn sysctls(spec: &Value, allowed: usize) -> Option<Violation> {
    let names = items(context(spec), "sysctls").iter().map(|sysctl| text(sysctl, "name"));
    let names: Vec<&str> =
        names.filter(|name| !SYSCTLS.iter().take(allowed).any(|known| known == name)).collect();
    (!names.is_empty()).then(|| violation("forbidden sysctls", names.join(", ")))?
}

fn windows_host_process(_: &Value, spec: &Value) -> Option<Violation> {
    let sets = |of| flag(&context(of)["windowsOptions"], "hostProcess");
    let by = setters(sets(spec), &bad(spec, sets))?;
    violation("hostProcess", format!("{by} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(_: &Value, spec: &Value) -> Option<Violation> {
    let names = bad(spec, |container| context(container)["allowPrivilegeEscalation"] != false);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&names));
    (!names.is_empty()).then(|| violation("allowPrivilegeEscalation != false", detail()))?
}

fn volumes(_: &Value, spec: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    // What is asked first names the volume, should it have several sources.
    const RESTRICTED: [&str; 21] = [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "nfs",
        "iscsi",
        "glusterfs",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "fc",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "portworxVolume",
        "scaleIO",
        "storageos",
    ];
    let has = |volume: &Value, kinds: &[&'static str]| {
        kinds.iter().find(|kind| present(volume, kind).is_some()).copied()
    };
    let refused = items(spec, "volumes").iter().filter(|volume| has(volume, &ALLOWED).is_none());
    let (names, kinds): (Vec<&str>, BTreeSet<&str>) =
        refused.map(|volume| (text(volume, "name"), has(volume, &RESTRICTED).unwrap_or("unknown"))).unzip();
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural(names.len(), "volume", "volumes"),
        quoted(&names),
        plural(names.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(&kinds),
    );
    violation("restricted volume types", detail)
}

fn non_root(_: &Value, spec: &Value) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let choice = |of| context(of)["runAsNonRoot"].as_bool();
    let names = bad(spec, |container| choice(container) == Some(false));
    if let Some(by) = setters(choice(spec) == Some(false), &names) {
        return violation(REASON, format!("{by} must not set securityContext.runAsNonRoot=false"));
    }
    let names = bad(spec, |container| choice(container).is_none() && choice(spec).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", named(&names));
    (!names.is_empty()).then(|| violation(REASON, detail()))?
}

fn user(_: &Value, spec: &Value) -> Option<Violation> {
    let is_root = |of| context(of)["runAsUser"].as_i64() == Some(0);
    let by = setters(is_root(spec), &bad(spec, is_root))?;
    violation("runAsUser=0", format!("{by} must not set runAsUser=0"))
}
