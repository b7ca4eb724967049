//! Flags of upstream's kube-apiserver that have nothing to set here: refused with the reason, taken where the
//! value asks for what is done anyway, or taken with a note in the log where they only tune upstream's insides.

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

enum Rule {
    /// Whatever the value, this is why not.
    Refused(&'static str),
    /// One of these values asks for what is done anyway; for others, this is why not.
    Only(&'static [&'static str], &'static str),
    /// Says nothing about what the server does: this is why.
    Idle(&'static str),
}

use Rule::{Idle, Only, Refused};

const STORE: &str = "an external etcd is not built: the store is built in (--data-dir)";
const AUDIT: &str = "audit is not built";
const CACHE: &str = "the store itself is the watch cache, and holds every object once";

/// Sorted by name. A flag that takes no value upstream may come without one.
const TABLE: &[(&str, Rule)] = &[
    ("allow-metric-labels", Refused("labels of metrics cannot be limited")),
    ("allow-metric-labels-manifest", Refused("labels of metrics cannot be limited")),
    ("audit-log-batch-buffer-size", Refused(AUDIT)),
    ("audit-log-compress", Refused(AUDIT)),
    ("audit-log-format", Refused(AUDIT)),
    ("audit-log-maxage", Refused(AUDIT)),
    ("audit-log-maxbackup", Refused(AUDIT)),
    ("audit-log-maxsize", Refused(AUDIT)),
    ("audit-log-mode", Refused(AUDIT)),
    ("audit-log-path", Refused(AUDIT)),
    ("audit-log-truncate-enabled", Refused(AUDIT)),
    ("audit-log-version", Refused(AUDIT)),
    ("audit-policy-file", Refused(AUDIT)),
    ("audit-webhook-batch-initial-backoff", Refused(AUDIT)),
    ("audit-webhook-config-file", Refused(AUDIT)),
    ("audit-webhook-initial-backoff", Refused(AUDIT)),
    ("audit-webhook-mode", Refused(AUDIT)),
    ("audit-webhook-version", Refused(AUDIT)),
    ("authorization-policy-file", Refused("ABAC is not built")),
    ("cert-dir", Refused("certificates are not made here: give --tls-cert-file and --tls-private-key-file")),
    ("contention-profiling", Only(&["false"], "profiling is not built")),
    ("coordinated-leadership-lease-duration", Refused("coordinated leader election is not built")),
    ("coordinated-leadership-renew-deadline", Refused("coordinated leader election is not built")),
    ("coordinated-leadership-retry-period", Refused("coordinated leader election is not built")),
    ("debug-socket-path", Only(&[""], "profiling is not built")),
    ("default-watch-cache-size", Idle(CACHE)),
    ("delete-collection-workers", Idle("the store commits the deletions of a collection together")),
    ("disable-http2-serving", Only(&["false"], "HTTP/2 is always offered")),
    ("disabled-metrics", Refused("metrics cannot be turned off one by one")),
    ("egress-selector-config-file", Refused("egress selection is not built")),
    ("emulated-version", Refused("v1.36 is the only version served")),
    ("enable-garbage-collector", Only(&["true"], "garbage collection is always on")),
    ("enable-logs-handler", Only(&["false"], "the host's logs are not served")),
    ("encryption-provider-config", Refused("encryption at rest is not built")),
    ("encryption-provider-config-automatic-reload", Only(&["false"], "encryption at rest is not built")),
    ("etcd-cafile", Refused(STORE)),
    ("etcd-certfile", Refused(STORE)),
    ("etcd-count-metric-poll-period", Idle("objects are counted when somebody asks")),
    ("etcd-db-metric-poll-interval", Idle("the store is measured when somebody asks")),
    ("etcd-healthcheck-timeout", Idle("the store is in this process")),
    ("etcd-keyfile", Refused(STORE)),
    ("etcd-prefix", Only(&["/registry", "registry"], "the store's keys begin with /registry")),
    ("etcd-readycheck-timeout", Idle("the store is in this process")),
    ("etcd-servers", Refused(STORE)),
    ("etcd-servers-overrides", Refused(STORE)),
    (
        "http2-max-streams-per-connection",
        Idle("a connection takes as many streams as the server is built for"),
    ),
    ("kubelet-read-only-port", Only(&["0"], "the kubelets' read-only port is not used")),
    ("kubelet-timeout", Idle("connections to kubelets last as long as their requests")),
    ("kubernetes-service-node-port", Only(&["0"], "the kubernetes Service has no node port")),
    ("lease-reuse-duration-seconds", Idle("leases of the store are used for 60 seconds")),
    ("livez-grace-period", Only(&["0s", "0"], "/livez waits for nobody")),
    ("log-flush-frequency", Idle("log lines are written at once")),
    ("log-json-info-buffer-size", Refused("logs are text")),
    ("log-json-split-stream", Refused("logs are text")),
    ("log-text-info-buffer-size", Idle("log lines are written at once")),
    ("log-text-split-stream", Refused("all logs go to one stream")),
    ("logging-format", Only(&["text"], "logs are text")),
    ("max-connection-bytes-per-sec", Only(&["0"], "connections are not slowed down")),
    ("peer-advertise-ip", Refused("requests are not passed on between API servers")),
    ("peer-advertise-port", Refused("requests are not passed on between API servers")),
    ("peer-ca-file", Refused("requests are not passed on between API servers")),
    ("permit-address-sharing", Only(&["false"], "an address is not shared")),
    ("permit-port-sharing", Only(&["false"], "a port is not shared")),
    ("profiling", Only(&["false"], "profiling is not built, and off")),
    (
        "service-account-signing-endpoint",
        Refused("tokens are signed with --service-account-signing-key-file"),
    ),
    ("show-hidden-metrics-for-version", Idle("no metrics are hidden")),
    ("shutdown-send-retry-after", Only(&["false"], "requests that come late are answered")),
    ("shutdown-watch-termination-grace-period", Only(&["0s", "0"], "watches end at once, in order")),
    ("storage-backend", Only(&["etcd3", ""], "the store keeps etcd3's data model")),
    ("storage-initialization-timeout", Idle("the store is in this process")),
    (
        "storage-media-type",
        Only(&["application/vnd.kubernetes.protobuf", ""], "built-in kinds are stored in protobuf"),
    ),
    ("tls-curve-preferences", Refused("the TLS library's own list is used")),
    ("tracing-config-file", Refused("tracing is not built")),
    ("vmodule", Refused("-v sets how much is logged")),
    ("watch-cache", Only(&["true"], CACHE)),
    ("watch-cache-sizes", Idle(CACHE)),
];

/// What was given of [`TABLE`] and has no effect: flag and why.
#[derive(Clone, Debug, Default)]
pub struct Other(Vec<(&'static str, &'static str)>);

impl Other {
    /// Says so in the log.
    pub fn note(&self) {
        for (flag, why) in &self.0 {
            tracing::warn!("--{flag} has no effect: {why}");
        }
    }
}

impl clap::FromArgMatches for Other {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut idle = Vec::new();
        for (flag, rule) in TABLE {
            let given: Vec<&String> = matches.get_many(flag).into_iter().flatten().collect();
            let (false, Some(last)) = (given.is_empty(), given.last()) else { continue };
            let why = match rule {
                Refused(why) => why,
                Only(values, _) if values.contains(&last.as_str()) => continue,
                Only(_, why) => why,
                Idle(why) => {
                    idle.push((*flag, *why));
                    continue;
                }
            };
            return Err(clap::Error::raw(ErrorKind::InvalidValue, format!("--{flag}: {why}\n")));
        }
        Ok(Self(idle))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Other {
    fn augment_args(command: Command) -> Command {
        TABLE.iter().fold(command, |command, (flag, _)| {
            let flag = Arg::new(*flag)
                .long(*flag)
                .hide(true)
                .action(ArgAction::Append)
                .num_args(0..=1)
                .require_equals(false)
                .default_missing_value("true");
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn nothing_is_ignored_in_silence() {
        assert!(TABLE.is_sorted_by_key(|(flag, _)| *flag));
        let table: [(&[&str], Result<usize, &str>); 7] = [
            (&[], Ok(0)),
            (&["--profiling=false", "--storage-backend", "etcd3", "--watch-cache"], Ok(0)),
            (&["--watch-cache-sizes=pods#100", "--kubelet-timeout", "5s"], Ok(2)),
            (&["--profiling"], Err("--profiling: profiling is not built, and off")),
            (
                &["--etcd-servers=https://127.0.0.1:2379"],
                Err("--etcd-servers: an external etcd is not built"),
            ),
            (&["--audit-log-path=-"], Err("--audit-log-path: audit is not built")),
            (&["--nonsense"], Err("unexpected argument '--nonsense' found")),
        ];
        for (arguments, expect) in table {
            let command = Other::augment_args(Command::new("x"));
            let parsed = command.try_get_matches_from(["x"].iter().chain(arguments.iter()));
            match (parsed.and_then(|matches| Other::from_arg_matches(&matches)), expect) {
                (Ok(other), Ok(idle)) => assert_eq!(other.0.len(), idle, "{arguments:?}"),
                (Err(error), Err(why)) => {
                    let text = error.to_string();
                    assert!(text.contains(why), "{arguments:?}: {text}");
                }
                (got, expect) => panic!("{arguments:?}: {:?} for {expect:?}", got.map(|o| o.0)),
            }
        }
    }
}
