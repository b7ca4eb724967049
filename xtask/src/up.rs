//! `cargo xtask up`: from a bare machine to a cluster that answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::packages;
use crate::run::{command, output, root, run as execute, step};

const BINARY: &str = "target/release/corten";
const MANIFESTS: &str = "examples/guestbook/manifests";

pub fn run(args: Vec<String>) -> Result<()> {
    let sample = !args.iter().any(|arg| arg == "--no-sample");
    let mut flags: Vec<String> = args.into_iter().filter(|arg| arg != "--no-sample").collect();
    if !flags.iter().any(|flag| flag == "--detach") {
        flags.push("--detach".to_owned());
    }
    let data = data_directory(&flags);

    step("packages", || {
        packages::install(if sample {
            &[packages::CLUSTER, packages::SAMPLE, packages::CURL]
        } else {
            &[packages::CLUSTER]
        })
    })?;
    step("build (release)", || {
        let mut build = command("cargo", &["build", "--release", "-p", "corten"]);
        if sample {
            build.args(["-p", "guestbook"]);
        }
        execute(&mut build)
    })?;
    step("cluster", || execute(command(BINARY, &["up"]).args(&flags)))?;
    let mut address = None;
    if sample {
        step("sample images", || import_images(&data))?;
        let api = Api { data: data.clone() };
        step("sample application", || api.apply_all())?;
        address = Some(step("sample answers over its Service", || api.answer())?);
    }
    println!();
    if let Some(address) = &address {
        println!("The guestbook answers at http://{address}/ and on node port 30080. Try next:");
    } else {
        println!("Try next:");
    }
    println!("  export KUBECONFIG={}", data.join("admin.conf").display());
    println!("  kubectl get pods -A -o wide");
    if sample {
        println!("  kubectl -n guestbook scale deployment web --replicas 4");
        println!("  curl -d entry=hello http://{}/", address.unwrap_or_default());
    }
    println!("  {BINARY} status --data-dir {}", data.display());
    println!("  {BINARY} down --data-dir {}           # --purge forgets everything", data.display());
    Ok(())
}

/// What `corten up` will use: its `--data-dir`, or its default.
fn data_directory(flags: &[String]) -> PathBuf {
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if let Some(path) = flag.strip_prefix("--data-dir=") {
            return path.into();
        }
        if flag == "--data-dir"
            && let Some(path) = flags.next()
        {
            return path.into();
        }
    }
    "/var/lib/corten".into()
}

fn import_images(data: &Path) -> Result<()> {
    let web = oci::Image::new("guestbook.local/web:1")
        .program(&root().join("target/release/guestbook"), "/guestbook")?
        .entrypoint(&["/guestbook"])
        .user("65534:65534");
    let redis = oci::Image::new("guestbook.local/redis:1")
        .program(Path::new("/usr/bin/redis-server"), "/usr/bin/redis-server")?
        .program(Path::new("/usr/bin/redis-cli"), "/usr/bin/redis-cli")?
        .directory("/data", 0o777)
        .directory("/tmp", 0o1777)
        .entrypoint(&["/usr/bin/redis-server", "--dir", "/data", "--save", "60 1", "--protected-mode", "no"]);
    let directory = std::env::temp_dir().join(format!("corten-sample-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let imported = [("web", web), ("redis", redis)].iter().try_for_each(|(name, image)| {
        let file = directory.join(format!("{name}.tar"));
        image.write_to(&file)?;
        execute(command(BINARY, &["image", "import", "--data-dir"]).arg(data).arg(&file))
    });
    std::fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    imported
}

/// The cluster's API through curl and the administrator's certificate, since a bare machine has no kubectl.
struct Api {
    data: PathBuf,
}

impl Api {
    fn server(&self) -> Result<String> {
        let path = self.data.join("admin.conf");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("server: "));
        line.map(str::to_owned).with_context(|| format!("no server in {}", path.display()))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Path>) -> Result<(u16, Value)> {
        let pki = self.data.join("pki");
        let url = format!("{}{path}", self.server()?);
        let mut curl = command("curl", &["-sS", "-X", method, "-w", "\n%{http_code}", &url]);
        curl.arg("--cacert").arg(pki.join("ca.crt"));
        curl.arg("--cert").arg(pki.join("admin.crt")).arg("--key").arg(pki.join("admin.key"));
        if let Some(body) = body {
            curl.args(["-H", "Content-Type: application/yaml", "--data-binary"]);
            curl.arg(format!("@{}", body.display()));
        }
        let text = output(&mut curl)?;
        let (json, code) = text.rsplit_once('\n').context("no answer from the API server")?;
        let code = code.parse().context("no status code from curl")?;
        Ok((code, serde_json::from_str(json).unwrap_or(Value::String(json.to_owned()))))
    }

    /// Creates every object of the sample, in the order of the files' names.
    fn apply_all(&self) -> Result<()> {
        let directory = root().join(MANIFESTS);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .with_context(|| format!("listing {}", directory.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            let kind = text.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
            let collection = match kind {
                "Namespace" => "/api/v1/namespaces",
                "ConfigMap" => "/api/v1/namespaces/guestbook/configmaps",
                "Service" => "/api/v1/namespaces/guestbook/services",
                "Deployment" => "/apis/apps/v1/namespaces/guestbook/deployments",
                other => bail!("{} is a {other}, which the sample does not use", file.display()),
            };
            match self.request("POST", collection, Some(&file))? {
                (200..=299 | 409, _) => {}
                (code, answer) => bail!("creating {}: {code} {answer}", file.display()),
            }
        }
        Ok(())
    }

    /// Waits until the guestbook answers on its cluster IP, and gives that.
    fn answer(&self) -> Result<String> {
        let (_, service) = self.request("GET", "/api/v1/namespaces/guestbook/services/web", None)?;
        let address =
            service["spec"]["clusterIP"].as_str().context("the Service web has no cluster IP")?.to_owned();
        let begin = Instant::now();
        loop {
            let problem = match get(&format!("{address}:80")) {
                Ok(page) if page.contains("answered by web-") => return Ok(address),
                Ok(page) => page,
                Err(error) => error.to_string(),
            };
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("http://{address}/ has not answered within 60 s; last: {problem}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn get(address: &str) -> Result<String> {
    let timeout = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(2))?;
    stream.set_read_timeout(timeout)?;
    write!(stream, "GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
