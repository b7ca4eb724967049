//! Containers: ports, environment, mounts, probes, hooks, resources.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::security;
use crate::check::{
    descending, entries, flag, int, items, label, messages, no_backsteps, not_negative, one_of, port,
    present, qualified, quantity, text,
};

/// What the containers of a pod share.
pub struct Pod<'a> {
    /// Name → volume, of the volumes that are valid.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    pub grace: Option<i64>,
}

/// The containers proper.
pub fn containers(list: &[Value], pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        common(container, pod, &path, errors);
        if !seen.insert(text(container, "name")) {
            errors.push(Error::duplicate(&path.child("name"), text(container, "name")));
        }
        long_running(container, pod, &path, errors);
        if present(container, "restartPolicy").is_some() {
            restart_policy(container, &path, errors);
        }
    }
    host_ports(list, path, errors);
}

/// Init containers; those with restartPolicy Always are sidecars and may have what containers have.
pub fn init_containers(
    list: &[Value],
    regular: &[Value],
    pod: &Pod<'_>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let mut seen: BTreeSet<&str> = regular.iter().map(|container| text(container, "name")).collect();
    for (index, container) in list.iter().enumerate() {
        let at = path.index(index);
        common(container, pod, &at, errors);
        if present(container, "restartPolicy").is_some() {
            restart_policy(container, &at, errors);
        }
        let name = text(container, "name");
        if seen.contains(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        } else if !name.is_empty() {
            seen.insert(name);
        }
        host_ports(std::slice::from_ref(container), path, errors);
        if text(container, "restartPolicy") == "Always" {
            long_running(container, pod, &at, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if present(container, field).is_some() {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(Error::forbidden(&at.child(field), why));
            }
        }
    }
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let supported = ["Always", "Never", "OnFailure"];
    one_of(text(container, "restartPolicy"), &supported, &path.child("restartPolicy"), errors);
}

fn common(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    match text(container, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => label(name, &path.child("name"), errors),
    }
    if text(container, "image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let policy = path.child("terminationMessagePolicy");
    one_of(text(container, "terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], &policy, errors);
    ports(items(container, "ports"), &path.child("ports"), errors);
    env(items(container, "env"), &path.child("env"), errors);
    env_from(items(container, "envFrom"), &path.child("envFrom"), errors);
    mounts(container, pod, &path.child("volumeMounts"), errors);
    devices(container, pod, &path.child("volumeDevices"), errors);
    one_of(
        text(container, "imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        &path.child("imagePullPolicy"),
        errors,
    );
    if let Some(resources) = present(container, "resources") {
        self::resources(resources, &path.child("resources"), errors);
    }
    if let Some(context) = present(container, "securityContext") {
        security::container(context, &path.child("securityContext"), errors);
    }
}

fn ports(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let faults = names::is_port_name(name);
            if faults.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            messages(faults, &name.into(), &path.child("name"), errors);
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => {
                messages(names::is_port_number(number), &number.into(), &path.child("containerPort"), errors)
            }
        }
        if let Some(number) = int(port, "hostPort").filter(|number| *number != 0) {
            messages(names::is_port_number(number), &number.into(), &path.child("hostPort"), errors);
        }
        one_of(text(port, "protocol"), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    }
}

/// Two containers of a pod cannot have the same host port.
fn host_ports(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("ports");
        for (index, port) in items(container, "ports").iter().enumerate() {
            let Some(number) = int(port, "hostPort").filter(|number| *number != 0) else { continue };
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                errors.push(Error::duplicate(&path.index(index).child("hostPort"), key));
            } else {
                seen.insert(key);
            }
        }
    }
}

fn env(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, variable) in list.iter().enumerate() {
        let path = path.index(index);
        match text(variable, "name") {
            "" => errors.push(Error::required(&path.child("name"), "")),
            name => messages(names::is_relaxed_env_var_name(name), &name.into(), &path.child("name"), errors),
        }
        if let Some(source) = present(variable, "valueFrom") {
            value_from(source, text(variable, "value"), &path.child("valueFrom"), errors);
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(source: &Value, value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = present(source, "fieldRef") {
        sources += 1;
        field_selector(field, ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(field) = present(source, "resourceFieldRef") {
        sources += 1;
        resource_selector(field, false, &path.child("resourceFieldRef"), errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = present(source, name) {
            sources += 1;
            key_selector(selector, &path.child(name), errors);
        }
    }
    if let Some(selector) = present(source, "fileKeyRef") {
        sources += 1;
        let path = path.child("fileKeyRef");
        for name in ["key", "volumeName", "path"] {
            if text(selector, name).is_empty() {
                errors.push(Error::required(&path.child(name), ""));
            }
        }
        no_backsteps(text(selector, "path"), &path.child("path"), errors);
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", why));
    } else if !value.is_empty() {
        errors.push(Error::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = text(selector, "name");
    messages(names::is_dns1123_subdomain(name), &name.into(), &path.child("name"), errors);
    match text(selector, "key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => messages(names::is_config_map_key(key), &key.into(), &path.child("key"), errors),
    }
}

/// `metadata.labels['x']` and the like, or one of the plain fields.
pub fn field_selector(selector: &Value, plain: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for name in ["apiVersion", "fieldPath"] {
        if text(selector, name).is_empty() {
            errors.push(Error::required(&path.child(name), ""));
            return;
        }
    }
    let field = text(selector, "fieldPath");
    let subscript = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => qualified(&key.to_lowercase(), path, errors),
        Some(("metadata.labels", key)) => qualified(key, path, errors),
        Some((other, _)) => errors.push(Error::invalid(path, other, "does not support subscript")),
        None if plain.contains(&field) => {}
        None if ENV_FIELDS.contains(&field)
            || matches!(field, "metadata.labels" | "metadata.annotations") =>
        {
            errors.push(Error::not_supported(&path.child("fieldPath"), field, plain));
        }
        None => {
            let why = format!("error converting fieldPath: field label not supported: {field}");
            errors.push(Error::invalid(&path.child("fieldPath"), field, why));
        }
    }
}

/// A container's request or limit as a value; in a volume the container must be named.
pub fn resource_selector(selector: &Value, volume: bool, path: &Path<'_>, errors: &mut ErrorList) {
    const FIELDS: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(selector, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && text(selector, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !FIELDS.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, FIELDS));
    }
    let divisor = present(selector, "divisor").and_then(|divisor| Quantity::from_value(divisor).ok());
    let Some(divisor) = divisor.filter(|divisor| !divisor.is_zero()) else { return };
    let divisor = divisor.canonical();
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (known, what): (&[&str], &str) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "only divisor's values 1m and 1 are supported with the cpu resource"),
        "memory" => (&sizes, "memory"),
        "ephemeral-storage" => (&sizes, "local ephemeral storage"),
        name if name.starts_with("hugepages-") => (&sizes, "hugepages"),
        _ => return,
    };
    if !known.contains(&divisor.as_str()) {
        let why = match what.starts_with("only") {
            true => what.to_owned(),
            false => {
                format!("only divisor's values {} are supported with the {what} resource", sizes.join(", "))
            }
        };
        errors.push(Error::invalid(&path.child("divisor"), resource, why));
    }
}

fn env_from(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, source) in list.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            messages(names::is_relaxed_env_var_name(prefix), &prefix.into(), &at.child("prefix"), errors);
        }
        let mut sources = 0;
        for name in ["configMapRef", "secretRef"] {
            let Some(reference) = present(source, name) else { continue };
            sources += 1;
            let at = at.child(name);
            match text(reference, "name") {
                "" => errors.push(Error::required(&at.child("name"), "")),
                name => messages(names::is_dns1123_subdomain(name), &name.into(), &at.child("name"), errors),
            }
        }
        // Upstream reports these two at the whole list.
        match sources {
            0 => errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"))
            }
        }
    }
}

fn mounts(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    let devices = items(container, "volumeDevices");
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if !pod.volumes.contains_key(name) {
            errors.push(Error::not_found(&at.child("name"), name));
        }
        if target.is_empty() {
            errors.push(Error::required(&at.child("mountPath"), ""));
        }
        if !seen.insert(target) {
            errors.push(Error::invalid(&at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            errors.push(Error::invalid(&at.child("name"), name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&at.child("mountPath"), target, why));
        }
        let (sub, expr) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &path.child("subPath"), errors);
        }
        if !expr.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&at.child("subPathExpr"), expr, why));
            }
            descending(expr, &path.child("subPathExpr"), errors);
        }
        if let Some(propagation) = present(mount, "mountPropagation").and_then(Value::as_str) {
            let at = path.child("mountPropagation");
            let supported = ["Bidirectional", "HostToContainer", "None"];
            if !supported.contains(&propagation) {
                errors.push(Error::not_supported(&at, propagation, supported));
            }
            let privileged = present(container, "securityContext").is_some_and(|sc| flag(sc, "privileged"));
            if propagation == "Bidirectional" && !privileged {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(Error::forbidden(&at, why));
            }
        }
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(recursive) = present(mount, "recursiveReadOnly").and_then(Value::as_str) else { return };
    match recursive {
        "Disabled" => {}
        "IfPossible" | "Enabled" => {
            if !flag(mount, "readOnly") {
                errors.push(Error::forbidden(path, "may only be specified when readOnly is true"));
            }
            if !matches!(text(mount, "mountPropagation"), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(path, why));
            }
        }
        other => {
            let supported = ["Disabled", "Enabled", "IfPossible"];
            errors.push(Error::not_supported(path, other, supported));
        }
    }
}

