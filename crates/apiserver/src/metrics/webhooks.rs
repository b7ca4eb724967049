//! What webhooks of admission are counted by, under upstream's names (`apiserver/pkg/admission/metrics`).

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use prometheus_client::registry::Registry;

use super::{Durations, Labels};

/// Upstream's buckets, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Higher codes count as this one, so that a webhook cannot fill memory.
const HIGHEST_CODE: u16 = 600;

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// A call of a webhook: its name, `admit` or `validating`, and `CREATE`, `UPDATE`, …
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub name: &'a str,
    pub step: &'static str,
    pub operation: &'static str,
}

impl Call<'_> {
    fn labels<const N: usize>(&self, more: [(&'static str, String); N]) -> Labels {
        let own = [
            ("name", self.name.to_owned()),
            ("type", self.step.to_owned()),
            ("operation", self.operation.to_owned()),
        ];
        own.into_iter().chain(more).collect()
    }
}

/// Calls of webhooks.
pub struct Webhooks {
    durations: Durations,
    requests: Family<Labels, Counter>,
    rejections: Family<Labels, Counter>,
    failed_open: Family<Labels, Counter>,
    excluded: Family<Labels, Counter>,
}

impl Webhooks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            durations: Durations::new_with_constructor(histogram),
            requests: Family::default(),
            rejections: Family::default(),
            failed_open: Family::default(),
            excluded: Family::default(),
        };
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and \
             API resource and type (validate or admit).",
            this.durations.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_request",
            "Admission webhook request total, identified by name and broken out for each admission type (validating or \
             admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP \
             status code.",
            this.requests.clone(),
        );
        registry.register(
            "apiserver_admission_match_condition_exclusions",
            "Admission match condition evaluation exclusions count, identified by name of resource containing the match \
             condition and broken out for each kind containing matchConditions (webhook or policy), operation and \
             admission type (validate or admit).",
            this.excluded.clone(),
        );
        this
    }

    /// What upstream counts under names without `_total`, which the registry would add.
    pub(super) fn write(&self, out: &mut String) {
        for (name, help, family) in [
            (
                "apiserver_admission_webhook_rejection_count",
                "Admission webhook rejection count, identified by name and broken out for each admission type \
                 (validating or admit) and operation.",
                &self.rejections,
            ),
            (
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhook fail open count, identified by name and broken out for each admission type \
                 (validating or admit).",
                &self.failed_open,
            ),
        ] {
            let mut registry = Registry::default();
            registry.register(name, help, family.clone());
            let mut text = String::new();
            if prometheus_client::encoding::text::encode(&mut text, &registry).is_ok() {
                for line in text.lines().filter(|line| *line != "# EOF") {
                    out.push_str(&line.replacen(&format!("{name}_total"), name, 1));
                    out.push('\n');
                }
            }
        }
    }

    /// A call is over, with the HTTP status that it came to (0 for a fault of ours).
    pub fn called(&self, call: Call<'_>, took: Duration, rejected: bool, code: u16) {
        let rejected = ("rejected", rejected.to_string());
        let code = ("code", code.min(HIGHEST_CODE).to_string());
        self.durations.get_or_create(&call.labels([rejected.clone()])).observe(took.as_secs_f64());
        self.requests.get_or_create(&call.labels([code, rejected])).inc();
    }

    /// A request was refused because of it; `error` is `calling_webhook_error`, `apiserver_internal_error` or
    /// `no_error`.
    pub fn rejected(&self, call: Call<'_>, error: &'static str, code: u16) {
        let code = ("rejection_code", code.min(HIGHEST_CODE).to_string());
        self.rejections.get_or_create(&call.labels([("error_type", error.to_owned()), code])).inc();
    }

    /// It failed, and the request went on.
    pub fn failed_open(&self, call: Call<'_>) {
        let labels = vec![("name", call.name.to_owned()), ("type", call.step.to_owned())];
        self.failed_open.get_or_create(&labels).inc();
    }

    /// Its match conditions did not want the request.
    pub fn excluded(&self, call: Call<'_>) {
        self.excluded.get_or_create(&call.labels([("kind", "webhook".to_owned())])).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let mut registry = Registry::default();
        let webhooks = Webhooks::register(&mut registry);
        let call = Call { name: "w", step: "admit", operation: "CREATE" };
        webhooks.called(call, Duration::from_millis(1), true, 9999);
        webhooks.rejected(call, "no_error", 403);
        webhooks.failed_open(call);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        webhooks.write(&mut text);
        for line in [
            "apiserver_admission_webhook_request_total{name=\"w\",type=\"admit\",operation=\"CREATE\",code=\"600\",rejected=\"true\"} 1",
            "apiserver_admission_webhook_rejection_count{name=\"w\",type=\"admit\",operation=\"CREATE\",error_type=\"no_error\",rejection_code=\"403\"} 1",
            "apiserver_admission_webhook_fail_open_count{name=\"w\",type=\"admit\"} 1",
            "apiserver_admission_webhook_admission_duration_seconds_count{name=\"w\",type=\"admit\",operation=\"CREATE\",rejected=\"true\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
