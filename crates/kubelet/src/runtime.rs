//! The runtime as pods are seen in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cri::v1;

use crate::logs;
use crate::pod::labels;
use crate::pod::observed::{self, Container, Observed, State};

/// The longest termination message, and the longest one taken from a log (upstream's limits).
const MAX_MESSAGE: usize = 4096;
const MAX_MESSAGE_FROM_LOG: usize = 2048;
const MAX_LINES_FROM_LOG: usize = 80;

/// Observes pods. What cannot change any more is asked for only once.
pub struct Runtime {
    pub client: cri::Client,
    pod_logs_dir: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Default)]
struct Known {
    sandboxes: BTreeMap<String, observed::Sandbox>,
    containers: BTreeMap<String, Container>,
}

/// One line of the overview: what exists of a pod, by id and state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    pub name: String,
    pub namespace: String,
    /// Whose sandbox it is, see [`labels::OWNER`]; empty when it does not say.
    pub owner: String,
    pub sandboxes: BTreeMap<String, bool>,
    pub containers: BTreeMap<String, i32>,
}

impl Runtime {
    pub fn new(client: cri::Client, pod_logs_dir: PathBuf) -> Runtime {
        Runtime { client, pod_logs_dir, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything of one pod.
    pub async fn observe(&self, uid: &str) -> Result<Observed, cri::Error> {
        let selector = BTreeMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
        let sandboxes = v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
        let containers = v1::ContainerFilter { label_selector: selector, ..Default::default() };
        let (sandboxes, containers) = tokio::try_join!(
            self.client.list_pod_sandboxes(Some(sandboxes)),
            self.client.list_containers(Some(containers)),
        )?;
        let mut known = self.known().remove(uid).unwrap_or_default();
        let mut next = Known::default();
        let mut out = Observed::default();
        for s in &sandboxes {
            let ready = s.state == v1::PodSandboxState::SandboxReady as i32;
            let cached = known.sandboxes.remove(&s.id).filter(|k| k.ready == ready && !k.ips.is_empty());
            let seen = match cached {
                Some(seen) => seen,
                None => match self.client.pod_sandbox_status(&s.id).await {
                    Ok(status) => observed::sandbox(&status),
                    Err(e) if e.is_not_found() => continue,
                    Err(e) => return Err(e),
                },
            };
            next.sandboxes.insert(seen.id.clone(), seen.clone());
            out.sandboxes.push(seen);
        }
        for c in &containers {
            let state = observed::state(c.state);
            let settled = matches!(state, State::Running | State::Exited);
            let cached = known.containers.remove(&c.id).filter(|k| settled && k.state == state);
            let seen = match cached {
                Some(seen) => seen,
                None => match self.client.container_status(&c.id).await {
                    Ok(status) => self.seen(&status, &c.pod_sandbox_id),
                    Err(e) if e.is_not_found() => continue,
                    Err(e) => return Err(e),
                },
            };
            next.containers.insert(seen.id.clone(), seen.clone());
            out.containers.push(seen);
        }
        self.known().insert(uid.to_owned(), next);
        out.sort();
        Ok(out)
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &str) {
        self.known().remove(uid);
    }

    fn seen(&self, status: &v1::ContainerStatus, sandbox_id: &str) -> Container {
        let mut out = observed::container(status, sandbox_id);
        if out.state == State::Exited {
            if out.reason.is_empty() {
                out.reason = if out.exit_code == 0 { "Completed" } else { "Error" }.into();
            }
            let message = termination_message(status, out.exit_code, &self.pod_logs_dir);
            if !message.is_empty() {
                // What the container says comes before what the runtime says.
                out.message = message;
            }
        }
        out
    }

    /// All pods that a kubelet has made, by uid.
    pub async fn overview(&self) -> Result<BTreeMap<String, Overview>, cri::Error> {
        let (sandboxes, containers) =
            tokio::try_join!(self.client.list_pod_sandboxes(None), self.client.list_containers(None))?;
        let mut out: BTreeMap<String, Overview> = BTreeMap::new();
        for s in sandboxes {
            let Some(uid) = s.labels.get(labels::POD_UID) else { continue };
            let pod = out.entry(uid.clone()).or_default();
            pod.name = s.labels.get(labels::POD_NAME).cloned().unwrap_or_default();
            pod.namespace = s.labels.get(labels::POD_NAMESPACE).cloned().unwrap_or_default();
            if let Some(owner) = s.annotations.get(labels::OWNER) {
                pod.owner = owner.clone();
            }
            pod.sandboxes.insert(s.id, s.state == v1::PodSandboxState::SandboxReady as i32);
        }
        for c in containers {
            let Some(uid) = c.labels.get(labels::POD_UID) else { continue };
            out.entry(uid.clone()).or_default().containers.insert(c.id, c.state);
        }
        Ok(out)
    }

    /// The user that an image asks for.
    pub async fn image_user(&self, image: &str) -> Result<crate::pod::security::ImageUser, cri::Error> {
        let image = self.client.image_status(image).await?.unwrap_or_default();
        Ok(match image.uid {
            Some(uid) => crate::pod::security::ImageUser { uid: Some(uid.value), name: String::new() },
            None if image.username.is_empty() => {
                crate::pod::security::ImageUser { uid: Some(0), name: String::new() }
            }
            None => crate::pod::security::ImageUser { uid: None, name: image.username },
        })
    }
}

/// What a container wrote to its termination message file, or the end of its log where it asks for that.
fn termination_message(status: &v1::ContainerStatus, exit_code: i32, pod_logs_dir: &Path) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(labels::MESSAGE_PATH);
    let mount = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    let mut text = String::new();
    if let Some(mount) = mount {
        let bytes = fs::read(&mount.host_path).unwrap_or_default();
        text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE)]).into_owned();
    }
    if text.is_empty() && exit_code != 0 && annotation(labels::MESSAGE_POLICY) == "FallbackToLogsOnError" {
        let log = Path::new(&status.log_path);
        let log = if log.is_absolute() { log.to_owned() } else { pod_logs_dir.join(log) };
        text = logs::tail_text(&log, MAX_LINES_FROM_LOG, MAX_MESSAGE_FROM_LOG);
    }
    text
}
