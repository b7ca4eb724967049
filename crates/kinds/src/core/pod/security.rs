//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::{Value, json};

use super::options::Options;
use super::visit;
use crate::check::{descending, flag, int, items, one_of_if_set, present, text};

fn id(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(id) = int(object, field) {
        check_id(id, &path.child(field), errors);
    }
}

/// The number of a user or group.
pub fn check_id(id: i64, path: &Path<'_>, errors: &mut ErrorList) {
    errors.extend(names::is_user_or_group_id(id).into_iter().map(|why| Error::invalid(path, id, why)));
}

/// A container's. `host_users`: the pod has no user namespace of its own.
pub fn container(context: &Value, host_users: bool, path: &Path<'_>, errors: &mut ErrorList) {
    id(context, "runAsUser", path, errors);
    id(context, "runAsGroup", path, errors);
    let at = path.child("procMount");
    one_of_if_set(context.get("procMount"), &["Default", "Unmasked"], &at, errors);
    if host_users && text(context, "procMount") == "Unmasked" {
        errors.push(Error::invalid(&at, "Unmasked", "`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(context, path, errors);
    if context.get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        if flag(context, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, context.clone(), why));
        }
        let added = present(context, "capabilities").map(|set| items(set, "add")).unwrap_or_default();
        for _ in added.iter().filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, context.clone(), why));
        }
    }
    windows_options(context, path, errors);
    if let Some(profile) = present(context, "appArmorProfile") {
        app_armor(profile, &path.child("appArmorProfile"), errors);
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(profile) = present(context, "seccompProfile") else { return };
    let path = path.child("seccompProfile");
    let local = present(profile, "localhostProfile").and_then(Value::as_str);
    let kind = text(profile, "type");
    match kind {
        "" => {
            errors.push(Error::required(&path.child("type"), "type is required when seccompProfile is set"))
        }
        kind if !PROFILES.contains(&kind) => {
            errors.push(Error::not_supported(&path.child("type"), kind, PROFILES));
        }
        _ => {}
    }
    let at = path.child("localhostProfile");
    match (kind, local) {
        ("Localhost", None) => {
            errors.push(Error::required(&at, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => descending(file, &at, errors),
        (_, Some(file)) => {
            let shown = json!({"Type": kind, "LocalhostProfile": file});
            errors.push(Error::invalid(&at, shown, "can only be set when seccomp type is Localhost"));
        }
        (_, None) => {}
    }
}

/// An AppArmor profile (KEP-24).
pub fn app_armor(profile: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    /// `PATH_MAX` less the final zero.
    const LONGEST: usize = 4095;
    let local = present(profile, "localhostProfile").and_then(Value::as_str);
    let at = path.child("localhostProfile");
    let needed = || Error::required(&at, "must be set when AppArmor type is Localhost");
    match text(profile, "type") {
        "Localhost" => match local {
            None => errors.push(needed()),
            Some(file) => {
                if file.trim() != file {
                    errors.push(Error::invalid(&at, file, "must not be padded with whitespace"));
                } else if file.is_empty() {
                    errors.push(needed());
                }
                if file.len() > LONGEST {
                    errors.push(Error::too_long(&at, LONGEST));
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = local {
                errors.push(Error::invalid(&at, file, "can only be set when AppArmor type is Localhost"));
            }
        }
        "" => {
            errors.push(Error::required(&path.child("type"), "type is required when appArmorProfile is set"))
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, PROFILES)),
    }
}

/// A pod's, with the host namespaces of the spec that it must go with.
pub fn pod(spec: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(context) = present(spec, "securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, path, errors);
    }
    let groups = path.child("supplementalGroups");
    for (index, group) in items(context, "supplementalGroups").iter().enumerate() {
        check_id(group.as_i64().unwrap_or(0), &groups.index(index), errors);
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    sysctls(spec, items(context, "sysctls"), options, &path.child("sysctls"), errors);
    let at = path.child("fsGroupChangePolicy");
    one_of_if_set(context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], &at, errors);
    seccomp(context, path, errors);
    windows_options(context, path, errors);
    if let Some(profile) = present(context, "appArmorProfile") {
        app_armor(profile, &path.child("appArmorProfile"), errors);
    }
    let at = path.child("supplementalGroupsPolicy");
    one_of_if_set(context.get("supplementalGroupsPolicy"), &["Merge", "Strict"], &at, errors);
    // KEP-1710: mounting with a label is off by default.
    let policies: &[&str] =
        if options.selinux_change_policy { &["MountOption", "Recursive"] } else { &["Recursive"] };
    one_of_if_set(context.get("seLinuxChangePolicy"), policies, &path.child("seLinuxChangePolicy"), errors);
}

fn sysctls(spec: &Value, list: &[Value], options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in list.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Error::invalid(&at, name, why));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&at, name));
        }
        if let Some(why) = host_sysctl(name, spec).filter(|_| !options.host_sysctls) {
            errors.push(Error::invalid(&at, name, why));
        }
        seen.insert(name);
    }
}

/// Why a setting of a namespace cannot be had in a pod that uses the host's.
pub fn host_sysctl(name: &str, spec: &Value) -> Option<&'static str> {
    const IPC: &[&str] = &[
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    ];
    // Written with slashes, dots and slashes change places.
    let name = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let name = name.split('*').next().unwrap_or_default();
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return flag(spec, "hostIPC").then_some("may not be specified when 'hostIPC' is true");
    }
    (name.starts_with("net.") && flag(spec, "hostNetwork"))
        .then_some("may not be specified when 'hostNetwork' is true")
}

