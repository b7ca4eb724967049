//! A pod's host name and its /etc/hosts.

use std::fmt::Write as _;

use api::core::v1::{HostAlias, Pod};

use super::spec;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
const MAX_NAME: usize = 63;

/// Host name and domain; the domain is empty without a subdomain.
pub fn names(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let pod_spec = spec::spec(pod);
    if let Some(name) = pod_spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return (shorten(name), String::new());
    }
    let own = pod_spec.hostname.as_deref().filter(|n| !n.is_empty());
    let subdomain = pod_spec.subdomain.as_deref().filter(|n| !n.is_empty());
    let domain = subdomain.map(|s| format!("{s}.{}.svc.{cluster_domain}", spec::namespace(pod)));
    (shorten(own.unwrap_or(spec::name(pod))), domain.unwrap_or_default())
}

fn shorten(name: &str) -> String {
    let cut = name.get(..MAX_NAME).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The name that the kernel is told: the full one if the pod wants that and it fits.
pub fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = names(pod, cluster_domain);
    if spec::spec(pod).set_hostname_as_fqdn != Some(true) || domain.is_empty() {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The file's text. `node_hosts` is the node's own /etc/hosts, for pods on its network.
pub fn file(pod: &Pod, ips: &[String], cluster_domain: &str, node_hosts: &str) -> String {
    let mut out = String::new();
    if spec::host_network(pod) {
        out.push_str(HEADER_HOST_NETWORK);
        out.push_str(node_hosts);
    } else {
        let (name, domain) = names(pod, cluster_domain);
        out.push_str(HEADER);
        out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        for ip in ips {
            let _ = if domain.is_empty() {
                writeln!(out, "{ip}\t{name}")
            } else {
                writeln!(out, "{ip}\t{name}.{domain}\t{name}")
            };
        }
    }
    aliases(&mut out, spec::spec(pod).host_aliases.as_deref().unwrap_or_default());
    out
}

fn aliases(out: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        let _ = writeln!(out, "{}\t{names}", alias.ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        let mut pod: Pod =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "web-0", "namespace": "n"}}))
                .expect("a pod");
        let mut spec = serde_json::json!({"containers": []});
        spec.as_object_mut().expect("object").extend(json.as_object().cloned().unwrap_or_default());
        pod.spec = Some(serde_json::from_value(spec).expect("a spec"));
        pod
    }

    #[test]
    fn host_names() {
        for (spec, kernel, domain) in [
            (serde_json::json!({}), "web-0", ""),
            (serde_json::json!({"hostname": "h", "subdomain": "s"}), "h", "s.n.svc.c.local"),
            (
                serde_json::json!({"subdomain": "s", "setHostnameAsFQDN": true}),
                "web-0.s.n.svc.c.local",
                "s.n.svc.c.local",
            ),
        ] {
            let pod = pod(spec);
            assert_eq!(kernel_name(&pod, "c.local").as_deref(), Ok(kernel));
            assert_eq!(names(&pod, "c.local").1, domain);
        }
        assert_eq!(shorten(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    }

    #[test]
    fn the_file_names_the_pod_and_its_aliases() {
        let pod = pod(
            serde_json::json!({"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let text = file(&pod, &["10.0.0.1".into()], "c.local", "");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{text}");
        assert!(
            text.ends_with(
                "10.0.0.1\th.s.n.svc.c.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
            ),
            "{text}"
        );
    }
}
