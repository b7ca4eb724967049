//! How often policies decided, and how long their expressions took, under upstream's names.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// Upstream's, in seconds.
const BUCKETS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    validating: (Family<Labels, Counter>, Durations),
    mutating: (Family<Labels, Counter>, Durations),
}

impl Default for Metrics {
    fn default() -> Self {
        let pair = || (Family::default(), Durations::new_with_constructor(histogram as fn() -> Histogram));
        Self { validating: pair(), mutating: pair() }
    }
}

/// What kind of error a message is.
fn error_type(message: &str, is_error: bool) -> &'static str {
    match message {
        _ if !is_error => "no_error",
        it if it.starts_with("compilation") => "compile_error",
        it if it.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        _ => "invalid_error",
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        for (name, what, (checks, durations)) in [
            ("validating_admission_policy", "Validation", &self.validating),
            ("mutating_admission_policy", "Mutation", &self.mutating),
        ] {
            registry.register(
                format!("apiserver_{name}_check"),
                format!("{what} admission policy check total, labeled by policy and further identified by binding."),
                checks.clone(),
            );
            registry.register(
                format!("apiserver_{name}_check_duration_seconds"),
                format!("{what} admission latency for individual expressions in seconds, labeled by policy and binding."),
                durations.clone(),
            );
        }
    }

    /// A validation came to something: `action` is `allow` (in spite of an error), `deny`, `audit` or `warn`.
    pub fn validated(
        &self,
        names: (&str, &str),
        action: &str,
        took: Duration,
        message: &str,
        is_error: bool,
    ) {
        let mut labels = vec![("enforcement_action", action.to_owned())];
        labels.extend(common(names, message, is_error));
        observe(&self.validating, &labels, took);
    }

    /// A mutation was made, or failed.
    pub fn mutated(&self, names: (&str, &str), took: Duration, error: Option<&str>) {
        observe(&self.mutating, &common(names, error.unwrap_or_default(), error.is_some()), took);
    }
}

fn common((policy, binding): (&str, &str), message: &str, is_error: bool) -> Labels {
    vec![
        ("error_type", error_type(message, is_error).to_owned()),
        ("policy", policy.to_owned()),
        ("policy_binding", binding.to_owned()),
    ]
}

fn observe((checks, durations): &(Family<Labels, Counter>, Durations), labels: &Labels, took: Duration) {
    checks.get_or_create(labels).inc();
    durations.get_or_create(labels).observe(took.as_secs_f64());
}
