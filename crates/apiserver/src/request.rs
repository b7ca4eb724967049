//! What a request asks for, before anybody looks at its body: [`RequestInfo`] from the path (rules of
//! upstream's `endpoints/request/requestinfo.go`), [`Query`] from the query string, [`UserInfo`] for who asks.

use std::collections::BTreeMap;

use crate::handlers::options::{DeleteOptions, WriteOptions};

/// Who a request comes from, as the authenticator found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// `system:anonymous`, `system:serviceaccount:ns:name`, a certificate's common name, …
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// Sorted by key, so that nothing printed depends on hashing.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| g.to_string()).collect(), ..Self::default() }
    }

    /// The identity of the server's own requests: all rights, through the whole chain.
    pub fn loopback() -> Self {
        Self::new("system:apiserver", &["system:masters", "system:authenticated"])
    }
}

/// What a path and a method ask for. For a non-resource request only `path` and `verb` (the method in
/// lower case) are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource_request: bool,
    /// Percent-decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for a
    /// non-resource request the HTTP method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    pub api_group: String,
    pub api_version: String,
    /// Empty for cluster-wide requests. For a request about a Namespace object it is that object's name.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    /// The object's name; for list and watch the name that a field selector `metadata.name=x` pins down.
    pub name: String,
    /// The path from the resource on, uninterpreted: `["pods", "x", "proxy", "a", "b"]`.
    pub parts: Vec<String>,
    /// Raw selectors of list, watch and deletecollection, for authorizers.
    pub label_selector: String,
    pub field_selector: String,
}

impl RequestInfo {
    /// The rules of upstream's `NewRequestInfo`. `Err` (text for a 400 or 500) for `/api/v1/watch` and the
    /// like, where a special verb lacks its resource.
    pub fn new(method: &http::Method, uri: &http::Uri, query: &Query) -> Result<Self, String> {
        let path = percent_decode(uri.path(), false);
        let mut info = Self { path, verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let segments: Vec<String> = split_path(&info.path).map(str::to_owned).collect();
        let mut parts = segments.as_slice();
        if parts.len() < 3 || !matches!(parts[0].as_str(), "api" | "apis") {
            return Ok(info);
        }
        let prefix = parts[0].clone();
        parts = &parts[1..];
        if prefix == "apis" {
            if parts.len() < 3 {
                info.api_prefix = prefix;
                return Ok(info);
            }
            info.api_group = parts[0].clone();
            parts = &parts[1..];
        }
        info.api_prefix = prefix;
        info.is_resource_request = true;
        info.api_version = parts[0].clone();
        parts = &parts[1..];

        let mut by_path = false;
        if matches!(parts[0].as_str(), "proxy" | "watch") {
            if parts.len() < 2 {
                return Err(format!("unable to determine kind and namespace from url, {uri}"));
            }
            info.verb = parts[0].clone();
            parts = &parts[1..];
            by_path = true;
        } else {
            info.verb = match method.as_str() {
                "POST" => "create",
                "GET" | "HEAD" => "get",
                "PUT" => "update",
                "PATCH" => "patch",
                "DELETE" => "delete",
                _ => "",
            }
            .into();
        }

        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        info.parts = parts.to_vec();
        if parts.len() >= 3 && info.verb != "proxy" {
            info.subresource = parts[2].clone();
        }
        if parts.len() >= 2 {
            info.name = parts[1].clone();
        }
        info.resource = parts[0].clone();

        if info.name.is_empty() && info.verb == "get" {
            info.verb = if query.flag("watch") { "watch" } else { "list" }.into();
            if let Some(name) = pinned_name(query.get("fieldSelector").unwrap_or_default()) {
                info.name = name;
            }
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".into();
        }
        if !by_path && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.label_selector = query.get("labelSelector").unwrap_or_default().into();
            info.field_selector = query.get("fieldSelector").unwrap_or_default().into();
        }
        Ok(info)
    }

    /// Requests that may stay open: no time-out, not counted against the in-flight limit.
    pub fn is_long_running(&self) -> bool {
        matches!(self.verb.as_str(), "watch" | "proxy")
            || matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
    }
}

/// The path's parts between slashes; leading and trailing slashes do not count, inner empty parts do.
fn split_path(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_matches('/');
    path.split('/').filter(move |_| !path.is_empty())
}

/// The name that `metadata.name=x` in a field selector requires, if that can be a path segment.
fn pinned_name(selector: &str) -> Option<String> {
    let name = selector.split(',').find_map(|term| {
        let (key, value) = term.split_once('=')?;
        if key.ends_with('!') {
            return None;
        }
        (key == "metadata.name").then(|| value.strip_prefix('=').unwrap_or(value))
    })?;
    let usable = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\\']);
    usable.then(|| name.to_owned())
}

/// A decoded query string, in order, with repeated keys kept.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: Option<&str>) -> Self {
        let Some(raw) = raw.filter(|r| !r.is_empty()) else { return Self::default() };
        Self(
            raw.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(key, true), percent_decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Upstream's reading of a boolean parameter: present means true, except `false` and `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }
}