fn devices(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let (mut names_seen, mut paths_seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in items(container, "volumeDevices").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if !names_seen.insert(name) {
            errors.push(Error::invalid(&at.child("name"), name, "must be unique"));
        }
        match pod.volumes.get(name) {
            None => errors.push(Error::not_found(&at.child("name"), name)),
            Some(volume)
                if present(volume, "persistentVolumeClaim").is_none()
                    && present(volume, "ephemeral").is_none() =>
            {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&at.child("name"), name, why));
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.push(Error::required(&at.child("devicePath"), ""));
        }
        if !paths_seen.insert(target) {
            errors.push(Error::invalid(&at.child("devicePath"), target, "must be unique"));
        }
        no_backsteps(target, &at.child("devicePath"), errors);
    }
}

/// What only containers have that go on running.
fn long_running(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(lifecycle) = present(container, "lifecycle") {
        let path = path.child("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = present(lifecycle, hook) {
                self::handler(handler, pod.grace, &path.child(hook), errors);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = present(container, name) else { continue };
        let path = path.child(name);
        handler(probe, pod.grace, &path, errors);
        for field in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            not_negative(probe, field, &path, errors);
        }
        let grace = int(probe, "terminationGracePeriodSeconds");
        if let Some(grace) = grace.filter(|grace| *grace <= 0) {
            errors.push(Error::invalid(
                &path.child("terminationGracePeriodSeconds"),
                grace,
                "must be greater than 0",
            ));
        }
        if name == "readinessProbe" {
            if let Some(grace) = grace {
                let why = "must not be set for readinessProbes";
                errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), grace, why));
            }
        } else if int(probe, "successThreshold") != Some(1) {
            let threshold = int(probe, "successThreshold").unwrap_or(0);
            errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
        }
    }
}

