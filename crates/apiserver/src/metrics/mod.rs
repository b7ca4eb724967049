//! `/metrics`: what this server really measures, under upstream's names.
//!
//! [`start`] and [`finish`] stand around every request. What is a state and not an event (objects stored, the
//! process) is read when somebody asks.

pub mod process;
pub mod webhooks;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use apimachinery::schema::Resource;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::request::{Query, RequestInfo, UserInfo};
use crate::response;
use crate::server::{ApiServer, Body};

const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// Upstream's buckets of the store's answers, in seconds.
const STORE_BUCKETS: [f64; 18] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 15.0, 30.0, 60.0];
/// Upstream's buckets of answers' sizes, in bytes.
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn store_histogram() -> Histogram {
    Histogram::new(STORE_BUCKETS)
}

fn sizes() -> Histogram {
    Histogram::new(SIZES)
}

/// How long the store takes, by operation. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct StoreTimes {
    durations: Durations,
    requests: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    /// So that a write makes no labels.
    known: Arc<[(&'static str, Histogram, Counter, Counter)]>,
}

impl Default for StoreTimes {
    fn default() -> Self {
        let durations = Durations::new_with_constructor(store_histogram);
        let (requests, errors) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let known = ["create", "delete", "update"].map(|operation| {
            let labels = vec![("operation", operation.to_owned())];
            (
                operation,
                durations.get_or_create(&labels).clone(),
                requests.get_or_create(&labels).clone(),
                errors.get_or_create(&labels).clone(),
            )
        });
        Self { durations, requests, errors, known: known.into() }
    }
}

impl StoreTimes {
    /// An operation is over.
    pub fn observe(&self, operation: &str, began: Instant, good: bool) {
        if let Some((_, durations, requests, errors)) =
            self.known.iter().find(|(name, ..)| *name == operation)
        {
            durations.observe(began.elapsed().as_secs_f64());
            requests.inc();
            if !good {
                errors.inc();
            }
        }
    }

    /// Under the names that upstream's client of etcd has.
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "etcd_request_duration_seconds",
            "Etcd request latency in seconds for each operation and object type.",
            self.durations.clone(),
        );
        registry.register("etcd_requests", "Etcd request counts for each operation.", self.requests.clone());
        registry.register(
            "etcd_request_errors",
            "Etcd failed request counts for each operation.",
            self.errors.clone(),
        );
    }
}

/// The counters of one kind of request, found by hash so that a request makes no labels.
struct Counters {
    of: (Box<str>, u16),
    requests: Counter,
    durations: Histogram,
    sizes: Histogram,
    /// Of what stays open: how many are.
    open: Gauge,
}

/// How a health check went last, and how often well and badly.
type Checked = (bool, u64, u64);

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Durations,
    sizes: Durations,
    open: Family<Labels, Gauge>,
    watch_events: Family<Labels, Counter>,
    /// By code: commands that were translated, and port-forwards that were tunnelled.
    translated: Family<Labels, Counter>,
    tunnelled: Family<Labels, Counter>,
    websockets: Family<Labels, Counter>,
    authentications: [Counter; 2],
    users: Family<Labels, Counter>,
    authorizations: [Counter; 2],
    store: StoreTimes,
    pub policies: crate::admission::policy::metrics::Metrics,
    pub webhooks: webhooks::Webhooks,
    mutating: Gauge,
    read_only: Gauge,
    known: RwLock<HashMap<u64, Arc<Counters>>>,
    /// By page and check: how it went last, and how often well and badly.
    checks: Mutex<BTreeMap<(String, String), Checked>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, \
             component, and HTTP response code",
            requests.clone(),
        );
        let durations = Durations::new_with_constructor(histogram);
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, \
             subresource, scope and component",
            durations.clone(),
        );
        // The same here: what webhooks take is not told apart.
        registry.register(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in \
             seconds for each verb, group, version, resource, subresource, scope and component",
            durations.clone(),
        );
        let sizes = Durations::new_with_constructor(sizes as fn() -> Histogram);
        registry.register(
            "apiserver_response_sizes",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and \
             component",
            sizes.clone(),
        );
        let open = Family::<Labels, Gauge>::default();
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope \
             and component. Not all requests are tracked this way.",
            open.clone(),
        );
        let watch_events = Family::<Labels, Counter>::default();
        registry.register(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            watch_events.clone(),
        );
        let [translated, tunnelled, websockets] = [
            (
                "apiserver_stream_translator_requests",
                "Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming \
                 RemoteCommand/V5",
            ),
            (
                "apiserver_stream_tunnel_requests",
                "Total number of requests that were handled by the StreamTunnelProxy, which processes streaming \
                 PortForward/V2",
            ),
            (
                "apiserver_websocket_streaming_requests",
                "Total number of WebSocket streaming requests (exec/attach/portforward) routed by the API server, \
                 labeled by subresource and proxy_type.",
            ),
        ]
        .map(|(name, help)| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        });
        let results = |name: &str, help: &str, results: [&str; 2], registry: &mut Registry| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            results.map(|result| family.get_or_create(&vec![("result", result.to_owned())]).clone())
        };
        let authentications = results(
            "authentication_attempts",
            "Counter of authenticated attempts.",
            ["success", "failure"],
            &mut registry,
        );
        let authorizations = results(
            "authorization_attempts",
            "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', \
             'no-opinion' or 'error'.",
            ["allowed", "no-opinion"],
            &mut registry,
        );
        let users = Family::<Labels, Counter>::default();
        registry.register(
            "authenticated_user_requests",
            "Counter of authenticated requests broken out by username.",
            users.clone(),
        );
        let store = StoreTimes::default();
        store.register(&mut registry);
        let policies = crate::admission::policy::metrics::Metrics::default();
        policies.register(&mut registry);
        let webhooks = webhooks::Webhooks::register(&mut registry);
        let in_flight = Family::<Labels, Gauge>::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "Number of requests currently handled by this apiserver, by kind",
            in_flight.clone(),
        );
        let kind = |kind: &str| in_flight.get_or_create(&vec![("request_kind", kind.to_owned())]).clone();
        let (mutating, read_only) = (kind("mutating"), kind("readOnly"));
        Self {
            registry,
            requests,
            durations,
            sizes,
            open,
            watch_events,
            translated,
            tunnelled,
            websockets,
            authentications,
            users,
            authorizations,
            store,
            policies,
            webhooks,
            mutating,
            read_only,
            known: RwLock::default(),
            checks: Mutex::default(),
        }
    }
}

