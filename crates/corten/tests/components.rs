//! The five programs on their own, each a process with upstream's flags and an identity as kubeadm gives it, over
//! HTTPS; with real containers, and the real kubectl from outside.
//!
//! Start reading at the test at the end; what is above sets up certificates, network and container runtime, and
//! takes everything away afterwards.

#[path = "../src/certificates/issue.rs"]
mod issue;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::containerd::{self, Containerd, Images};
use issue::{Authority, Pair, Subject};
use network::cni;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const CORTEN: &str = env!("CARGO_BIN_EXE_corten");
const IMAGE: &str = "components.local/busybox:1";
const NODE: &str = "node-a";
/// Far beyond what anything takes: it ends hanging tests, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(90);

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: components.local/busybox:1
        command: [sh, -c, 'mkdir -p /www; echo answer > /www/index.html; echo begun; exec httpd -f -p 8080 -h /www']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

fn step(name: &str) {
    eprintln!("--- {name}");
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn plugins() -> Option<PathBuf> {
    ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from).into_iter().find(|dir| dir.join("bridge").is_file())
}

/// Whether this machine can do it. Where it must (`CI` is set), what is missing is a failure.
fn able() -> bool {
    let mut missing: Vec<&str> = ["kubectl", "containerd", "runc", "nft", "busybox", "curl"]
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    if plugins().is_none() {
        missing.push("CNI plugins");
    }
    if !nix::unistd::geteuid().is_root() {
        missing.push("root");
    }
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "this machine lacks {missing:?}");
    if !missing.is_empty() {
        eprintln!("skipped: this machine lacks {missing:?}");
    }
    missing.is_empty()
}

#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(error) if begin.elapsed() > PATIENCE => panic!("{what}: at last: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs a program to its end; success with its output, or everything it said.
fn run(command: &mut Command) -> Result<String, String> {
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{command:?}: {out}{err}")) }
}