/// Percent-decoding; bytes that are not UTF-8 become replacement characters, a broken escape stays as it is.
fn percent_decode(text: &str, plus_is_space: bool) -> String {
    let encoded = text.contains('%') || plus_is_space && text.contains('+');
    if !encoded {
        return text.to_owned();
    }
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        match (b, hex(bytes.get(i + 1)), hex(bytes.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
                continue;
            }
            (b'+', ..) if plus_is_space => out.push(b' '),
            _ => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// What a write is to an admission plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What admission plugins see besides the object itself.
#[derive(Clone, Debug)]
pub struct AdmissionAttributes<'a> {
    pub operation: Operation,
    pub user: &'a UserInfo,
    pub group: &'a str,
    pub version: &'a str,
    /// Kind of the object in the request: `Scale` for `deployments/scale`.
    pub kind: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty on a create with generateName, until the name is made.
    pub name: &'a str,
    /// The stored object, on update and delete.
    pub old: Option<&'a serde_json::Value>,
    pub dry_run: bool,
    pub options: Options<'a>,
}

/// What the client asked besides, as policies and webhooks see it.
#[derive(Clone, Copy, Debug)]
pub enum Options<'a> {
    Write(&'a WriteOptions),
    Delete(&'a DeleteOptions),
    /// A connection has none.
    None,
}

impl<'a> From<&'a WriteOptions> for Options<'a> {
    fn from(options: &'a WriteOptions) -> Self {
        Options::Write(options)
    }
}

impl<'a> From<&'a DeleteOptions> for Options<'a> {
    fn from(options: &'a DeleteOptions) -> Self {
        Options::Delete(options)
    }
}

impl Options<'_> {
    /// Nothing is to be stored.
    pub fn dry_run(self) -> bool {
        match self {
            Options::Write(options) => options.dry_run,
            Options::Delete(options) => options.dry_run,
            Options::None => false,
        }
    }

    /// `CreateOptions`, `UpdateOptions` (of a patch, too) or `DeleteOptions` of `meta.k8s.io/v1`; `Null` for none.
    pub fn describe(self, operation: Operation) -> serde_json::Value {
        match self {
            Options::Write(options) => options.describe(match operation {
                Operation::Create => "CreateOptions",
                _ => "UpdateOptions",
            }),
            Options::Delete(options) => options.describe(),
            Options::None => serde_json::Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> RequestInfo {
        let uri: http::Uri = uri.parse().unwrap();
        RequestInfo::new(&method.parse().unwrap(), &uri, &Query::parse(uri.query())).unwrap()
    }

    /// `(method, url, verb, group/version, namespace, resource, subresource, name)`; the rows of upstream's
    /// `TestGetAPIRequestInfo` and a few of our own.
    #[test]
    fn resource_requests() {
        let table = [
            ("GET", "/api/v1/namespaces", "list", "/v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/other", "get", "/v1", "other", "namespaces", "", "other"),
            ("GET", "/api/v1/namespaces/other/pods", "list", "/v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get", "/v1", "other", "pods", "", "foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "/v1", "other", "pods", "", "foo"),
            ("GET", "/api/v1/pods", "list", "/v1", "", "pods", "", ""),
            ("GET", "/api/v1/proxy/namespaces/other/pods/foo", "proxy", "/v1", "other", "pods", "", "foo"),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "/v1", "other", "pods", "", ""),
            ("GET", "/api/v1/watch/pods", "watch", "/v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=true", "watch", "/v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=1", "watch", "/v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=0", "list", "/v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=false", "list", "/v1", "", "pods", "", ""),
            (
                "GET",
                "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Dx&watch=1",
                "watch",
                "/v1",
                "n",
                "pods",
                "",
                "x",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo/status",
                "get",
                "/v1",
                "other",
                "pods",
                "status",
                "foo",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo/proxy/a/b",
                "get",
                "/v1",
                "other",
                "pods",
                "proxy",
                "foo",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update",
                "/v1",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/status",
                "update",
                "/v1",
                "other",
                "namespaces",
                "status",
                "other",
            ),
            ("POST", "/api/v1/namespaces/other/pods", "create", "/v1", "other", "pods", "", ""),
            ("PATCH", "/api/v1/namespaces/other/pods/foo", "patch", "/v1", "other", "pods", "", "foo"),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", "/v1", "other", "pods", "", "foo"),
            ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection", "/v1", "other", "pods", "", ""),
            ("DELETE", "/api/v1/nodes", "deletecollection", "/v1", "", "nodes", "", ""),
            (
                "POST",
                "/apis/apps/v1/namespaces/other/deployments",
                "create",
                "apps/v1",
                "other",
                "deployments",
                "",
                "",
            ),
            (
                "GET",
                "/apis/apps/v1/namespaces/o/deployments/d/scale",
                "get",
                "apps/v1",
                "o",
                "deployments",
                "scale",
                "d",
            ),
            ("OPTIONS", "/api/v1/pods", "", "/v1", "", "pods", "", ""),
        ];
        for (method, url, verb, gv, namespace, resource, subresource, name) in table {
            let i = info(method, url);
            assert!(i.is_resource_request, "{url}");
            let got = (i.verb.as_str(), format!("{}/{}", i.api_group, i.api_version));
            assert_eq!(got, (verb, gv.to_owned()), "{url}");
            let got = (&*i.namespace, &*i.resource, &*i.subresource, &*i.name);
            assert_eq!(got, (namespace, resource, subresource, name), "{url}");
        }
    }

    #[test]
    fn non_resource_requests() {
        for url in [
            "/",
            "/healthz",
            "/api",
            "/api/",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/other/a/b",
        ] {
            let i = info("GET", url);
            assert!(!i.is_resource_request, "{url}");
            assert_eq!((&*i.verb, &*i.path), ("get", url));
        }
        let uri: http::Uri = "/api/v1/watch".parse().unwrap();
        assert!(RequestInfo::new(&http::Method::GET, &uri, &Query::default()).is_err());
    }

    #[test]
    fn query_strings() {
        let q = Query::parse(Some("a=1&b=x%20y+z&a=2&c&d=%zz"));
        assert_eq!(q.get("a"), Some("1"));
        assert_eq!(q.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(q.get("b"), Some("x y z"));
        assert_eq!(q.get("d"), Some("%zz"));
        assert!(q.flag("c") && !q.flag("e"));
    }
}