fn is_sysctl(name: &str) -> bool {
    let segment = |segment: &str| {
        let ends =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        ends(segment.bytes().next())
            && ends(segment.bytes().next_back())
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// Host namespaces do not go with user namespaces of their own (KEP-127).
pub fn host_users(spec: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.get("hostUsers").and_then(Value::as_bool) != Some(false) {
        return;
    }
    let why = "when `hostUsers` is false";
    for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) && !(field == "hostNetwork" && options.host_network_with_users) {
            errors.push(Error::forbidden(&path.child(name), why));
        }
    }
    if !options.devices_with_users {
        visit(spec, path, |container, path| {
            if !items(container, "volumeDevices").is_empty() {
                errors.push(Error::forbidden(&path.child("volumeDevices"), why));
            }
        });
    }
}

/// What pods of one operating system cannot have.
pub fn operating_system(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const LINUX_POD: &[&str] = &["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"];
    let Some(os) = present(spec, "os") else { return };
    let context = present(spec, "securityContext").unwrap_or(&Value::Null);
    let at = path.child("securityContext");
    match text(os, "name") {
        "" => errors.push(Error::required(&path.child("os.name"), "")),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            if present(context, "windowsOptions").is_some() {
                errors.push(Error::forbidden(&at.child("windowsOptions"), why));
            }
            visit(spec, path, |container, path| {
                if present(&container["securityContext"], "windowsOptions").is_some() {
                    errors.push(Error::forbidden(&path.child("securityContext.windowsOptions"), why));
                }
            });
        }
        "windows" => {
            let why = "cannot be set for a windows pod";
            let mut forbid = |given: bool, path: &Path<'_>| {
                if given {
                    errors.push(Error::forbidden(path, why));
                }
            };
            let has = |field: &str| present(context, field).is_some();
            for field in ["appArmorProfile", "seLinuxOptions"] {
                forbid(has(field), &at.child(field));
            }
            forbid(present(spec, "hostUsers").is_some(), &path.child("hostUsers"));
            for field in ["hostPID", "hostIPC"] {
                forbid(flag(spec, field), &path.child(field));
            }
            for field in LINUX_POD {
                forbid(has(field), &at.child(field));
            }
            forbid(present(spec, "shareProcessNamespace").is_some(), &path.child("shareProcessNamespace"));
            for field in [
                "runAsUser",
                "runAsGroup",
                "supplementalGroups",
                "supplementalGroupsPolicy",
                "seLinuxChangePolicy",
            ] {
                forbid(has(field), &at.child(field));
            }
            visit(spec, path, |container, path| windows_container(container, why, path, errors));
        }
        other => errors.push(Error::not_supported(&path.child("os"), other, ["linux", "windows"])),
    }
}

fn windows_container(container: &Value, why: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const LINUX: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let at = path.child("securityContext");
    for field in LINUX {
        if present(&container["securityContext"], field).is_some() {
            errors.push(Error::forbidden(&at.child(field), why));
        }
    }
}

fn windows_options(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(options) = present(context, "windowsOptions") else { return };
    let path = path.child("windowsOptions");
    let of = |field: &str| present(options, field).and_then(Value::as_str);
    if let Some(name) = of("gmsaCredentialSpecName") {
        crate::check::subdomain(name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(spec) = of("gmsaCredentialSpec") {
        let at = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(Error::invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > 64 * 1024 {
            errors.push(Error::invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB"));
        }
    }
    if let Some(name) = of("runAsUserName") {
        let at = path.child("runAsUserName");
        errors.extend(user_name(name).into_iter().map(|why| Error::invalid(&at, name, why)));
    }
}

/// What is wrong with `user` or `domain\user`.
fn user_name(name: &str) -> Vec<String> {
    const ODD: &[char] = &['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'];
    let one = |why: &str| vec![format!("runAsUserName {why}")];
    if name.is_empty() {
        return one("cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return one("cannot contain control characters");
    }
    if name.matches('\\').count() > 1 {
        return one("cannot contain more than one backslash");
    }
    let (domain, user) = name.split_once('\\').map_or((None, name), |(domain, user)| (Some(domain), user));
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(format!("runAsUserName's {what}"));
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            fault("Domain length must be under 256 characters");
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            fault("Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        fault("User cannot be empty");
    } else if user.len() > 104 {
        fault("User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        fault("User cannot contain only periods or spaces");
    }
    if user.contains(ODD) {
        fault("User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    faults
}

fn is_net_bios(domain: &str) -> bool {
    let odd = |c: char| ['\\', '/', ':', '*', '?', '"', '<', '>', '|'].contains(&c);
    let count = domain.chars().count();
    (1..=15).contains(&count) && !domain.starts_with('.') && !domain.contains(odd)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        label.len() <= 63
            && word(label.bytes().next())
            && word(label.bytes().next_back())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Windows containers that run as processes of the host: all or none of a pod (KEP-1981).
pub fn host_process(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |object: &Value| {
        object.pointer("/securityContext/windowsOptions/hostProcess").and_then(Value::as_bool)
    };
    let pod = of(spec);
    let (mut all, mut hosted) = (0, 0);
    visit(spec, path, |container, path| {
        all += 1;
        let own = of(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(Error::invalid(&path.child("securityContext.windowsOptions.hostProcess"), own, why));
        }
        hosted += usize::from(own.or(pod) == Some(true));
    });
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", why));
    }
    if !flag(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, why));
    }
}
