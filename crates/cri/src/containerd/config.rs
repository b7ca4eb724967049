//! The configuration as text.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Everything about one containerd. Fields are plain; nothing happens until [`super::Containerd::build`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where images and container file systems live.
    pub root: PathBuf,
    /// Where run-time state lives: pid file, mounts, network namespaces. Emptied by a reboot or not: both work.
    pub state: PathBuf,
    /// The socket of containerd and of the CRI.
    pub socket: PathBuf,
    /// Standard output and error.
    pub log: PathBuf,
    /// `containerd` or a path to it.
    pub binary: PathBuf,
    /// `ctr` or a path to it; imports archives.
    pub ctr: PathBuf,
    /// The image that holds a pod's namespaces; never collected.
    pub sandbox_image: String,
    /// Where the network plugins lie.
    pub cni_bin_dir: PathBuf,
    /// Where the network configuration lies.
    pub cni_conf_dir: PathBuf,
    /// Registries with their mirrors; written to `<root>/../certs.d`, see [`Config::certs_dir`].
    pub mirrors: Vec<Mirror>,
    /// Runtime handlers; the first one is the default.
    pub runtimes: Vec<Runtime>,
    /// How layers are put together: `overlayfs`, or `native` where the file system knows no overlay.
    pub snapshotter: String,
    /// Containers never ask for a lower OOM score than containerd's own. A must where CAP_SYS_RESOURCE is
    /// missing: a sandbox fails without it.
    pub restrict_oom_score_adj: bool,
    /// Concurrent layer downloads per image.
    pub max_concurrent_downloads: u32,
    /// How long an idle exec, attach or port-forward stream is kept, as Go prints it.
    pub stream_idle_timeout: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
}

/// Where images of one registry come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `docker.io`, `registry.local:5000`, or `_default` for all that are not named.
    pub registry: String,
    /// Base addresses in the order in which they are asked, e.g. `http://127.0.0.1:5000`. The registry itself is
    /// asked last, except for `_default`.
    pub endpoints: Vec<String>,
    /// Accept any certificate.
    pub skip_verify: bool,
}

/// A runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Handler name, as RuntimeClass objects use it.
    pub name: String,
    /// `runc`, `crun` or a path.
    pub binary: String,
}

impl Config {
    /// A configuration with everything below `dir`, runc, and Debian's plugin directory.
    pub fn below(dir: &std::path::Path) -> Config {
        Config {
            root: dir.join("root"),
            state: dir.join("state"),
            socket: dir.join("containerd.sock"),
            log: dir.join("containerd.log"),
            binary: "containerd".into(),
            ctr: "ctr".into(),
            sandbox_image: "localhost/pause:1".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
            cni_conf_dir: dir.join("cni"),
            mirrors: Vec::new(),
            runtimes: vec![Runtime { name: "runc".into(), binary: "runc".into() }],
            snapshotter: "overlayfs".into(),
            restrict_oom_score_adj: true,
            max_concurrent_downloads: 3,
            stream_idle_timeout: "4h0m0s".into(),
            log_level: "info".into(),
        }
    }

    /// The endpoint in the form that the kubelet's flag has.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Where the registry configuration is written.
    pub fn certs_dir(&self) -> PathBuf {
        self.root.with_file_name("certs.d")
    }

    /// Where the configuration is written.
    pub fn path(&self) -> PathBuf {
        self.root.with_file_name("containerd.toml")
    }

    /// The pid of the process, left for the next start.
    pub(super) fn pid_file(&self) -> PathBuf {
        self.state.with_file_name("containerd.pid")
    }

