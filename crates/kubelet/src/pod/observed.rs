//! What the runtime shows of one pod.

use cri::v1;

use super::labels;

/// Sandboxes and containers of a pod, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    /// In the runtime's order; empty for a sandbox on the host's network.
    pub ips: Vec<String>,
    pub host_network: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

/// One container. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    /// `None` when it does not bear one: not made by a kubelet of today.
    pub hash: Option<u64>,
    pub restart_count: i32,
    pub user: Option<v1::LinuxContainerUser>,
}

impl Observed {
    /// The newest container of a name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    /// The newest sandbox, if it is up.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// The addresses of the newest sandbox. One that is down has given them back.
    pub fn ips(&self) -> &[String] {
        self.ready_sandbox().map(|s| s.ips.as_slice()).unwrap_or_default()
    }

    pub fn has_running(&self) -> bool {
        self.running().next().is_some()
    }

    /// Puts everything into order: newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| {
            (b.attempt, b.created_at).cmp(&(a.attempt, a.created_at)).then_with(|| a.id.cmp(&b.id))
        });
        self.containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    }
}

/// From the runtime's status of a sandbox.
pub fn sandbox(status: &v1::PodSandboxStatus) -> Sandbox {
    let network = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()?.options.as_ref());
    let host_network = network.is_some_and(|o| o.network == v1::NamespaceMode::Node as i32);
    let mut ips = Vec::new();
    if let Some(n) = &status.network {
        ips.extend(std::iter::once(n.ip.clone()).chain(n.additional_ips.iter().map(|ip| ip.ip.clone())));
        ips.retain(|ip| !ip.is_empty());
    }
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map(|m| m.attempt).unwrap_or_default(),
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        ips,
        host_network,
    }
}

pub fn state(state: i32) -> State {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    }
}

/// From the runtime's status of a container.
pub fn container(status: &v1::ContainerStatus, sandbox_id: &str) -> Container {
    let state = state(status.state);
    let exited = state == State::Exited;
    Container {
        id: status.id.clone(),
        name: labels::container_name(&status.labels, status.metadata.as_ref()),
        sandbox_id: sandbox_id.to_owned(),
        state,
        created_at: status.created_at,
        started_at: if state == State::Created { 0 } else { status.started_at },
        finished_at: if exited { status.finished_at } else { 0 },
        exit_code: if exited { status.exit_code } else { 0 },
        reason: if exited { status.reason.clone() } else { String::new() },
        message: if exited { status.message.clone() } else { String::new() },
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        image_ref: status.image_ref.clone(),
        hash: labels::hash_of(&status.annotations),
        restart_count: labels::restart_count_of(&status.annotations),
        user: status.user.as_ref().and_then(|u| u.linux.clone()),
    }
}
