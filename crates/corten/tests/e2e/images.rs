//! Images from registries: plain ones on loopback, mirrors, ones that want a password, and names that lead nowhere.

use super::cluster::{Cluster, eventually, find, step};
use super::registry::Registry;

fn image() -> oci::Image {
    oci::Image::new("unused").busybox(&find("busybox").unwrap()).unwrap().env("PATH", "/bin:/usr/bin")
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: c, image: \"{image}\", command: [sh, -c, \"echo here; exec sleep 100000\"]}}]\n{more}"
    )
}

fn runs(c: &Cluster, name: &str) {
    c.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=110s"]).ok();
    c.kubectl(&["logs", name]).ok().has(&["here"]);
}

fn events(c: &Cluster, name: &str) -> String {
    let selector = format!("involvedObject.name={name}");
    let path = "jsonpath={range .items[*]}{.type} {.reason} {.message}{\"\\n\"}{end}";
    c.kubectl(&["get", "events", "--field-selector", &selector, "-o", path]).ok().out
}

/// Waits until an event of this pod is this.
#[track_caller]
fn told(c: &Cluster, name: &str, begin: &str, within: &[&str]) {
    eventually(&format!("{name}: {begin} {within:?}"), || {
        let events = events(c, name);
        let mut lines = events.lines();
        let found =
            lines.any(|line| line.starts_with(begin) && within.iter().all(|part| line.contains(part)));
        if found { Ok(()) } else { Err(events) }
    });
}

#[test]
fn images() {
    let plain = Registry::start(None);
    let guarded = Registry::start(Some(("reader", "secret")));
    let mirrors = ["docker.io", "registry.test:5000"]
        .map(|registry| format!("--registry-mirror={registry}=http://{}", plain.address));
    let Some(c) = Cluster::with(&mirrors.each_ref().map(String::as_str)) else { return };
    let (at, guarded_at) = (plain.address, guarded.address);
    plain.push("team/app", "1", &image());
    plain.push("library/small", "latest", &image());
    guarded.push("private/app", "1", &image());

    step("a plain registry on loopback");
    let name = format!("{at}/team/app:1");
    c.apply(&pod("plain", &name, ""));
    runs(&c, "plain");
    told(&c, "plain", "Normal Pulling", &[&format!("Pulling image \"{name}\"")]);
    told(&c, "plain", "Normal Pulled", &["Successfully pulled image", "including waiting", "Image size: "]);
    c.corten(&["image", "ls"], &[]).ok().has(&[&name]);
    step("the same by digest, which is there already");
    let id = c.field("default", "pod/plain", "{.status.containerStatuses[0].imageID}").ok().out;
    assert!(id.starts_with(&format!("{at}/team/app@sha256:")), "{id}");
    c.apply(&pod("digest", &id, ""));
    runs(&c, "digest");
    told(&c, "digest", "Normal Pulled", &["already present on machine"]);

    step("through mirrors, by the names of registries that nobody reaches");
    c.apply(&pod("library", "small", ""));
    runs(&c, "library");
    c.apply(&pod("named", "registry.test:5000/team/app:1", ""));
    runs(&c, "named");
    let asked = plain.asked();
    for part in [
        "/v2/library/small/manifests/latest?ns=docker.io",
        "/v2/team/app/manifests/1?ns=registry.test%3A5000",
        "/v2/team/app/manifests/1",
    ] {
        assert!(asked.iter().any(|line| line.ends_with(part)), "{part} is not among {asked:#?}");
    }

    step("mirrors are kept from start to start");
    c.corten(&["down"], &[]).ok();
    let port = c.port.to_string();
    c.corten(&["up"], &["--secure-port", &port, "--detach"]).ok();
    plain.push("library/later", "latest", &image());
    c.apply(&pod("later", "later", ""));
    runs(&c, "later");

    step("a name that leads nowhere: why, in the pod and in events");
    let wrong = format!("{at}/team/nothing:1");
    c.apply(&pod("wrong", &wrong, ""));
    told(&c, "wrong", "Warning Failed", &[&format!("Failed to pull image \"{wrong}\""), "not found"]);
    told(&c, "wrong", "Warning Failed", &["Error: ErrImagePull"]);
    told(&c, "wrong", "Normal BackOff", &[&format!("Back-off pulling image \"{wrong}\"")]);
    told(&c, "wrong", "Warning Failed", &["Error: ImagePullBackOff"]);
    c.until_field(
        "default",
        "pod/wrong",
        "{.status.containerStatuses[0].state.waiting.reason}",
        "ImagePullBackOff",
    );
    let why = "{.status.containerStatuses[0].state.waiting.message}";
    c.field("default", "pod/wrong", why).ok().has(&["Back-off pulling image", "ErrImagePull", "not found"]);
    c.apply(&pod("nonsense", "Not/A:Name:1", ""));
    c.until_field(
        "default",
        "pod/nonsense",
        "{.status.containerStatuses[0].state.waiting.reason}",
        "InvalidImageName",
    );
    step("the image comes after all");
    plain.push("team/nothing", "1", &image());
    runs(&c, "wrong");

    step("a registry that wants a password");
    let name = format!("{guarded_at}/private/app:1");
    c.apply(&pod("refused", &name, ""));
    told(&c, "refused", "Warning Failed", &["Failed to pull image", "401 Unauthorized"]);
    let server = format!("--docker-server={guarded_at}");
    let secret = ["create", "secret", "docker-registry", "pull", &server, "--docker-username=reader"];
    c.kubectl(&[&secret[..], &["--docker-password=secret"]].concat()).ok();
    c.apply(&pod("let-in", &name, "  imagePullSecrets: [{name: pull}]\n"));
    runs(&c, "let-in");
    let events = c.kubectl(&["get", "events", "-o", "json"]).ok().out;
    assert!(!events.contains("cmVhZGVyOnNlY3JldA"), "a password is in the events");
}