    /// The configuration file: version 2, which containerd 1.6, 1.7 and 2.x read. What this node does not use is
    /// switched off: other snapshotters, the restart monitor, cgroup metrics per task, tracing.
    pub fn toml(&self) -> String {
        let mut t = String::new();
        let q = |s: &str| quote(s);
        let p = |p: &PathBuf| quote(&p.to_string_lossy());
        let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
        let _ = writeln!(t, "version = 2\nroot = {}\nstate = {}", p(&self.root), p(&self.state));
        let _ = writeln!(t, "disabled_plugins = [");
        for plugin in [
            "io.containerd.internal.v1.opt",
            "io.containerd.internal.v1.restart",
            "io.containerd.internal.v1.tracing",
            "io.containerd.monitor.v1.cgroups",
            "io.containerd.snapshotter.v1.aufs",
            "io.containerd.snapshotter.v1.blockfile",
            "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper",
            "io.containerd.snapshotter.v1.zfs",
            "io.containerd.tracing.processor.v1.otlp",
        ] {
            let _ = writeln!(t, "  {},", q(plugin));
        }
        let _ = writeln!(t, "]\n\n[grpc]\n  address = {}", p(&self.socket));
        let _ = writeln!(t, "\n[debug]\n  level = {}", q(&self.log_level));
        let _ = writeln!(t, "\n[{cri}]");
        let _ = writeln!(t, "  sandbox_image = {}", q(&self.sandbox_image));
        let _ = writeln!(t, "  restrict_oom_score_adj = {}", self.restrict_oom_score_adj);
        let _ = writeln!(t, "  max_concurrent_downloads = {}", self.max_concurrent_downloads);
        let _ = writeln!(t, "  enable_unprivileged_ports = true\n  enable_unprivileged_icmp = true");
        let _ = writeln!(t, "  disable_tcp_service = true\n  netns_mounts_under_state_dir = true");
        let _ = writeln!(t, "  stream_server_address = \"127.0.0.1\"\n  stream_server_port = \"0\"");
        let _ = writeln!(t, "  stream_idle_timeout = {}", q(&self.stream_idle_timeout));
        let _ = writeln!(t, "\n  [{cri}.cni]");
        let _ = writeln!(t, "    bin_dir = {}", p(&self.cni_bin_dir));
        let _ = writeln!(t, "    conf_dir = {}", p(&self.cni_conf_dir));
        let _ = writeln!(t, "\n  [{cri}.registry]\n    config_path = {}", p(&self.certs_dir()));
        let _ = writeln!(t, "\n  [{cri}.containerd]\n    snapshotter = {}", q(&self.snapshotter));
        if let Some(first) = self.runtimes.first() {
            let _ = writeln!(t, "    default_runtime_name = {}", q(&first.name));
        }
        for r in &self.runtimes {
            let at = format!("{cri}.containerd.runtimes.{}", q(&r.name));
            let _ = writeln!(t, "\n    [{at}]\n      runtime_type = \"io.containerd.runc.v2\"");
            let _ = writeln!(t, "      [{at}.options]\n        BinaryName = {}", q(&r.binary));
            let root = self.state.join("runtimes").join(&r.name);
            let _ = writeln!(t, "        Root = {}\n        SystemdCgroup = false", p(&root));
        }
        t
    }
}

impl Mirror {
    /// The `hosts.toml` of this registry.
    pub fn hosts_toml(&self) -> String {
        let mut t = String::new();
        let server = match self.registry.as_str() {
            "_default" => None,
            "docker.io" => Some("https://registry-1.docker.io".to_owned()),
            other => Some(format!("https://{other}")),
        };
        if let Some(server) = server {
            let _ = writeln!(t, "server = {}", quote(&server));
        }
        for endpoint in &self.endpoints {
            let _ = writeln!(t, "\n[host.{}]\n  capabilities = [\"pull\", \"resolve\"]", quote(endpoint));
            if self.skip_verify {
                let _ = writeln!(t, "  skip_verify = true");
            }
        }
        t
    }
}

/// A basic TOML string.
fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        for (input, expect) in [("a", r#""a""#), ("a\"b\\c", r#""a\"b\\c""#), ("a\nb", r#""a\u000Ab""#)] {
            assert_eq!(quote(input), expect);
        }
    }

    #[test]
    fn mirrors_name_the_registry_last() {
        let m = Mirror {
            registry: "docker.io".into(),
            endpoints: vec!["http://127.0.0.1:5000".into()],
            skip_verify: true,
        };
        assert_eq!(
            m.hosts_toml(),
            "server = \"https://registry-1.docker.io\"\n\n[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n"
        );
        let default = Mirror { registry: "_default".into(), ..m };
        assert!(!default.hosts_toml().contains("server"));
    }

    #[test]
    fn directories_are_all_below_one() {
        let config = Config::below(std::path::Path::new("/d/\"x"));
        for line in config.toml().lines().filter(|l| l.contains("/d/")) {
            assert!(line.contains(r#""/d/\"x/"#), "{line}");
        }
        assert!(config.toml().contains("restrict_oom_score_adj = true"));
        assert_eq!(config.path(), std::path::Path::new("/d/\"x/containerd.toml"));
    }
}