/// A request that has begun.
pub struct Measured {
    began: Instant,
    in_flight: Option<Gauge>,
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(gauge) = &self.in_flight {
            gauge.dec();
        }
    }
}

/// Counts while it lives: held by the body of an answer that stays open.
struct LongRunning(Gauge);

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// What the store's times are counted with.
    pub fn store_times(&self) -> StoreTimes {
        self.store.clone()
    }

    /// What counts the events that watches of a resource send.
    pub fn watch_events(&self, resource: &Resource) -> Counter {
        let labels = vec![
            ("group", resource.group.to_string()),
            ("resource", resource.plural.to_string()),
            ("version", resource.version.to_string()),
        ];
        self.watch_events.get_or_create(&labels).clone()
    }

    /// A command over WebSocket ended with this code.
    pub fn translated(&self, code: u16) {
        self.translated.get_or_create(&vec![("code", code.to_string())]).inc();
    }

    /// A port-forward inside a WebSocket was answered with this code.
    pub fn tunnelled(&self, code: u16) {
        self.tunnelled.get_or_create(&vec![("code", code.to_string())]).inc();
    }

    /// A WebSocket is passed on to the kubelet as it is, or not.
    pub fn websocket(&self, subresource: &str, passed_on: bool) {
        let how = if passed_on { "proxied_to_kubelet" } else { "translated_at_apiserver" };
        let labels = vec![("proxy_type", how.to_owned()), ("subresource", subresource.to_owned())];
        self.websockets.get_or_create(&labels).inc();
    }

    /// Somebody proved who they are, or could not.
    pub fn authenticated(&self, user: Option<&UserInfo>) {
        let [good, bad] = &self.authentications;
        match user {
            Some(user) => {
                good.inc();
                // As upstream, which tells only those apart of whom there are few.
                let name = if user.name.starts_with("system:")
                    && !user.name.starts_with("system:node:")
                    && !user.name.starts_with("system:serviceaccount:")
                {
                    user.name.as_str()
                } else {
                    "other"
                };
                self.users.get_or_create(&vec![("username", name.to_owned())]).inc();
            }
            None => drop(bad.inc()),
        }
    }

    /// Somebody may do something, or not.
    pub fn authorized(&self, allowed: bool) {
        let [yes, no] = &self.authorizations;
        if allowed {
            yes.inc()
        } else {
            no.inc()
        };
    }

    /// A health check was made.
    pub fn checked(&self, page: &str, name: &str, good: bool) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, well, badly) = checks.entry((page.to_owned(), name.to_owned())).or_default();
        *last = good;
        *(if good { well } else { badly }) += 1;
    }

    /// `/metrics/slis` (KEP-3466).
    fn indicators(&self) -> String {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::from(
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
             # TYPE kubernetes_healthcheck gauge\n",
        );
        for ((page, name), (last, ..)) in &*checks {
            let last = i32::from(*last);
            let _ = writeln!(out, "kubernetes_healthcheck{{name=\"{name}\",type=\"{page}\"}} {last}");
        }
        out.push_str(
            "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n\
             # TYPE kubernetes_healthchecks_total counter\n",
        );
        for ((page, name), (_, well, badly)) in &*checks {
            for (status, count) in [("error", badly), ("success", well)].into_iter().filter(|(_, n)| **n > 0)
            {
                let _ = writeln!(
                    out,
                    "kubernetes_healthchecks_total{{name=\"{name}\",status=\"{status}\",type=\"{page}\"}} {count}"
                );
            }
        }
        out
    }

    fn counters(&self, info: &RequestInfo, code: u16) -> Arc<Counters> {
        let verb = verb(info);
        let mut hasher = DefaultHasher::new();
        let scope = scope(info);
        (verb, &info.api_group, &info.api_version, &info.resource, &info.subresource, scope, code)
            .hash(&mut hasher);
        if !info.is_resource_request {
            path(info).hash(&mut hasher);
        }
        let key = hasher.finish();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = known.get(&key)
            && *counters.of.0 == *info.resource
            && counters.of.1 == code
        {
            return counters.clone();
        }
        drop(known);
        let mut labels: Labels = vec![
            ("component", "apiserver".into()),
            ("dry_run", String::new()),
            ("group", info.api_group.clone()),
            ("resource", info.resource.clone()),
            ("scope", scope.into()),
            (
                "subresource",
                if info.is_resource_request { info.subresource.clone() } else { path(info).into() },
            ),
            ("verb", verb.into()),
            ("version", info.api_version.clone()),
        ];
        let durations = self.durations.get_or_create(&labels).clone();
        let mut fewer = labels.clone();
        fewer.retain(|(name, _)| *name != "dry_run");
        let sizes = self.sizes.get_or_create(&fewer).clone();
        let open =
            if info.is_long_running() { self.open.get_or_create(&fewer).clone() } else { Gauge::default() };
        labels.insert(0, ("code", code.to_string()));
        let requests = self.requests.get_or_create(&labels).clone();
        let counters =
            Arc::new(Counters { of: (Box::from(&*info.resource), code), requests, durations, sizes, open });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Resources that do not exist must not fill memory.
        if known.len() < 4096 {
            known.insert(key, counters.clone());
        }
        counters
    }
}

