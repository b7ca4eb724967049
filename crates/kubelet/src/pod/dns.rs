//! What a pod's resolv.conf says.

use api::core::v1::Pod;
use cri::v1::DnsConfig;

use super::spec;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_SEARCH_CHARS_EACH: usize = 253;

/// The cluster's part.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Addresses of the cluster's DNS servers.
    pub servers: Vec<String>,
    /// `cluster.local`; empty for none.
    pub domain: String,
}

/// Reads a resolv.conf; the last `search` line counts.
pub fn parse(text: &str) -> DnsConfig {
    let mut out = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let trimmed = words.filter(|w| *w != ".").map(|w| w.trim_end_matches('.').to_owned());
                out.searches = trimmed.collect();
            }
            Some("options") => {
                for option in words {
                    set_option(&mut out.options, option.to_owned());
                }
            }
            _ => {}
        }
    }
    out
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |o: &str| o.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|o| name(o) == name(&option)) {
        Some(old) => *old = option,
        None => options.push(option),
    }
}

/// The configuration of a pod, and warnings for its events. `host` is the node's own; `None` when the node has
/// been told to use none.
pub fn pod_dns(pod: &Pod, host: Option<&DnsConfig>, cluster: &Cluster) -> (DnsConfig, Vec<String>) {
    let mut warnings = Vec::new();
    let policy = spec::spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst");
    let wants_cluster = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut out = host.cloned().unwrap_or_default();
    if policy == "None" {
        out = DnsConfig::default();
    } else if wants_cluster && !cluster.servers.is_empty() {
        out.servers = cluster.servers.clone();
        if !cluster.domain.is_empty() {
            let domain = &cluster.domain;
            let mut searches = vec![
                format!("{}.svc.{domain}", spec::namespace(pod)),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            searches.append(&mut out.searches);
            out.searches = unique(searches);
        }
        out.options = vec!["ndots:5".into()];
    } else {
        if wants_cluster {
            warnings.push(format!(
                "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
                spec::full(pod)
            ));
        }
        if host.is_none() {
            out.servers = vec!["127.0.0.1".into()];
            out.searches = vec![".".into()];
        }
    }
    if let Some(own) = &spec::spec(pod).dns_config {
        out.servers.extend(own.nameservers.iter().flatten().cloned());
        out.servers = unique(std::mem::take(&mut out.servers));
        out.searches.extend(own.searches.iter().flatten().cloned());
        out.searches = unique(std::mem::take(&mut out.searches));
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            let text = match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name,
            };
            set_option(&mut out.options, text);
        }
    }
    limit(&mut out, &mut warnings);
    (out, warnings)
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

fn limit(dns: &mut DnsConfig, warnings: &mut Vec<String>) {
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        warnings.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let before = dns.searches.len();
    dns.searches.truncate(MAX_SEARCHES);
    dns.searches.retain(|s| s.len() <= MAX_SEARCH_CHARS_EACH);
    while dns.searches.join(" ").len() > MAX_SEARCH_CHARS {
        dns.searches.pop();
    }
    if dns.searches.len() != before {
        warnings.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dns: &DnsConfig) -> String {
        format!("{} | {} | {}", dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" "))
    }

    #[test]
    fn policies() {
        let host = parse("# c\nnameserver 192.0.2.53\nsearch a.example. b.example\noptions ndots:1 rotate\n");
        let cluster = Cluster { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() };
        let own = serde_json::json!({"nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let kube =
            "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local a.example b.example | ndots:5";
        let node = "192.0.2.53 | a.example b.example | ndots:1 rotate";
        for (policy, host_network, with_own, expect) in [
            ("ClusterFirst", false, false, kube),
            ("ClusterFirst", true, false, node),
            ("ClusterFirstWithHostNet", true, false, kube),
            ("Default", false, false, node),
            ("None", false, true, "1.1.1.1 | x | ndots:2 edns0"),
            (
                "ClusterFirst",
                false,
                true,
                "10.96.0.10 1.1.1.1 | n.svc.cluster.local svc.cluster.local cluster.local a.example b.example x | ndots:2 edns0",
            ),
        ] {
            let mut pod = Pod::default();
            pod.metadata.namespace = Some("n".into());
            let pod_spec = pod.spec.get_or_insert_default();
            pod_spec.dns_policy = Some(policy.into());
            pod_spec.host_network = Some(host_network);
            pod_spec.dns_config = with_own.then(|| serde_json::from_value(own.clone()).expect("a config"));
            let (got, warnings) = pod_dns(&pod, Some(&host), &cluster);
            assert_eq!(
                (text(&got).as_str(), warnings.len()),
                (expect, 0),
                "{policy} {host_network} {with_own}"
            );
        }
    }

    #[test]
    fn without_a_cluster_server_the_nodes_is_used_and_said() {
        let (got, warnings) = pod_dns(&Pod::default(), None, &Cluster::default());
        assert_eq!(text(&got), "127.0.0.1 | . | ");
        assert_eq!(warnings.len(), 1);
    }
}
