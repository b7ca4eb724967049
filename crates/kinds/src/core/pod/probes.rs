//! What is done to a container that runs: probes, hooks, the signal that ends it.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{int, items, messages, not_negative, port, present, text};

/// The signals that a container of a Linux pod can be ended with, sorted as upstream lists them.
const LINUX_SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const WINDOWS_SIGNALS: &[&str] = &["SIGKILL", "SIGTERM"];

/// Hooks and probes of a container that goes on running. `os` is the pod's, if it says one.
pub fn long_running(
    container: &Value,
    grace: Option<i64>,
    os: Option<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if let Some(lifecycle) = present(container, "lifecycle") {
        let path = path.child("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = present(lifecycle, hook) {
                self::handler(handler, grace, &path.child(hook), errors);
            }
        }
        if let Some(signal) = present(lifecycle, "stopSignal").and_then(Value::as_str) {
            stop_signal(signal, os, &path.child("stopSignal"), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = present(container, name) {
            self::probe(probe, name, grace, &path.child(name), errors);
        }
    }
}

fn stop_signal(signal: &str, os: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let known = match os {
        None => {
            let why = "may not be set for containers with empty `spec.os.name`";
            errors.push(Error::forbidden(path, why));
            return;
        }
        Some("windows") => WINDOWS_SIGNALS,
        Some("linux") => LINUX_SIGNALS,
        Some(_) => return,
    };
    if !known.contains(&signal) {
        errors.push(Error::not_supported(path, signal, known));
    }
}

fn probe(probe: &Value, name: &str, grace: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    handler(probe, grace, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(probe, field, path, errors);
    }
    let own = int(probe, "terminationGracePeriodSeconds");
    let at = path.child("terminationGracePeriodSeconds");
    if let Some(own) = own.filter(|own| *own <= 0) {
        errors.push(Error::invalid(&at, own, "must be greater than 0"));
    }
    let threshold = int(probe, "successThreshold").unwrap_or(0);
    if name != "readinessProbe" {
        if threshold != 1 {
            errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
        }
    } else if let Some(own) = own {
        errors.push(Error::invalid(&at, own, "must not be set for readinessProbes"));
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
                    && (seconds < 0 || seconds > grace)
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
        messages(names::is_http_header_name(name), &name.into(), &path.child("httpHeaders"), errors);
    }
}
