//! The client and the supervisor against a real containerd, with everything in a temporary directory.

use std::path::Path;
use std::time::Duration;

use cri::containerd::{Config, Containerd, Images};
use cri::v1;
use tokio_util::sync::CancellationToken;

/// Whether the real thing can run here. Under `CI` it must.
fn possible() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if ["containerd", "runc"]
        .iter()
        .any(|p| std::process::Command::new(p).arg("--version").output().is_err())
    {
        "containerd or runc is not installed"
    } else if !Path::new("/usr/bin/busybox").exists() {
        "busybox-static is not installed"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    false
}

fn busybox() -> oci::Image {
    oci::Image::new("localhost/busybox:1")
        .entrypoint(&["/bin/busybox"])
        .command(&["sleep", "3600"])
        .copy(Path::new("/usr/bin/busybox"), "/bin/busybox", 0o755)
        .expect("busybox")
}

fn sandbox(cgroup_parent: &str) -> v1::PodSandboxConfig {
    let host = v1::NamespaceMode::Node as i32;
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "a".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption { network: host, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn started(config: &Config) -> (Containerd, CancellationToken) {
    (Containerd::build(config.clone()).expect("build"), CancellationToken::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_containerd_and_its_supervisor() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config::below(dir.path());
    let pid_file = dir.path().join("containerd.pid");
    let pid = || std::fs::read_to_string(&pid_file).expect("pid file").parse::<i32>().expect("pid");

    // The first life: images, a sandbox, a container.
    let (containerd, shutdown) = started(&config).await;
    let handle = containerd.handle();
    let running = tokio::spawn(containerd.run(shutdown.clone()));
    handle.ready().await.expect("ready");
    let client = handle.client();
    let images = Images::new(&config);
    let path = dir.path().join("image.tar");
    for (name, image) in [
        ("localhost/pause:1", oci::pause("localhost/pause:1").expect("pause")),
        ("localhost/busybox:1", busybox()),
    ] {
        image.write_to(&path).expect("write");
        assert_eq!(images.import(&path).await.expect("import"), [name]);
    }
    let bad = dir.path().join("bad.tar");
    std::fs::write(&bad, b"no archive").expect("write");
    let error = images.import(&bad).await.expect_err("no archive").to_string();
    assert!(error.starts_with("importing "), "{error}");

    let parent = format!("/corten-test-{}", std::process::id());
    let sandbox_config = sandbox(&parent);
    let sandbox_id = client.run_pod_sandbox(sandbox_config.clone(), "").await.expect("sandbox");
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "localhost/busybox:1".into(), ..Default::default() }),
        ..Default::default()
    };
    let id = client.create_container(&sandbox_id, container, sandbox_config).await.expect("create");
    client.start_container(&id).await.expect("start");
    let begun = client.container_status(&id).await.expect("status").started_at;
    let echo = ["/bin/busybox", "echo", "hello"].map(str::to_owned);
    let out = client.exec_sync(&id, &echo, Duration::from_secs(5)).await.expect("exec");
    assert_eq!((out.stdout.as_slice(), out.exit_code), (b"hello\n".as_slice(), 0));

    // containerd dies: it is started again, and the container has not noticed.
    let before = pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(before), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    while pid() == before || client.version().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handle.ready().await.expect("ready again");
    assert_eq!(client.container_status(&id).await.expect("status").started_at, begun);

    // Its supervisor vanishes without a word: the next one takes the process over.
    let before = pid();
    running.abort();
    let _ = running.await;
    let (containerd, shutdown) = started(&config).await;
    let handle = containerd.handle();
    let running = tokio::spawn(containerd.run(shutdown.clone()));
    handle.ready().await.expect("taken over");
    assert_eq!(pid(), before);
    // … and sees it end.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(before), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    while pid() == before || handle.client().version().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // An orderly stop, and a start with another configuration.
    shutdown.cancel();
    running.await.expect("join").expect("run");
    let config = Config { log_level: "warn".into(), ..config };
    let (containerd, shutdown) = started(&config).await;
    let handle = containerd.handle();
    let running = tokio::spawn(containerd.run(shutdown.clone()));
    handle.ready().await.expect("ready");
    let status = handle.client().container_status(&id).await.expect("status");
    assert_eq!((status.state, status.started_at), (v1::ContainerState::ContainerRunning as i32, begun));
    shutdown.cancel();
    running.await.expect("join").expect("run");

    // Nothing is left behind.
    cri::containerd::remove_all(&config).await.expect("remove");
    for controller in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let _ = std::fs::remove_dir(controller.path().join(&parent[1..]));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    let ours = dir.path().to_string_lossy().into_owned();
    assert!(!mounts.contains(&ours), "{mounts}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config { binary: "no-such-containerd".into(), ..Config::below(dir.path()) };
    let error = Containerd::build(config).expect_err("missing").to_string();
    assert!(
        error.contains("containerd is not installed") && error.contains("apt-get install containerd"),
        "{error}"
    );
}
