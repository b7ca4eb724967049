//! `/livez`, `/readyz`, `/healthz` and their named checks (upstream `apiserver/pkg/server/healthz`).

use std::sync::atomic::Ordering;

use http::{HeaderValue, Request, Response, header};

use crate::request::{Query, RequestInfo};
use crate::response;
use crate::server::{ApiServer, Body};

/// A name and what it finds wrong.
type Check = (&'static str, fn(&ApiServer) -> Result<(), String>);

fn ping(_: &ApiServer) -> Result<(), String> {
    Ok(())
}

/// The store takes reads; that it takes writes shows in those.
fn etcd(server: &ApiServer) -> Result<(), String> {
    let store = server.storage.store();
    store.range(&etcd::Range::key("/registry/health")).map(|_| ()).map_err(|e| e.to_string())
}

fn bootstrapped(server: &ApiServer) -> Result<(), String> {
    if server.ready.load(Ordering::Acquire) { Ok(()) } else { Err("not finished".into()) }
}

fn shutdown(server: &ApiServer) -> Result<(), String> {
    if server.shutdown.is_cancelled() { Err("process is shutting down".into()) } else { Ok(()) }
}

const HEALTHZ: &[Check] =
    &[("ping", ping), ("etcd", etcd), ("poststarthook/rbac/bootstrap-roles", bootstrapped)];
const LIVEZ: &[Check] = &[("ping", ping), ("etcd", etcd)];
const READYZ: &[Check] = &[
    ("ping", ping),
    ("etcd", etcd),
    ("poststarthook/rbac/bootstrap-roles", bootstrapped),
    ("shutdown", shutdown),
];

/// Answers the health paths; `None` for others.
pub fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    _: &Request<Body>,
) -> Option<Response<Body>> {
    let path = info.path.strip_prefix('/')?;
    let (root, name) = path.split_once('/').unwrap_or((path, ""));
    let checks = match root {
        "healthz" => HEALTHZ,
        "livez" => LIVEZ,
        "readyz" => READYZ,
        _ => return None,
    };
    if name.is_empty() {
        return Some(all(server, root, checks, query));
    }
    let (_, check) = checks.iter().find(|(n, _)| *n == name)?;
    Some(match check(server) {
        Ok(()) => plain(200, "ok".into()),
        Err(why) => response::text(500, &format!("internal server error: {why}")),
    })
}

fn all(server: &ApiServer, root: &str, checks: &[Check], query: &Query) -> Response<Body> {
    let (mut out, mut failed) = (String::new(), Vec::new());
    let excluded: Vec<&str> = query.all("exclude").collect();
    for (name, check) in checks {
        if excluded.contains(name) {
            out.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check(server) {
            Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                // Anybody may ask; why it failed is for the log.
                out.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(format!("{name}: {why}"));
            }
        }
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !checks.iter().any(|(n, _)| n == *name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        out.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if !failed.is_empty() {
        tracing::info!(check = root, failed = %failed.join("; "), "a health check failed");
        return response::text(500, &format!("{out}{root} check failed"));
    }
    match query.get("verbose") {
        None => plain(200, "ok".into()),
        Some(_) => plain(200, format!("{out}{root} check passed\n")),
    }
}

fn plain(code: u16, text: String) -> Response<Body> {
    let mut response = response::bytes(code, "text/plain; charset=utf-8", text);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
