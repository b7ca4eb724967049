//! The end of a pod: containers are stopped, then volumes and groups go, then what the runtime has, and last the
//! pod in the API.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use api::meta::v1::DeleteOptions;
use futures::future::join_all;

use super::{Desired, RETRY, Stage, Step, Worker};
use crate::lifecycle;
use crate::pod::observed::{Container, Observed, State};
use crate::pod::plan::Why;
use crate::pod::spec;

/// Even a pod without grace gets this much, so as not to be killed while it is just ending.
const LEAST_GRACE: i64 = 2;

impl Worker {
    /// Stops one container: hook, signal, and the kill after what is left of the grace.
    pub(super) async fn kill(
        &self,
        pod: &Pod,
        seen: &Container,
        message: &str,
        grace: i64,
    ) -> Result<(), cri::Error> {
        let context = &self.context;
        context.events.container(pod, &seen.name, false, "Killing", message);
        let begun = tokio::time::Instant::now();
        let container = spec::container(pod, &seen.name);
        let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()?.pre_stop.clone());
        if let (Some(container), Some(hook)) = (&container, hook.filter(|_| grace > 0)) {
            let ip = self.ip_of(pod).await;
            let running = lifecycle::run(&context.runtime.client, &seen.id, &ip, pod, container, &hook);
            let limit = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
            if let Ok(Err(error)) = tokio::time::timeout(limit, running).await {
                tracing::warn!(pod = spec::full(pod), container = seen.name, "the preStop hook failed");
                tracing::debug!("{error}");
                context.events.container(pod, &seen.name, true, "FailedPreStopHook", "PreStopHook failed");
            }
        }
        let left = (grace - begun.elapsed().as_secs() as i64).max(LEAST_GRACE);
        let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
        match context.runtime.client.stop_container(&seen.id, left).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn ip_of(&self, pod: &Pod) -> String {
        if spec::host_network(pod) {
            return self.context.host_ips.first().cloned().unwrap_or_default();
        }
        let observed = self.context.runtime.observe(spec::uid(pod)).await.unwrap_or_default();
        observed.ips().first().cloned().unwrap_or_default()
    }

