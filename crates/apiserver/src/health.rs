//! `/livez`, `/readyz`, `/healthz` and their named checks (upstream `apiserver/pkg/server/healthz`).

use std::sync::atomic::Ordering;

use http::{HeaderValue, Request, Response, header};

use crate::bootstrap::HOOKS;
use crate::request::{Query, RequestInfo};
use crate::response;
use crate::server::{ApiServer, Body};

/// Says what is wrong.
type Check = fn(&ApiServer) -> Result<(), String>;

fn good(_: &ApiServer) -> Result<(), String> {
    Ok(())
}

/// The store takes reads; that it takes writes shows in those.
fn etcd(server: &ApiServer) -> Result<(), String> {
    let store = server.storage.store();
    store.range(&etcd::Range::key("/registry/health")).map(|_| ()).map_err(|e| e.to_string())
}

/// What is kept in memory is level with the store: there is no other cache.
fn informers(server: &ApiServer) -> Result<(), String> {
    if server.ready.load(Ordering::Acquire) { Ok(()) } else { Err("not finished".into()) }
}

fn shutdown(server: &ApiServer) -> Result<(), String> {
    if server.terminating.load(Ordering::Acquire) { Err("process is shutting down".into()) } else { Ok(()) }
}

const FIRST: [(&str, Check); 3] = [("ping", good), ("log", good), ("etcd", etcd)];
const READY: [(&str, Check); 3] =
    [("etcd-readiness", etcd), ("informer-sync", informers), ("shutdown", shutdown)];
const HOOK: &str = "poststarthook/";

/// The checks of `healthz`, `livez` or `readyz`, in upstream's order.
fn names(root: &str) -> Vec<String> {
    let ready = |from: usize, to: usize| READY[from..to].iter().filter(|_| root == "readyz");
    let first = FIRST.iter().chain(ready(0, 2)).map(|(name, _)| name.to_string());
    let hooks = HOOKS.iter().map(|name| format!("{HOOK}{name}"));
    first.chain(hooks).chain(ready(2, 3).map(|(name, _)| name.to_string())).collect()
}

fn check(server: &ApiServer, root: &str, name: &str) -> Result<(), String> {
    let result = match name.strip_prefix(HOOK) {
        Some(hook) if server.hook_is_finished(hook) => Ok(()),
        Some(_) => Err("not finished".into()),
        None => {
            let found = FIRST.iter().chain(&READY).find(|(known, _)| *known == name);
            found.map_or_else(|| Err("no such check".into()), |(_, check)| check(server))
        }
    };
    server.metrics.checked(root, name, result.is_ok());
    result
}

/// Every path that [`handle`] answers.
pub fn paths() -> Vec<String> {
    let of = |root: &'static str| {
        let below = names(root).into_iter().map(move |name| format!("/{root}/{name}"));
        [format!("/{root}")].into_iter().chain(below)
    };
    ["healthz", "livez", "readyz"].into_iter().flat_map(of).collect()
}

/// Answers the health paths; `None` for others.
pub fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    _: &Request<Body>,
) -> Option<Response<Body>> {
    let path = info.path.strip_prefix('/')?;
    let (root, name) = path.split_once('/').unwrap_or((path, ""));
    if !matches!(root, "healthz" | "livez" | "readyz") {
        return None;
    }
    let names = names(root);
    if name.is_empty() {
        return Some(all(server, root, &names, query));
    }
    names.iter().find(|known| *known == name)?;
    Some(match check(server, root, name) {
        Ok(()) => single("ok"),
        Err(why) => response::text(500, &format!("internal server error: {why}")),
    })
}

fn all(server: &ApiServer, root: &str, names: &[String], query: &Query) -> Response<Body> {
    let (mut out, mut failed) = (String::new(), Vec::new());
    let excluded: Vec<&str> = query.all("exclude").collect();
    for name in names {
        if excluded.contains(&name.as_str()) {
            out.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check(server, root, name) {
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
        .filter(|name| !names.iter().any(|known| known == *name))
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

/// One check by itself.
fn single(text: &'static str) -> Response<Body> {
    response::bytes(200, "text/plain; charset=utf-8", text)
}

fn plain(code: u16, text: String) -> Response<Body> {
    let mut response = response::bytes(code, "text/plain; charset=utf-8", text);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
