//! Pods one after the other, from their creation to Running, beside the bare calls to the container runtime.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes};
use cri::v1;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::connection::{Connection, Target};
use crate::usage::{micros, quantile};

const PODS: &str = "/api/v1/namespaces/default/pods";
const LIMIT: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_millis(500);

/// Creates `count` pods one after the other and says how long each took until a watch showed it Running. After
/// each, the same sandbox and container are made by three bare calls to the runtime.
///
/// # Parameters
/// - `endpoint`: the runtime's socket
/// - `image`: on the node already; it runs until it is told to end
pub async fn run(target: &Target, endpoint: &str, image: &str, count: usize) -> Result<Value> {
    let runtime = cri::Client::connect(endpoint).await?;
    let mut connection = target.connect().await?;
    let (mut pods, mut calls) = (Vec::new(), Vec::new());
    // The first pod warms up both sides.
    for number in 0..=count {
        let name = format!("measured-{}-{number}", std::process::id());
        let pod = tokio::time::timeout(LIMIT, running(&mut connection, &name, image))
            .await
            .with_context(|| format!("the pod {name} did not run in time"))??;
        // So that what the kubelet still does about one, and taking it down, do not compete with the next.
        tokio::time::sleep(REST).await;
        let call = bare(&runtime, &name, image).await?;
        let path = format!("{PODS}/{name}?gracePeriodSeconds=0");
        connection.drain(Method::DELETE, &path, Bytes::new()).await?;
        if number > 0 {
            pods.push(micros(pod));
            calls.push(micros(call));
        }
        tokio::time::sleep(REST).await;
    }
    pods.sort_unstable();
    calls.sort_unstable();
    let (pod, call) = (quantile(&pods, 0.5), quantile(&calls, 0.5));
    Ok(json!({
        "pods": count,
        "podMillis": f64::from(pod) / 1e3,
        "slowestPodMillis": f64::from(quantile(&pods, 1.0)) / 1e3,
        "callsMillis": f64::from(call) / 1e3,
        "ratio": f64::from(pod) / f64::from(call.max(1)),
    }))
}

/// Creates `count` pods that stay, and waits until they run.
pub async fn hold(target: &Target, image: &str, count: usize) -> Result<Value> {
    let mut connection = target.connect().await?;
    for number in 0..count {
        let name = format!("held-{number}");
        tokio::time::timeout(LIMIT, running(&mut connection, &name, image))
            .await
            .with_context(|| format!("the pod {name} did not run in time"))??;
    }
    Ok(json!({"pods": count}))
}

fn pod(name: &str, image: &str) -> Bytes {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never"}],
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
        },
    });
    Bytes::from(object.to_string())
}

/// Creates a pod and watches it until it is Running.
async fn running(connection: &mut Connection, name: &str, image: &str) -> Result<Duration> {
    let path = format!("{PODS}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=120");
    let mut watch = connection.open(Method::GET, &path, Bytes::new()).await?.into_body();
    let begin = Instant::now();
    connection.drain(Method::POST, PODS, pod(name, image)).await?;
    let mut rest = Vec::new();
    while let Some(frame) = watch.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        while data.has_remaining() {
            let byte = data.get_u8();
            if byte != b'\n' {
                rest.push(byte);
                continue;
            }
            let event: Value = serde_json::from_slice(&rest).context("reading a watch event")?;
            rest.clear();
            match event.pointer("/object/status/phase").and_then(Value::as_str) {
                Some("Running") => return Ok(begin.elapsed()),
                Some("Failed" | "Succeeded") => bail!("the pod {name} has ended: {event}"),
                _ => {}
            }
        }
    }
    bail!("the watch of the pod {name} ended")
}

/// RunPodSandbox, CreateContainer and StartContainer, timed; what they made is removed again, untimed.
async fn bare(runtime: &cri::Client, name: &str, image: &str) -> Result<Duration> {
    // Without the kubelet's labels, so that it leaves the sandbox alone.
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("bare-{name}"),
            namespace: "bare".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(seccomp()),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() }),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources { cpu_shares: 2, ..Default::default() }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                ..v1::LinuxContainerSecurityContext::default()
            }),
        }),
        ..v1::ContainerConfig::default()
    };
    let begin = Instant::now();
    let id = runtime.run_pod_sandbox(sandbox.clone(), "").await?;
    let started = async {
        let container = runtime.create_container(&id, container, sandbox).await?;
        runtime.start_container(&container).await
    }
    .await;
    let taken = begin.elapsed();
    runtime.stop_pod_sandbox(&id).await?;
    runtime.remove_pod_sandbox(&id).await?;
    started?;
    Ok(taken)
}

/// As the kubelet asks for by default: a network and IPC of the pod, processes of the container.
fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container as i32, ..v1::NamespaceOption::default() }
}

fn seccomp() -> v1::SecurityProfile {
    v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault as i32,
        localhost_ref: String::new(),
    }
}