    /// The grace of a container that is killed on its own.
    pub(super) fn grace_for(&self, pod: &Pod, name: &str, why: Why) -> i64 {
        let container = spec::container(pod, name);
        let probe = container.and_then(|c| match why {
            Why::Liveness => c.liveness_probe,
            Why::Startup => c.startup_probe,
            Why::Changed | Why::Unknown => None,
        });
        probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| spec::grace_seconds(pod))
    }

    /// Stops everything that runs: sidecars after the others, in reverse order.
    pub(super) async fn kill_all(
        &self,
        pod: &Pod,
        observed: &Observed,
        grace: i64,
    ) -> Result<(), cri::Error> {
        let begun = tokio::time::Instant::now();
        let sidecars: Vec<&str> = spec::init_containers(pod)
            .iter()
            .filter(|c| spec::is_sidecar(c))
            .map(|c| c.name.as_str())
            .collect();
        let alive = |c: &&Container| matches!(c.state, State::Running | State::Unknown);
        let message = |c: &Container| format!("Stopping container {}", c.name);
        let all = observed.containers.iter().filter(alive);
        let (late, early): (Vec<_>, Vec<_>) = all.partition(|c| sidecars.contains(&c.name.as_str()));
        let stops = early.iter().map(|c| async { self.kill(pod, c, &message(c), grace).await });
        for result in join_all(stops).await {
            result?;
        }
        for name in sidecars.iter().rev() {
            for c in late.iter().filter(|c| c.name == *name) {
                let left = (grace - begun.elapsed().as_secs() as i64).max(0);
                self.kill(pod, c, &message(c), left).await?;
            }
        }
        for sandbox in observed.sandboxes.iter().filter(|s| s.ready) {
            match self.context.runtime.client.stop_pod_sandbox(&sandbox.id).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// One step of a pod that is to end.
    pub(super) async fn terminate(&mut self, desired: &Desired) -> Step {
        let pod = desired.pod.clone();
        let uid = spec::uid(&pod).to_owned();
        let observed = match self.observe(&pod).await {
            Ok(observed) => observed,
            Err(step) => return step,
        };
        self.context.probes.quiet(&uid);
        self.show(&pod, &observed, false);
        if observed.has_running() || observed.sandboxes.iter().any(|s| s.ready) {
            let grace = desired.grace();
            let mut shorter = self.desired.clone();
            let stopped = tokio::select! {
                biased;
                // Deleted once more, with less grace.
                _ = shorter.wait_for(|d| d.grace() < grace) => return Step::Again,
                stopped = self.kill_all(&pod, &observed, grace) => stopped,
            };
            if let Err(error) = stopped {
                let text = crate::images::describe(&error);
                self.context.events.pod(&pod, true, "FailedKillPod", &format!("error killing pod: {text}"));
                return Step::Wait(RETRY);
            }
        }
        self.context.probes.remove(&uid);
        let observed = match self.observe(&pod).await {
            Ok(observed) => observed,
            Err(step) => return step,
        };
        if observed.has_running() {
            return Step::Wait(Duration::from_millis(100));
        }
        self.reasons.clear();
        self.show(&pod, &observed, true);
        self.stage = Stage::Terminated;
        Step::Again
    }

    /// One step of a pod that has ended: clean up, and go when nobody wants it any more.
    pub(super) async fn finish(&mut self, desired: &Desired) -> Step {
        let pod = desired.pod.clone();
        if !self.cleaned {
            if let Err(error) = self.clean(&pod) {
                tracing::warn!(pod = spec::full(&pod), "cleaning up: {error}");
                return Step::Wait(RETRY);
            }
            self.cleaned = true;
        }
        let deleted = pod.metadata.deletion_timestamp.is_some();
        if !deleted && !desired.removed {
            // Its containers are kept for their logs.
            return Step::Wait(Duration::from_secs(3600));
        }
        self.writer.flush().await;
        if let Err(error) = self.remove(&pod).await {
            tracing::warn!(pod = spec::full(&pod), "removing the pod: {error}");
            return Step::Wait(RETRY);
        }
        if deleted && !desired.removed && !spec::is_static(&pod) {
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            let options = client::with_uid(options, spec::uid(&pod));
            match self.context.client.delete::<Pod>(spec::namespace(&pod), spec::name(&pod), &options).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(pod = spec::full(&pod), "deleting the pod: {}", error.chain());
                    return Step::Wait(RETRY);
                }
            }
            // The informer will say that it is gone.
            return Step::Wait(Duration::from_secs(10));
        }
        Step::Gone
    }

    /// Volumes and control groups of a pod whose containers have ended.
    fn clean(&mut self, pod: &Pod) -> Result<(), String> {
        let uid = spec::uid(pod);
        self.volumes.clear();
        self.context.tokens.forget(uid);
        self.context.objects.unregister(pod);
        let dir = self.context.pod_dir(uid);
        for part in ["volume-subpaths", "volumes"] {
            crate::volumes::setup::teardown(&dir.join(part))?;
        }
        if let Some(cgroups) = &self.context.cgroups {
            let group = self.context.tree.pod(pod);
            let _ = cgroups.kill(&group);
            cgroups.remove(&group).map_err(|e| crate::kubelet::text(&e))?;
        }
        Ok(())
    }

    /// What is left of a pod in the runtime and on disk.
    async fn remove(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let uid = spec::uid(pod);
        let client = &self.context.runtime.client;
        let observed = self.context.runtime.observe(uid).await.map_err(|e| e.to_string())?;
        for container in &observed.containers {
            client.remove_container(&container.id).await.map_err(|e| e.to_string())?;
            self.unlink(pod, container);
        }
        for sandbox in &observed.sandboxes {
            client.stop_pod_sandbox(&sandbox.id).await.map_err(|e| e.to_string())?;
            client.remove_pod_sandbox(&sandbox.id).await.map_err(|e| e.to_string())?;
        }
        self.context.runtime.forget(uid);
        crate::volumes::setup::teardown(&self.context.pod_dir(uid))?;
        match std::fs::remove_dir_all(self.context.log_dir(pod)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("removing the logs: {e}")),
            _ => Ok(()),
        }
    }

    fn unlink(&self, pod: &Pod, container: &Container) {
        if let Some(path) = self.legacy_log(pod, &container.name, &container.id) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes dead containers but the newest of each name (and a few more, see the configuration), and dead
    /// sandboxes that hold none.
    pub(super) async fn collect(&self, observed: &Observed) {
        let keep = self.context.config.max_dead_containers_per_container;
        let pod = self.desired.borrow().pod.clone();
        let client = &self.context.runtime.client;
        for container in garbage(observed, keep) {
            match client.remove_container(&container.id).await {
                Ok(()) => {
                    self.unlink(&pod, container);
                    let log = self
                        .context
                        .log_dir(&pod)
                        .join(&container.name)
                        .join(format!("{}.log", container.restart_count));
                    let _ = std::fs::remove_file(log);
                }
                Err(error) => tracing::debug!("removing a dead container: {error}"),
            }
        }
        for sandbox in observed.sandboxes.iter().skip(1).filter(|s| !s.ready) {
            if !observed.containers.iter().any(|c| c.sandbox_id == sandbox.id) {
                let _ = client.remove_pod_sandbox(&sandbox.id).await;
            }
        }
    }
}

/// Dead containers that nobody needs: not the newest of their name, and beyond `keep` of its dead ones.
fn garbage(observed: &Observed, keep: usize) -> Vec<&Container> {
    let mut out = Vec::new();
    let mut seen: std::collections::BTreeMap<&str, usize> = Default::default();
    let mut newest: std::collections::BTreeSet<&str> = Default::default();
    for c in &observed.containers {
        let first = newest.insert(&c.name);
        if c.state != State::Exited {
            continue;
        }
        let dead = seen.entry(&c.name).or_default();
        *dead += 1;
        if !first && *dead > keep {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dead_container_stays() {
        for (containers, keep, expect) in
            [("a", 1, ""), ("aX", 1, ""), ("aXX", 1, "2"), ("XXX", 1, "1 2"), ("X", 0, ""), ("aXX", 2, "")]
        {
            let container = |(i, c): (usize, char)| Container {
                id: i.to_string(),
                name: "c".into(),
                state: if c == 'X' { State::Exited } else { State::Running },
                ..Container::default()
            };
            let observed = Observed {
                containers: containers.chars().enumerate().map(container).collect(),
                ..Observed::default()
            };
            let ids: Vec<&str> = garbage(&observed, keep).iter().map(|c| c.id.as_str()).collect();
            assert_eq!(ids.join(" "), expect, "{containers} {keep}");
        }
    }
}
