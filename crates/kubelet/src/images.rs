//! Images: present, to be pulled, or not to be had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::core::v1::{Container, Pod, Secret};
use apimachinery::clock::Clock;
use cri::v1;
use jiff::Timestamp;

use crate::credentials::credentials;
use crate::events::Events;
use crate::pod::backoff::Backoff;
use crate::pod::spec;

/// Why a container does not start: what its status shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    pub reason: String,
    pub message: String,
    /// When trying again makes sense; `None` for soon.
    pub again: Option<Timestamp>,
}

impl StartError {
    pub fn new(reason: &str, message: impl Into<String>) -> StartError {
        StartError { reason: reason.into(), message: message.into(), again: None }
    }
}

/// Pulls images, with back-off per pod and image.
pub struct Images {
    client: cri::Client,
    clock: Arc<dyn Clock>,
    events: Events,
    state: Mutex<State>,
    /// Held while pulling, when pulls are to come one after the other.
    turn: Option<tokio::sync::Mutex<()>>,
}

struct State {
    backoff: Backoff,
    /// The last error, shown while waiting.
    errors: BTreeMap<String, String>,
}

impl Images {
    pub fn new(client: cri::Client, clock: Arc<dyn Clock>, events: Events, serialize: bool) -> Images {
        let state = State { backoff: Backoff::for_containers(), errors: BTreeMap::new() };
        let turn = serialize.then(|| tokio::sync::Mutex::new(()));
        Images { client, clock, events, state: Mutex::new(state), turn }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a container's image is there, and answers with the runtime's name for it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        secrets: &[Arc<Secret>],
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let asked = container.image.as_deref().unwrap_or_default();
        let image = with_default_tag(asked).map_err(|e| {
            let message = format!("Failed to apply default image tag {asked:?}: {e}");
            self.events.container(pod, &container.name, true, "InspectFailed", &message);
            StartError::new("InvalidImageName", message)
        })?;
        let default_policy = if image.ends_with(":latest") { "Always" } else { "IfNotPresent" };
        let policy = container.image_pull_policy.as_deref().unwrap_or(default_policy);
        if policy != "Always" {
            let found = self.client.image_status(&image).await.map_err(|e| {
                let message = format!("Failed to inspect image {image:?}: {e}");
                self.events.container(pod, &container.name, true, "InspectFailed", &message);
                StartError::new("ImageInspectError", message)
            })?;
            if let Some(found) = found {
                let message = format!(
                    "Container image {asked:?} already present on machine and can be accessed by the pod"
                );
                self.events.container(pod, &container.name, false, "Pulled", &message);
                return Ok(found.id);
            }
            if policy == "Never" {
                let message = format!("Container image {asked:?} is not present with pull policy of Never");
                self.events.container(pod, &container.name, true, "ErrImageNeverPull", &message);
                return Err(StartError::new("ErrImageNeverPull", message));
            }
        }
        self.pull(pod, container, asked, &image, secrets, sandbox).await
    }

    async fn pull(
        &self,
        pod: &Pod,
        container: &Container,
        asked: &str,
        image: &str,
        secrets: &[Arc<Secret>],
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let key = format!("{}_{image}", spec::uid(pod));
        let waiting = self.state().backoff.until_since_update(&key, self.clock.now());
        if let Some(until) = waiting {
            let mut message = format!("Back-off pulling image {asked:?}");
            self.events.container(pod, &container.name, false, "BackOff", &message);
            if let Some(error) = self.state().errors.get(&key) {
                message = format!("{message}: {error}");
            }
            return Err(StartError { reason: "ImagePullBackOff".into(), message, again: Some(until) });
        }
        self.events.container(pod, &container.name, false, "Pulling", &format!("Pulling image {asked:?}"));
        let asked_at = tokio::time::Instant::now();
        let turn = match &self.turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let begun = tokio::time::Instant::now();
        let mut last = None;
        let mut credentials: Vec<Option<v1::AuthConfig>> =
            credentials(image, secrets).into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        for auth in credentials {
            match self.client.pull_image(image, auth, Some(sandbox.clone())).await {
                Ok(reference) => {
                    let (pulled, waited) = (begun.elapsed(), asked_at.elapsed());
                    drop(turn);
                    let size = self.client.image_status(&reference).await.ok().flatten().map(|i| i.size);
                    let message = format!(
                        "Successfully pulled image {asked:?} in {} ({} including waiting). Image size: {} bytes.",
                        go_millis(pulled),
                        go_millis(waited),
                        size.unwrap_or_default()
                    );
                    self.events.container(pod, &container.name, false, "Pulled", &message);
                    return Ok(reference);
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.map(|e| describe(&e)).unwrap_or_default();
        let message = format!("Failed to pull image {asked:?}: {error}");
        self.events.container(pod, &container.name, true, "Failed", &message);
        let mut state = self.state();
        let now = self.clock.now();
        state.backoff.next(&key, now, now);
        state.errors.insert(key, format!("ErrImagePull: {error}"));
        Err(StartError::new("ErrImagePull", error))
    }
}

/// As Go prints a gRPC error.
pub fn describe(error: &cri::Error) -> String {
    match error {
        cri::Error::Call { code, message, .. } => format!("rpc error: code = {code:?} desc = {message}"),
        other => other.to_string(),
    }
}

/// Milliseconds as Go prints a duration: `1.234s`, `56ms`.
fn go_millis(d: std::time::Duration) -> String {
    let millis = d.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1000);
    if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds }
}

/// Checks a reference and adds `:latest` where it has neither tag nor digest.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let invalid = |why: &str| format!("couldn't parse image name {image:?}: invalid reference format{why}");
    let (rest, digest) = image.split_once('@').map_or((image, None), |(r, d)| (r, Some(d)));
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let part_fine = |part: &str| {
        let ends = part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric());
        ends && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let host_fine = host.is_none_or(|h| {
        !h.is_empty()
            && h.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
    });
    if !host_fine || !path.split('/').all(part_fine) {
        return Err(invalid(""));
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(invalid(&format!(": repository name ({path}) must be lowercase")));
    }
    let tag_fine = |t: &str| {
        !t.is_empty()
            && t.len() <= 128
            && !t.starts_with(['.', '-'])
            && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if tag.is_some_and(|t| !tag_fine(t)) {
        return Err(invalid(""));
    }
    let digest_fine = |d: &str| {
        d.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    if digest.is_some_and(|d| !digest_fine(d)) {
        return Err(invalid(""));
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = "a".repeat(64);
        for (image, expect) in [
            ("busybox", Ok("busybox:latest".to_owned())),
            ("busybox:1", Ok("busybox:1".into())),
            ("localhost:5000/a/b", Ok("localhost:5000/a/b:latest".into())),
            (&format!("x.io/a@sha256:{digest}"), Ok(format!("x.io/a@sha256:{digest}"))),
            ("Busybox", Err("must be lowercase")),
            ("a b", Err("invalid reference format")),
            ("", Err("invalid reference format")),
            ("a:", Err("invalid reference format")),
            ("-a", Err("invalid reference format")),
        ] {
            match (with_default_tag(image), expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got, expect),
                (Err(got), Err(expect)) => assert!(got.contains(expect), "{image}: {got}"),
                (got, expect) => panic!("{image}: {got:?} instead of {expect:?}"),
            }
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        for (ms, expect) in [(56, "56ms"), (1200, "1.2s"), (2000, "2s"), (61_005, "1m1.005s")] {
            assert_eq!(go_millis(std::time::Duration::from_millis(ms)), expect);
        }
    }
}