/// A probe's or a hook's action: exactly one.
fn handler(handler: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut handlers = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = present(handler, name) else { continue };
        let path = path.child(name);
        handlers += 1;
        if handlers > 1 {
            errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match name {
            "exec" => {
                if items(action, "command").is_empty() {
                    errors.push(Error::required(&path.child("command"), ""));
                }
            }
            "httpGet" => http_get(action, &path, errors),
            "sleep" => {
                let seconds = int(action, "seconds").unwrap_or(0);
                if let Some(grace) = grace
                    && !(0..=grace).contains(&seconds)
                {
                    let why =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.push(Error::invalid(&path, seconds, why));
                }
            }
            _ => port(action.get("port").unwrap_or(&Value::Null), &path.child("port"), errors),
        }
    }
    if handlers == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if text(action, "path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    port(action.get("port").unwrap_or(&Value::Null), &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, ["HTTP", "HTTPS"]));
    }
    for header in items(action, "httpHeaders") {
        let name = text(header, "name");
        let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !good {
            let why = names::regex_error(
                "a valid HTTP header must consist of alphanumeric characters or '-'",
                "[-A-Za-z0-9]+",
                &["X-Header-Name"],
            );
            errors.push(Error::invalid(&path.child("httpHeaders"), name, why));
        }
    }
}

/// Requests and limits: names, amounts, and that a request is not above its limit.
pub fn resources(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let limit_of =
        |name: &str| resources.pointer(&format!("/limits/{}", name.replace('~', "~0").replace('/', "~1")));
    for (name, amount) in entries(resources, "limits") {
        resource_name(name, &limits.key(name), errors);
        amount_of(name, amount, &limits.key(name), errors);
    }
    for (name, amount) in entries(resources, "requests") {
        resource_name(name, &requests.key(name), errors);
        let Some(amount) = amount_of(name, amount, &requests.key(name), errors) else { continue };
        let overcommit = !name.starts_with("hugepages-") && is_native(name);
        match limit_of(name).and_then(|limit| Quantity::from_value(limit).ok()) {
            Some(limit) if !overcommit && amount != limit => {
                let why = format!("must be equal to {name} limit of {}", limit.canonical());
                errors.push(Error::invalid(&requests, amount.canonical(), why));
            }
            Some(limit) if amount > limit => {
                let why = format!("must be less than or equal to {name} limit of {}", limit.canonical());
                errors.push(Error::invalid(&requests, amount.canonical(), why));
            }
            Some(_) => {}
            None if !overcommit => {
                errors.push(Error::required(&limits, "Limit must be set for non overcommitable resources"));
            }
            None => {}
        }
    }
}

/// A name without a domain, or with Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    qualified(name, path, errors);
    if errors.len() > before {
        return;
    }
    if !name.contains('/') {
        let standard =
            ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
        if !standard {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name)
        && (name.starts_with("requests.")
            || !names::is_qualified_name(&format!("requests.{name}")).is_empty())
    {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

fn amount_of(name: &str, amount: &Value, path: &Path<'_>, errors: &mut ErrorList) -> Option<Quantity> {
    let amount = quantity(amount, path, errors)?;
    let whole = !is_native(name);
    if whole && amount.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, amount.canonical(), "must be an integer"));
    }
    Some(amount)
}
