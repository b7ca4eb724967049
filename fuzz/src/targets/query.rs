//! Methods, paths and queries: `GET /api/v1/pods?limit=5`.

use apiserver::options::{DeleteOptions, ListOptions, WriteOptions};
use apiserver::proxy::location;
use apiserver::request::{Query, RequestInfo};
use serde_json::json;

use super::kubelet::decoded_query;
use crate::bounded;

pub fn run(bytes: &[u8]) {
    bounded(|| read(bytes));
}

fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (method, uri) = text.split_once(' ').unwrap_or(("GET", &text));
    let (Ok(method), Ok(uri)) = (method.parse::<http::Method>(), uri.parse::<http::Uri>()) else { return };
    let query = Query::parse(uri.query());
    if let Ok(info) = RequestInfo::new(&method, &uri, &query) {
        assert_eq!(info.is_resource_request, !info.resource.is_empty() || !info.parts.is_empty());
        let _ = info.is_long_running();
    }
    for watch in [false, true] {
        if let Ok(mut options) = ListOptions::parse(&query, watch)
            && options.select_name("a").is_ok()
        {
            assert_eq!(options.fields.requires_exact_match("metadata.name"), Some("a"));
        }
    }
    for kind in ["CreateOptions", "UpdateOptions", "PatchOptions"] {
        let _ = WriteOptions::parse(&query, kind);
    }
    if let Ok(options) = WriteOptions::parse_apply(&query) {
        assert!(!options.field_manager.is_empty());
    }
    let _ = DeleteOptions::from_query(&query);
    forwarded(&query);
}

/// What goes on to a kubelet arrives there as it was meant.
fn forwarded(query: &Query) {
    let containers = json!([{"name": "c"}]);
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "x", "containers": containers}});
    for subresource in ["exec", "log", "attach", "portforward"] {
        let Ok(Some(target)) = location::of_pod(&pod, subresource, query) else { continue };
        let target: http::Uri = target.parse().unwrap_or_else(|e| panic!("{target:?} is no target: {e}"));
        let sent: Vec<&str> = match subresource {
            "exec" => query.all("command").collect(),
            "portforward" => query.all("ports").collect(),
            _ => continue,
        };
        let key = if subresource == "exec" { "command" } else { "port" };
        let arrived: Vec<String> =
            decoded_query(&target).into_iter().filter(|(k, _)| k == key).map(|(_, v)| v).collect();
        assert_eq!(arrived, sent);
    }
}