/// Upstream's verb label: the HTTP method, or what a GET really is.
fn verb(info: &RequestInfo) -> &'static str {
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => match info.subresource.as_str() {
            "exec" | "attach" | "portforward" | "proxy" => "CONNECT",
            _ => "POST",
        },
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource_request, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) if info.verb != "create" => "namespace",
        (true, true, false) => "resource",
        (true, true, true) => "cluster",
    }
}

/// The paths that are counted by themselves; anything else counts together.
fn path(info: &RequestInfo) -> &str {
    match info.path.as_str() {
        known @ ("/healthz" | "/livez" | "/readyz" | "/metrics" | "/version" | "/api" | "/apis"
        | "/openapi/v2") => known,
        path if path.starts_with("/openapi/v3") => "/openapi/v3",
        path if path.starts_with("/apis/") => "/apis/*",
        _ => "",
    }
}

/// A request begins.
pub fn start(server: &ApiServer, info: &RequestInfo) -> Measured {
    let in_flight = (!info.is_long_running()).then(|| {
        let mutating = !matches!(info.verb.as_str(), "get" | "list" | "watch" | "head");
        let gauge = if mutating { &server.metrics.mutating } else { &server.metrics.read_only };
        gauge.inc();
        gauge.clone()
    });
    Measured { began: Instant::now(), in_flight }
}

/// Its answer is known (of a watch: has begun). What stays open counts as open for as long as its body lives.
pub fn finish(
    server: &ApiServer,
    measured: Measured,
    info: &RequestInfo,
    response: Response<Body>,
) -> Response<Body> {
    let counters = server.metrics.counters(info, response.status().as_u16());
    counters.requests.inc();
    if info.is_long_running() {
        counters.open.inc();
        let guard = LongRunning(counters.open.clone());
        let keep = move |frame| {
            let _ = &guard;
            frame
        };
        return response.map(|body| body.map_frame(keep).boxed_unsync());
    }
    counters.durations.observe(measured.began.elapsed().as_secs_f64());
    if let Some(size) = http_body::Body::size_hint(response.body()).exact() {
        counters.sizes.observe(size as f64);
    }
    response
}