/// One of the five programs. Dropping it asks it to end.
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    fn stop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                eprintln!("{} did not end by itself", self.name);
                assert!(std::thread::panicking());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("=== {}\n{}", self.name, lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// Certificates, network and container runtime of one cluster. Fields drop in order: programs first.
struct Machine {
    programs: Vec<Program>,
    dir: PathBuf,
    authority: Authority,
    network: cni::Config,
    pods: String,
    services: String,
    /// The bridge's, and so the node's and the API server's.
    address: IpAddr,
    port: u16,
    containers: containerd::Config,
    stop: CancellationToken,
    containerd: Option<tokio::task::JoinHandle<Result<(), containerd::Error>>>,
    runtime: Runtime,
    _temporary: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let temporary = tempfile::Builder::new().prefix("five").rand_bytes(5).tempdir_in("/tmp").unwrap();
        let dir = temporary.path().to_owned();
        let runtime = Runtime::new().unwrap();

        // Ranges that differ between runs at the same time.
        let second = 200 + std::process::id() % 40;
        let (pods, services) = (format!("10.{second}.0.0/17"), format!("10.{second}.128.0/24"));
        let names = cni::names(&dir);
        let network = cni::Config {
            network: names.table,
            bridge: names.bridge,
            pod_cidrs: vec![format!("10.{second}.0.0/24").parse().unwrap()],
            service_cidrs: vec![services.parse().unwrap()],
            conf_dir: dir.join("cni"),
            state_dir: dir.join("ipam"),
            mtu: None,
        };
        let address = *runtime.block_on(cni::setup(&network)).unwrap().gateways.first().unwrap();
        let authority = Authority::new("kubernetes", None, jiff::Timestamp::now()).unwrap();
        let mut containers = containerd::Config::below(&dir.join("c"));
        containers.cni_conf_dir = network.conf_dir.clone();
        containers.cni_bin_dir = plugins().unwrap();
        let port = free_port(address);
        let stop = CancellationToken::new();
        let mut machine = Machine {
            programs: Vec::new(),
            dir,
            authority,
            network,
            pods,
            services,
            address,
            port,
            containers,
            stop,
            containerd: None,
            runtime,
            _temporary: temporary,
        };
        machine.start_containerd();
        machine.certificates();
        machine
    }

    fn start_containerd(&mut self) {
        let handle = self.runtime.handle().clone();
        let _inside = handle.enter();
        let containerd = Containerd::build(self.containers.clone()).unwrap();
        let handle = containerd.handle();
        self.containerd = Some(self.runtime.spawn(containerd.run(self.stop.clone())));
        let archive = self.dir.join("image.tar");
        let busybox = oci::Image::new(IMAGE).busybox(&find("busybox").unwrap()).unwrap();
        self.runtime.block_on(async {
            handle.ready().await.unwrap();
            let images = Images::new(&self.containers);
            let pause = oci::pause(&self.containers.sandbox_image).unwrap();
            for image in [pause, busybox.env("PATH", "/bin:/usr/bin")] {
                image.write_to(&archive).unwrap();
                images.import(&archive).await.unwrap();
            }
        });
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        File::create(self.dir.join(name)).and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
    }

    fn pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.certificate);
        self.write(&format!("{name}.key"), &pair.key);
    }

    fn certificates(&self) {
        let now = jiff::Timestamp::now();
        self.pair("ca", &self.authority.pair);
        let front = Authority::new("front-proxy-ca", None, now).unwrap();
        self.pair("front-proxy-ca", &front.pair);
        self.pair(
            "front-proxy-client",
            &front.sign(&Subject::client("front-proxy-client", &[]), now).unwrap(),
        );
        self.write("sa.key", &issue::service_account_key().unwrap().0);
        let names = vec!["kubernetes".to_owned(), "localhost".to_owned()];
        for (name, subject) in [
            ("apiserver", Subject::server("kube-apiserver", names, vec![self.address])),
            ("serving", Subject::server(&format!("system:node:{NODE}"), Vec::new(), vec![self.address])),
            (
                "apiserver-kubelet-client",
                Subject::client("kube-apiserver-kubelet-client", &["system:masters"]),
            ),
            ("admin", Subject::client("kubernetes-admin", &["system:masters"])),
            ("kube-scheduler", Subject::client("system:kube-scheduler", &[])),
            ("kube-controller-manager", Subject::client("system:kube-controller-manager", &[])),
            ("kube-proxy", Subject::client("system:kube-proxy", &[])),
        ] {
            self.pair(name, &self.authority.sign(&subject, now).unwrap());
            let text = format!(
                "{{apiVersion: v1, kind: Config, current-context: c,\n\
                 clusters: [{{name: c, cluster: {{server: 'https://{}:{}', certificate-authority: ca.crt}}}}],\n\
                 contexts: [{{name: c, context: {{cluster: c, user: u}}}}],\n\
                 users: [{{name: u, user: {{client-certificate: {name}.crt, client-key: {name}.key}}}}]}}\n",
                self.address, self.port
            );
            self.write(&format!("{name}.conf"), &text);
        }
    }

    fn start(&mut self, name: &'static str, flags: &[String]) {
        step(name);
        let log = self.dir.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(CORTEN);
        command.arg(name).args(flags).stdin(Stdio::null()).current_dir(&self.dir);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        self.programs.push(Program { name, child: command.spawn().unwrap(), log });
    }

    fn kubectl(&self, args: &str) -> Result<String, String> {
        self.kubectl_args(&args.split_whitespace().collect::<Vec<_>>())
    }

    fn kubectl_args(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.dir.join("admin.conf")).env("HOME", &self.dir).args(args);
        run(&mut command)
    }

    #[track_caller]
    fn until(&self, args: &str, expect: &str) {
        eventually(&format!("kubectl {args} says {expect:?}"), || {
            let said = self.kubectl(args)?;
            if said.trim() == expect { Ok(()) } else { Err(said) }
        });
    }

    /// What the API server counts as refused, whoever asked.
    #[track_caller]
    fn refused(&self) -> Vec<String> {
        let metrics = self.kubectl("get --raw /metrics").unwrap();
        let mut counts =
            metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")).peekable();
        assert!(counts.peek().is_some(), "{metrics}");
        let refused = |line: &&str| line.contains("code=\"403\"") || line.contains("code=\"401\"");
        // A container runtime may refuse the WebSocket that kubectl tries first; SPDY comes next.
        counts
            .filter(refused)
            .filter(|line| !line.contains("subresource=\"exec\""))
            .map(str::to_owned)
            .collect()
    }

    fn api_server(&mut self) {
        let flags = [
            format!("--data-dir={}", self.path("store")),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", self.path("apiserver.crt")),
            format!("--tls-private-key-file={}", self.path("apiserver.key")),
            format!("--client-ca-file={}", self.path("ca.crt")),
            "--allow-privileged=true".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-bootstrap-token-auth=true".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
            format!("--service-account-signing-key-file={}", self.path("sa.key")),
            format!("--service-account-key-file={}", self.path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-cluster-ip-range={}", self.services),
            format!("--kubelet-certificate-authority={}", self.path("ca.crt")),
            format!("--kubelet-client-certificate={}", self.path("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", self.path("apiserver-kubelet-client.key")),
        ];
        self.start("kube-apiserver", &flags);
        eventually("the API server is ready", || self.kubectl("get --raw /readyz"));
    }

    /// The flags of the scheduler and the controller manager as kubeadm writes them.
    fn control_flags(&self, name: &str, port: u16) -> Vec<String> {
        let kubeconfig = self.path(&format!("{name}.conf"));
        vec![
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--kubeconfig={kubeconfig}"),
            "--leader-elect=true".to_owned(),
            format!("--secure-port={port}"),
        ]
    }

    fn controller_manager(&mut self, port: u16) {
        let mut flags = self.control_flags("kube-controller-manager", port);
        flags.extend([
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", self.pods),
            format!("--client-ca-file={}", self.path("ca.crt")),
            "--cluster-name=kubernetes".to_owned(),
            format!("--cluster-signing-cert-file={}", self.path("ca.crt")),
            format!("--cluster-signing-key-file={}", self.path("ca.key")),
            "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
            format!("--requestheader-client-ca-file={}", self.path("front-proxy-ca.crt")),
            format!("--service-account-private-key-file={}", self.path("sa.key")),
            format!("--service-cluster-ip-range={}", self.services),
            format!("--root-ca-file={}", self.path("ca.crt")),
            "--use-service-account-credentials=true".to_owned(),
            "--node-monitor-grace-period=15s".to_owned(),
            "--node-monitor-period=1s".to_owned(),
        ]);
        self.start("kube-controller-manager", &flags);
    }

    /// A kubelet without a certificate, with a token to ask for one: as kubeadm's `join` leaves it.
    fn kubelet(&mut self) {
        self.kubectl(
            "create secret generic -n kube-system bootstrap-token-abcdef --type=bootstrap.kubernetes.io/token \
             --from-literal=token-id=abcdef --from-literal=token-secret=0123456789abcdef \
             --from-literal=usage-bootstrap-authentication=true",
        )
        .unwrap();
        self.kubectl(
            "create clusterrolebinding kubelet-bootstrap --clusterrole=system:node-bootstrapper \
             --group=system:bootstrappers",
        )
        .unwrap();
        let text = std::fs::read_to_string(self.dir.join("kube-proxy.conf")).unwrap();
        let (before, _) = text.split_once("user: {client-certificate").unwrap();
        self.write(
            "bootstrap-kubelet.conf",
            &format!("{before}user: {{token: abcdef.0123456789abcdef}}}}]}}\n"),
        );
        let healthz = free_port([127, 0, 0, 1].into());
        self.write(
            "kubelet.yaml",
            &format!(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                 address: {address}\nport: {port}\nhealthzPort: {healthz}\n\
                 authentication: {{x509: {{clientCAFile: {ca}}}, webhook: {{enabled: true}}}}\n\
                 authorization: {{mode: Webhook}}\n\
                 cgroupRoot: /corten-five-{pid}\npodLogsDir: {logs}\n\
                 containerRuntimeEndpoint: {endpoint}\n\
                 tlsCertFile: {cert}\ntlsPrivateKeyFile: {key}\n\
                 rotateCertificates: true\ncgroupDriver: cgroupfs\n\
                 evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%}}\n",
                address = self.address,
                port = free_port(self.address),
                ca = self.path("ca.crt"),
                pid = std::process::id(),
                logs = self.path("logs"),
                endpoint = self.containers.endpoint(),
                cert = self.path("serving.crt"),
                key = self.path("serving.key"),
            ),
        );
        let flags = [
            format!("--config={}", self.path("kubelet.yaml")),
            format!("--bootstrap-kubeconfig={}", self.path("bootstrap-kubelet.conf")),
            format!("--kubeconfig={}", self.path("kubelet.conf")),
            format!("--cert-dir={}", self.path("pki")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.address),
            format!("--root-dir={}", self.path("k")),
        ];
        self.start("kubelet", &flags);
    }

    /// Approves the one certificate request that nobody has signed, and signs it for so many seconds, in place of
    /// the controllers for it. Answers who asked.
    #[track_caller]
    fn sign(&self, seconds: i64) -> String {
        let request = eventually("a certificate request", || {
            let all: Value = serde_json::from_str(&self.kubectl("get csr -o json")?).unwrap();
            let mut all = all["items"].as_array().unwrap().iter();
            all.find(|request| request["status"]["certificate"].is_null()).cloned().ok_or("none".to_owned())
        });
        let name = request["metadata"]["name"].as_str().unwrap();
        self.kubectl(&format!("certificate approve {name}")).unwrap();
        let approved = self.kubectl(&format!("get csr {name} -o json")).unwrap();
        let mut approved: Value = serde_json::from_str(&approved).unwrap();
        let asked = STANDARD.decode(approved["spec"]["request"].as_str().unwrap()).unwrap();
        let asked = String::from_utf8(asked).unwrap();
        let mut asked = rcgen::CertificateSigningRequestParams::from_pem(&asked).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let time = |second| time::OffsetDateTime::from_unix_timestamp(second).unwrap();
        (asked.params.not_before, asked.params.not_after) = (time(now - 300), time(now + seconds));
        asked.params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let Pair { certificate, key } = &self.authority.pair;
        let key = rcgen::KeyPair::from_pem(key).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(certificate, key).unwrap();
        let certificate = asked.signed_by(&issuer).unwrap().pem();
        approved["status"]["certificate"] = STANDARD.encode(certificate).into();
        self.write("csr.json", &approved.to_string());
        let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/status");
        self.kubectl(&format!("replace --raw {path} -f {}", self.path("csr.json"))).unwrap();
        approved["spec"]["username"].as_str().unwrap_or_default().to_owned()
    }

    fn proxy(&mut self, healthz: u16, metrics: u16) {
        self.write(
            "proxy.yaml",
            &format!(
                "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
                 clientConnection: {{kubeconfig: kube-proxy.conf}}\nclusterCIDR: {}\n",
                self.pods
            ),
        );
        let flags = [
            format!("--config={}", self.path("proxy.yaml")),
            format!("--hostname-override={NODE}"),
            format!("--healthz-bind-address=127.0.0.1:{healthz}"),
            format!("--metrics-bind-address=127.0.0.1:{metrics}"),
        ];
        self.start("kube-proxy", &flags);
    }

    fn clean(&mut self) -> Result<(), String> {
        self.programs.clear();
        let said = |error: &dyn std::fmt::Display| error.to_string();
        run(Command::new(CORTEN).args(["kube-proxy", "--cleanup"]))?;
        self.stop.cancel();
        self.runtime.block_on(async {
            if let Some(containerd) = self.containerd.take() {
                let _ = containerd.await;
            }
            containerd::remove_all(&self.containers).await.map_err(|error| said(&error))?;
            cni::cleanup(&self.network).await.map_err(|error| said(&error))
        })?;
        for root in [self.dir.join("k"), self.dir.join("c")] {
            if root.exists() {
                linux::mount::unmount_below(&root).map_err(|error| said(&error))?;
            }
        }
        // The kubelet may have ended before it removed the last container's link.
        for entry in std::fs::read_dir("/var/log/containers").into_iter().flatten().flatten() {
            if std::fs::read_link(entry.path()).is_ok_and(|log| log.starts_with(&self.dir)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let groups = linux::cgroup::Cgroups::discover().map_err(|error| said(&error))?;
        let root = format!("/corten-five-{}", std::process::id());
        if groups.exists(&root) {
            groups.remove(&root).map_err(|error| said(&error))?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.programs.is_empty() {
            for args in ["get pods -A -o wide", "get events -A", "get nodes -o wide"] {
                eprintln!("{}", self.kubectl(args).unwrap_or_else(|error| error));
            }
        }
        if let Err(error) = self.clean() {
            eprintln!("cleaning up: {error}");
            assert!(std::thread::panicking(), "cleaning up: {error}");
        }
    }
}

/// What `GET /` says there.
fn ask(address: SocketAddr) -> Result<String, String> {
    let said = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    said().map_err(|error| error.to_string())
}

/// The status of a page, and the page.
#[track_caller]
fn page(url: &str, args: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-ksS", "--noproxy", "*", "--max-time", "20", "-w", "\n%{http_code}"]).args(args).arg(url);
    let said = eventually(url, || run(&mut command));
    let (body, code) = said.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

#[test]
fn five_programs() {
    if !able() {
        return;
    }
    let mut m = Machine::new();
    let ports: Vec<u16> = (0..4).map(|_| free_port([127, 0, 0, 1].into())).collect();
    m.api_server();
    m.controller_manager(ports[0]);
    let flags = m.control_flags("kube-scheduler", ports[1]);
    m.start("kube-scheduler", &flags);
    m.kubelet();
    m.proxy(ports[2], ports[3]);

    step("the kubelet's certificate: asked for, and at once renewed since it lasts so little");
    assert_eq!(m.sign(60), "system:bootstrap:abcdef");
    assert_eq!(m.sign(86_400), format!("system:node:{NODE}"));
    let current = m.dir.join("pki/kubelet-client-current.pem");
    eventually("the link leads to the second certificate", || {
        let files = std::fs::read_dir(m.dir.join("pki")).unwrap().count();
        if files == 3 { Ok(()) } else { Err(format!("{files} files beside {}", current.display())) }
    });
    assert!(current.exists());

    step("the node");
    eventually("the node is there", || m.kubectl(&format!("get node {NODE}")));
    m.kubectl(&format!("wait --for=condition=Ready node/{NODE} --timeout=80s")).unwrap();
    eventually("the default service account", || m.kubectl("get serviceaccount default"));

    step("a Deployment and its Service");
    m.write("web.yaml", WEB);
    m.kubectl(&format!("apply -f {}", m.path("web.yaml"))).unwrap();
    m.kubectl("rollout status deployment/web --timeout=80s").unwrap();
    let ip = m.kubectl("get service web -o jsonpath={.spec.clusterIP}").unwrap();
    let service = SocketAddr::new(ip.parse().unwrap(), 80);
    eventually("the Service answers", || {
        ask(service).and_then(|said| if said.contains("answer") { Ok(()) } else { Err(said) })
    });

    step("through the kubelet's server");
    assert_eq!(m.kubectl("logs deployment/web").unwrap().trim(), "begun");
    assert_eq!(m.kubectl("exec deployment/web -- cat /www/index.html").unwrap().trim(), "answer");

    step("pages about themselves");
    m.kubectl("create serviceaccount monitor").unwrap();
    m.kubectl("create clusterrole monitor --verb=get --non-resource-url=/metrics").unwrap();
    m.kubectl("create clusterrolebinding monitor --clusterrole=monitor --serviceaccount=default:monitor")
        .unwrap();
    let monitor = format!("Authorization: Bearer {}", m.kubectl("create token monitor").unwrap().trim());
    let token = m.kubectl("create token default").unwrap();
    let other = format!("Authorization: Bearer {}", token.trim());
    for port in &ports[..2] {
        let at = |path: &str| format!("https://127.0.0.1:{port}{path}");
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(page(&at(path), &[]), ("200".into(), "ok".into()), "{path}");
        }
        for (header, expect) in
            [("X-None: 1", "403"), ("Authorization: Bearer x", "401"), (&other, "403"), (&monitor, "200")]
        {
            let (code, body) = page(&at("/metrics"), &["-H", header]);
            assert_eq!(code, expect, "{body}");
            assert_eq!(code == "200", body.contains("leader_election_master_status"), "{body}");
        }
        assert_eq!(page(&at("/nothing"), &["-H", &monitor]).0, "403");
    }
    for (name, expect) in [("admin", "200"), ("kube-proxy", "403")] {
        let (cert, key) = (m.path(&format!("{name}.crt")), m.path(&format!("{name}.key")));
        let metrics = format!("https://127.0.0.1:{}/metrics", ports[0]);
        assert_eq!(page(&metrics, &["--cert", &cert, "--key", &key]).0, expect, "{name}");
    }
    let metrics = |port: u16| page(&format!("https://127.0.0.1:{port}/metrics"), &["-H", &monitor]).1;
    for (port, lines) in [
        (
            ports[0],
            &[
                "leader_election_master_status{name=\"kube-controller-manager\"} 1",
                "# TYPE workqueue_adds_total counter",
                "workqueue_adds_total{name=\"deployment\"} ",
                "workqueue_depth{name=\"replicaset\"} 0",
                "workqueue_queue_duration_seconds_count{name=\"endpoint_slice\"} ",
                "workqueue_work_duration_seconds_bucket{le=\"+Inf\",name=\"namespace\"} ",
                "method=\"GET\"} ",
                "rest_client_requests_total{code=\"201\",host=\"",
                "process_resident_memory_bytes ",
            ][..],
        ),
        (
            ports[1],
            &[
                "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 2",
                "scheduler_pending_pods{queue=\"active\"} 0",
                "scheduler_pending_pods{queue=\"unschedulable\"} 0",
                "scheduler_scheduling_attempt_duration_seconds_count{",
                "scheduler_pod_scheduling_attempts_sum 2",
                "scheduler_cache_size{type=\"nodes\"} 1",
                "rest_client_request_duration_seconds_count{",
            ],
        ),
    ] {
        let text = metrics(port);
        for line in lines {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
    step("a proxy in front that says whom it speaks for");
    let at = format!("https://127.0.0.1:{}/metrics", ports[0]);
    let proxy = |name: &str, headers: &[&str]| {
        let (cert, key) = (m.path(&format!("{name}.crt")), m.path(&format!("{name}.key")));
        let mut args = vec!["--cert", &cert, "--key", &key];
        headers.iter().for_each(|header| args.extend(["-H", header]));
        page(&at, &args).0
    };
    let monitoring = "X-Remote-User: system:serviceaccount:default:monitor";
    assert_eq!(proxy("front-proxy-client", &[monitoring]), "200");
    assert_eq!(proxy("front-proxy-client", &["X-Remote-User: x", "X-Remote-Group: system:masters"]), "200");
    assert_eq!(proxy("front-proxy-client", &["X-Remote-User: x"]), "403");
    assert_eq!(proxy("kube-proxy", &[monitoring]), "403");
    let (code, body) = page(&format!("http://127.0.0.1:{}/healthz", ports[2]), &[]);
    assert_eq!(code, "200", "{body}");
    assert!(body.contains("lastUpdated"), "{body}");
    let (code, body) = page(&format!("http://127.0.0.1:{}/metrics", ports[3]), &[]);
    assert!(code == "200" && body.contains("kubeproxy_sync_proxy_rules"), "{body}");
    assert_eq!(page(&format!("http://127.0.0.1:{}/proxyMode", ports[3]), &[]).1, "nftables");

    step("every controller under its own name");
    for (verb, what) in [("create", "pods"), ("update", "deployments.apps"), ("delete", "namespaces")] {
        let asked = format!("auth can-i {verb} {what} --as=system:kube-controller-manager");
        assert!(m.kubectl(&asked).is_err(), "{verb} {what} needs no identity of a controller's");
    }
    for account in
        ["deployment-controller", "replicaset-controller", "endpointslice-controller", "node-controller"]
    {
        m.kubectl(&format!("get serviceaccount -n kube-system {account}")).unwrap();
    }

    assert_eq!(m.refused(), Vec::<String>::new());

    step("scaling, garbage collection, a namespace's end");
    m.kubectl("scale deployment/web --replicas=1").unwrap();
    m.until("get pods -o jsonpath={.items[*].status.phase}", "Running");
    m.kubectl("create namespace other").unwrap();
    m.kubectl("create configmap -n other c --from-literal=a=b").unwrap();
    m.kubectl(&format!("create deployment -n other d --image={}", m.containers.sandbox_image)).unwrap();
    m.kubectl("rollout status -n other deployment/d --timeout=80s").unwrap();
    m.kubectl("delete namespace other --timeout=80s").unwrap();
    m.kubectl("delete deployment web --wait=false").unwrap();
    m.until("get replicasets,pods -A -o name", "");
    m.kubectl("delete service web").unwrap();
    m.until("get endpointslices -l kubernetes.io/service-name=web -o name", "");

    step("nobody was refused anything");
    // A namespace that is going takes no new pods and events: admission says so, not RBAC.
    let mut refused = m.refused();
    refused.retain(|line| !line.contains("resource=\"pods\"") && !line.contains("resource=\"events\""));
    assert_eq!(refused, Vec::<String>::new());
    for program in &m.programs {
        let log = program.log();
        let refused: Vec<&str> =
            log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
        assert!(refused.is_empty(), "{}: {refused:#?}", program.name);
    }

    step("a node that falls silent");
    m.programs.retain(|program| program.name != "kubelet");
    m.until(
        &format!("get node {NODE} -o jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}"),
        "Unknown",
    );
    m.kubectl(&format!("delete node {NODE}")).unwrap();
    m.clean().unwrap();
}
