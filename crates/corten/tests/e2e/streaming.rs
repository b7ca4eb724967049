//! exec, attach, port-forward and logs as every kubectl asks for them: over WebSocket and over SPDY, translated by
//! the kubelet and by the API server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::{Cluster, eventually, find, free_port, kubectls, run, step};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: e2e.local/busybox:1
    command: [sh, -c, "mkdir /www; echo here > /www/index.html; exec httpd -f -p 8080 -h /www"]
    readinessProbe: {httpGet: {port: 8080, path: /index.html}, periodSeconds: 1}
"#;

const REMOTE: &str = "KUBECTL_REMOTE_COMMAND_WEBSOCKETS";
const FORWARD: &str = "KUBECTL_PORT_FORWARD_WEBSOCKETS";

#[test]
fn streams() {
    let Some(c) = Cluster::start() else { return };
    c.apply(POD);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=110s"]).ok();
    let all = kubectls();
    let newest = all.last().cloned().or_else(|| find("kubectl")).unwrap();
    let mut programs: Vec<PathBuf> = all.first().cloned().into_iter().chain(find("kubectl")).collect();
    programs.push(newest.clone());
    programs.dedup();
    for program in &programs {
        for websocket in ["true", "false"] {
            everything(&c, program, websocket);
        }
    }
    really_websocket(&c, &newest);
    by_the_api_server(&c, &newest);
}

/// What one kubectl does with streams, in one way.
fn everything(c: &Cluster, program: &Path, websocket: &str) {
    let name = program.file_name().unwrap().to_string_lossy();
    let variables = [(REMOTE, websocket), (FORWARD, websocket)];
    let k = |args: &[&str], input: &str| c.kubectl_in(program, &variables, args, input);

    step(&format!("{name}, WebSocket {websocket}: outputs and exit code"));
    let said = k(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 42"], "");
    assert_eq!((said.code, said.out.as_str()), (42, "out\n"), "{said}");
    assert!(said.err.contains("err\n") && said.err.contains("exit code 42"), "{said}");
    k(&["exec", "p", "--", "/no/such/program"], "").fails().has(&["no such file"]);
    k(&["exec", "p", "-c", "none", "--", "true"], "").fails().has(&["container none"]);

    step("stdin ends, output goes on");
    let text = "line\n".repeat(200_000);
    let said = k(&["exec", "-i", "p", "--", "sh", "-c", "cat; sleep 1; echo end"], &text).ok();
    assert!(said.out == format!("{text}end\n"), "{} bytes came back", said.out.len());
    let said = k(&["exec", "p", "--", "sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x"], "").ok();
    assert!(said.out.len() == 5_000_000, "{} bytes came", said.out.len());

    step("run -i --rm: attach");
    let image = format!("--image={}", crate::cluster::IMAGE);
    let args = ["run", "cat", "-i", "--rm", "--restart=Never", &image, "--", "sh", "-c", "sleep 2; cat"];
    k(&args, "attached\n").ok().has(&["attached"]);

    step("port-forward");
    let port = free_port();
    let forward = c.background_in(program, &variables, &["port-forward", "pod/p", &format!("{port}:8080")]);
    forward.until("forwarding", |out| out.contains("Forwarding from 127.0.0.1"));
    for _ in 0..3 {
        let url = format!("http://127.0.0.1:{port}/index.html");
        let said = run(Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "20", &url]), "");
        assert_eq!(said.ok().out, "here\n");
    }
}

/// The newest kubectl does not fall back to SPDY.
fn really_websocket(c: &Cluster, newest: &Path) {
    step("no falling back");
    let variables = [(REMOTE, "true"), (FORWARD, "true")];
    let said = c.kubectl_in(newest, &variables, &["exec", "-v=8", "p", "--", "true"], "").ok();
    assert!(said.err.contains("v5.channel.k8s.io"), "{said}");
    assert!(!said.err.contains("X-Stream-Protocol-Version") && !said.err.contains("fallback"), "{said}");
}

/// While a node does not say that its kubelet translates, the API server does.
fn by_the_api_server(c: &Cluster, newest: &Path) {
    step("translated by the API server");
    let node = c.field("default", "pod/p", "{.spec.nodeName}").ok().out;
    let patch = r#"{"status":{"declaredFeatures":null}}"#;
    let counted = |what: &str| {
        let metrics = c.kubectl(&["get", "--raw", "/metrics"]).ok().out;
        let line = metrics.lines().find(|line| line.contains(what)).map(str::to_owned);
        line.ok_or_else(|| format!("{what} is not counted"))
    };
    for (what, way) in [("exec", "translator"), ("portforward", "tunnel")] {
        eventually(what, || {
            // The kubelet says it again with its next status.
            c.kubectl(&["patch", "node", &node, "--subresource=status", "--type=merge", "-p", patch]).ok();
            if what == "exec" {
                let args = ["exec", "-i", "p", "--", "sh", "-c", "cat; exit 3"];
                let said = c.kubectl_in(newest, &[(REMOTE, "true")], &args, "word");
                assert_eq!((said.code, said.out.as_str()), (3, "word"), "{said}");
            } else {
                let port = free_port();
                let args = ["port-forward", "pod/p", &format!("{port}:8080")];
                let forward = c.background_in(newest, &[(FORWARD, "true")], &args);
                forward.until("forwarding", |out| out.contains("Forwarding from 127.0.0.1"));
                let url = format!("http://127.0.0.1:{port}/index.html");
                let said = run(Command::new("curl").args(["-sS", "--noproxy", "*", &url]), "");
                assert_eq!(said.ok().out, "here\n");
            }
            counted(&format!("apiserver_stream_{way}_requests_total{{"))
        });
    }
    counted("proxied_to_kubelet").unwrap();
}