/// Answers `/metrics`; `None` for other paths.
pub fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    _: &Query,
    _: &Request<Body>,
) -> Option<Response<Body>> {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    match info.path.as_str() {
        "/metrics" => {}
        "/metrics/slis" => return Some(response::bytes(200, TEXT, server.metrics.indicators())),
        _ => return None,
    }
    let mut text = String::new();
    if encode(&mut text, &server.metrics.registry).is_err() {
        return Some(response::text(500, "encoding metrics failed"));
    }
    let mut out = classic(&text);
    server.metrics.webhooks.write(&mut out);
    stored(server, &mut out);
    let _ = writeln!(
        out,
        "# HELP corten_object_encodings_total Encodings made of stored objects; readers share those that are kept.\n\
         # TYPE corten_object_encodings_total counter\n\
         corten_object_encodings_total {}",
        server.storage.encodings_made()
    );
    server.flow.write_metrics(&mut out);
    server.aggregator.write_metrics(server.storage.store(), &mut out);
    features(server, &mut out);
    build(&mut out);
    process::write(&mut out);
    Some(response::bytes(200, TEXT, out))
}

/// The older text form, which every reader understands: counters are named with their suffix, and nothing marks
/// the end.
pub fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let counters: Vec<&str> =
        open_metrics.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in open_metrics.lines().filter(|l| *l != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                let _ = writeln!(out, "# {what} {name}_total {rest}");
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

/// What runs here.
fn build(out: &mut String) {
    let version = crate::discovery::GIT_VERSION;
    let _ = writeln!(
        out,
        "# HELP kubernetes_build_info [ALPHA] A metric with a constant '1' value labeled by major, minor, git version, \
         git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform \
         on which it is running.\n# TYPE kubernetes_build_info gauge\n\
         kubernetes_build_info{{compiler=\"rustc\",git_version=\"{version}\",major=\"1\",minor=\"36\"}} 1"
    );
}

/// Which features are on.
fn features(server: &ApiServer, out: &mut String) {
    out.push_str(
        "# HELP kubernetes_feature_enabled [BETA] This metric records the data about the stage and enablement of a k8s \
         feature.\n# TYPE kubernetes_feature_enabled gauge\n",
    );
    for feature in crate::server::features::all() {
        let stage = match feature.stage {
            "alpha" => "ALPHA",
            "beta" => "BETA",
            "deprecated" => "DEPRECATED",
            _ => "",
        };
        let on = i32::from(server.gates.enabled(feature.name));
        let name = feature.name;
        let _ = writeln!(out, "kubernetes_feature_enabled{{name=\"{name}\",stage=\"{stage}\"}} {on}");
    }
}

/// How many objects of each kind there are.
fn stored(server: &ApiServer, out: &mut String) {
    out.push_str("# HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind.\n");
    out.push_str("# TYPE apiserver_storage_objects gauge\n");
    let mut newer = String::from(
        "# HELP apiserver_resource_objects [ALPHA] Number of stored objects at the time of last check split by kind.\n\
         # TYPE apiserver_resource_objects gauge\n",
    );
    let mut seen: Vec<&str> = Vec::new();
    for resource in api::resources() {
        let Some(at) = &resource.storage else { continue };
        if !server.served.has(resource) || seen.contains(&&*at.prefix) {
            continue;
        }
        seen.push(&at.prefix);
        let Ok(prefix) = crate::storage::prefix(resource, "") else { continue };
        let range = etcd::Range { count_only: true, ..etcd::Range::prefix(prefix) };
        if let Ok(found) = server.storage.store().range(&range) {
            let name = resource.qualified();
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{name}\"}} {}", found.count);
            let (group, plural) = (&*resource.group, &*resource.plural);
            let _ = writeln!(
                newer,
                "apiserver_resource_objects{{group=\"{group}\",resource=\"{plural}\"}} {}",
                found.count
            );
        }
    }
    out.push_str(&newer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form() {
        let open = "# HELP a_b Text.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        let expect = "# HELP a_b_total Text.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
        assert_eq!(classic(open), expect);
    }

    #[test]
    fn counting() {
        let metrics = Metrics::default();
        let info = |verb: &str, resource: &str| RequestInfo {
            is_resource_request: true,
            verb: verb.into(),
            api_version: "v1".into(),
            resource: resource.into(),
            ..RequestInfo::default()
        };
        for (verb, resource, code) in
            [("get", "pods", 200), ("list", "pods", 200), ("list", "pods", 200), ("list", "pods", 403)]
        {
            metrics.counters(&info(verb, resource), code).requests.inc();
        }
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        let line = "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",\
                    resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 2\n";
        assert!(text.contains(line), "{text}");
    }
}
