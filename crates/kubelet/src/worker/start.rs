//! Carrying out a plan: groups, directories, volumes, the sandbox, containers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::{Container, Pod, Secret};
use cri::v1;
use jiff::{SignedDuration, Timestamp};

use super::Worker;
use crate::images::{StartError, describe};
use crate::lifecycle;
use crate::pod::backoff::go_duration;
use crate::pod::env::{self, Found, Sources};
use crate::pod::observed::{Observed, State};
use crate::pod::plan::Plan;
use crate::pod::{cgroups, container, hosts, resources, sandbox, security, spec};
use crate::volumes::{self, mounts, payload, setup};

/// A start that failed is tried again after this time, or when something that the pod refers to changes.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// What starting containers of one sandbox takes.
struct Site {
    sandbox_id: String,
    sandbox: v1::PodSandboxConfig,
    ips: Vec<String>,
    sources: Sources,
}

impl Worker {
    fn soon(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Answers whether anything was done, so that another look is due.
    pub(super) async fn act(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<bool, String> {
        let starts =
            !(plan.start.is_empty() && plan.start_init.is_empty() && plan.start_ephemeral.is_empty());
        if plan.create_sandbox.is_some() || starts {
            let readiness = self.context.readiness.borrow().clone();
            if let (Err(why), false) = (&readiness.network, spec::host_network(pod)) {
                let message = format!("network is not ready: {why}");
                self.context.events.pod(pod, true, "NetworkNotReady", &message);
                return Err(message);
            }
        }
        let facts_ips = observed.ips().to_vec();
        self.prepare(pod, facts_ips).await?;
        let client = self.context.runtime.client.clone();
        let mut done = false;
        if plan.kill_pod {
            if plan.create_sandbox.is_some() && plan.sandbox_id.is_some() {
                self.context.events.pod(
                    pod,
                    false,
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            let grace = spec::grace_seconds(pod);
            self.kill_all(pod, observed, grace).await.map_err(|e| describe(&e))?;
            done |= observed.has_running() || observed.sandboxes.iter().any(|s| s.ready);
        }
        for kill in &plan.kill {
            if let Some(seen) = observed.containers.iter().find(|c| c.id == kill.id) {
                let grace = self.grace_for(pod, &kill.name, kill.why);
                self.kill(pod, seen, &kill.message, grace).await.map_err(|e| describe(&e))?;
                done = true;
            }
        }
        if !plan.kill.is_empty() && starts {
            // Another look, so that the restart counts the life that has just ended.
            return Ok(true);
        }
        if plan.create_sandbox.is_none() && !starts {
            return Ok(done);
        }

        let sandbox = self.sandbox_config(pod, plan.create_sandbox.unwrap_or_else(|| attempt(observed)))?;
        let (mut sandbox_id, mut ips) =
            (plan.sandbox_id.clone().unwrap_or_default(), observed.ips().to_vec());
        if plan.create_sandbox.is_some() {
            fs::create_dir_all(&sandbox.log_directory)
                .map_err(|e| format!("making the log directory: {e}"))?;
            match client.run_pod_sandbox(sandbox.clone(), "").await {
                Ok(id) => sandbox_id = id,
                Err(error) => {
                    let text = describe(&error);
                    self.context.events.pod(
                        pod,
                        true,
                        "FailedCreatePodSandBox",
                        &format!("Failed to create pod sandbox: {text}"),
                    );
                    return Err(format!("creating the sandbox: {text}"));
                }
            }
            done = true;
            // It shows the address, and that containers can be started.
            let seen = self.context.runtime.observe(spec::uid(pod)).await.map_err(|e| describe(&e))?;
            ips = seen.ips().to_vec();
            self.show(pod, &seen, false);
        }
        if spec::host_network(pod) {
            ips = self.context.host_ips.clone();
        }
        let sources = self.sources(pod).await?;
        let site = Site { sandbox_id, sandbox, ips, sources };

        let ephemeral = spec::ephemeral_containers(pod);
        for container in plan.start_ephemeral.iter().filter_map(|i| ephemeral.get(*i)) {
            done |= self.try_start(pod, container, observed, &site).await;
        }
        let pod_spec = spec::spec(pod);
        for container in plan.start_init.iter().filter_map(|i| spec::init_containers(pod).get(*i)) {
            if !self.try_start(pod, container, observed, &site).await && !spec::is_sidecar(container) {
                return Ok(done);
            }
            done = true;
        }
        for container in plan.start.iter().filter_map(|i| pod_spec.containers.get(*i)) {
            done |= self.try_start(pod, container, observed, &site).await;
        }
        Ok(done)
    }

    /// Starts a container or notes why not.
    async fn try_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        observed: &Observed,
        site: &Site,
    ) -> bool {
        match self.start(pod, container, observed, site).await {
            Ok(()) => {
                self.reasons.remove(&container.name);
                true
            }
            Err(error) => {
                let now = self.context.clock.now();
                // A pull that has just failed waits out its back-off; the look after it says so.
                let pause = if error.reason == "ErrImagePull" { SignedDuration::from_secs(1) } else { AGAIN };
                let again = error.again.unwrap_or_else(|| now.checked_add(pause).unwrap_or(now));
                self.soon(again);
                let reason = (error.reason, error.message);
                let before = self.reasons.insert(container.name.clone(), reason.clone());
                if before.as_ref() != Some(&reason) {
                    self.show(pod, observed, false);
                }
                false
            }
        }
    }

    async fn start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        observed: &Observed,
        site: &Site,
    ) -> Result<(), StartError> {
        let context = self.context.clone();
        let client = &context.runtime.client;
        let name = &container.name;
        self.back_off(pod, container, observed)?;

        let secrets = pull_secrets(pod, &site.sources);
        let failed = |reason: &str, error: String| {
            context.events.container(pod, name, true, "Failed", &format!("Error: {error}"));
            StartError::new(reason, error)
        };
        let image_ref =
            context.images.ensure(pod, container, &secrets, &site.sandbox).await.inspect_err(|e| {
                context.events.container(pod, name, true, "Failed", &format!("Error: {}", e.reason));
            })?;

        let target = spec::spec(pod).ephemeral_containers.iter().flatten().find(|c| &c.name == name);
        let target = target
            .and_then(|c| observed.container(c.target_container_name.as_deref()?))
            .map(|c| c.id.clone());
        let config = match self.container_config(pod, container, observed, site, image_ref, target).await {
            Ok(config) => config,
            Err(error) => return Err(failed("CreateContainerConfigError", error)),
        };
        let log = PathBuf::from(&site.sandbox.log_directory).join(&config.log_path);
        let created = client.create_container(&site.sandbox_id, config, site.sandbox.clone()).await;
        let id = created.map_err(|e| failed("CreateContainerError", plain(&e)))?;
        context.events.container(pod, name, false, "Created", "Container created");
        client.start_container(&id).await.map_err(|e| failed("RunContainerError", plain(&e)))?;
        context.events.container(pod, name, false, "Started", "Container started");
        if let Some(link) = self.legacy_log(pod, name, &id)
            && log.exists()
        {
            let _ = link.parent().map(fs::create_dir_all);
            let _ = std::os::unix::fs::symlink(&log, link);
        }

        if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
            let ip = site.ips.first().cloned().unwrap_or_default();
            if let Err(error) = lifecycle::run(client, &id, &ip, pod, container, hook).await {
                // Not the text itself: it may hold secrets.
                context.events.container(pod, name, true, "FailedPostStartHook", "PostStartHook failed");
                let now = self.context.runtime.observe(spec::uid(pod)).await.unwrap_or_default();
                if let Some(seen) = now.containers.iter().find(|c| c.id == id) {
                    let _ = self.kill(pod, seen, "FailedPostStartHook", spec::grace_seconds(pod)).await;
                }
                return Err(StartError::new("PostStartHookError", error));
            }
        }
        Ok(())
    }

    /// Refuses to start a container that has crashed a moment ago, again and again.
    fn back_off(&mut self, pod: &Pod, container: &Container, observed: &Observed) -> Result<(), StartError> {
        let dead = observed.containers.iter().find(|c| c.name == container.name && c.state == State::Exited);
        let Some(dead) = dead else { return Ok(()) };
        let key = format!("{}/{}", container.name, container.image.as_deref().unwrap_or_default());
        let ended = Timestamp::from_nanosecond(i128::from(dead.finished_at)).unwrap_or(Timestamp::UNIX_EPOCH);
        let now = self.context.clock.now();
        if let Some((until, delay)) = self.backoff.until(&key, ended, now) {
            let full = spec::full(pod);
            let name = &container.name;
            let shown = self.reasons.get(name).is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
            if !shown {
                let message = format!("Back-off restarting failed container {name} in pod {full}");
                self.context.events.container(pod, name, true, "BackOff", &message);
            }
            let message =
                format!("back-off {} restarting failed container={name} pod={full}", go_duration(delay));
            return Err(StartError { reason: "CrashLoopBackOff".into(), message, again: Some(until) });
        }
        self.backoff.next(&key, ended, now);
        Ok(())
    }

    async fn container_config(
        &self,
        pod: &Pod,
        container: &Container,
        observed: &Observed,
        site: &Site,
        image_ref: String,
        target: Option<String>,
    ) -> Result<v1::ContainerConfig, String> {
        let context = &self.context;
        let dir = context.pod_dir(spec::uid(pod));
        let facts = context.facts(site.ips.clone());
        let env = env::environment(pod, container, &site.sources, &facts)?;
        let mut all = mounts::volume_mounts(pod, container, &dir, &self.volumes, &env)?;
        let own_hosts = container.volume_mounts.iter().flatten().any(|m| m.mount_path == "/etc/hosts");
        if !own_hosts && (!site.ips.is_empty() || spec::host_network(pod)) {
            let node_hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
            let text = hosts::file(pod, &site.ips, &context.config.cluster_domain, &node_hosts);
            let path = dir.join("etc-hosts");
            fs::write(&path, text).map_err(|e| format!("writing {}: {e}", path.display()))?;
            all.push(mounts::file(&path, "/etc/hosts"));
        }
        if let Some(path) = container.termination_message_path.as_deref().filter(|p| !p.is_empty()) {
            let own = dir.join("containers").join(&container.name);
            fs::create_dir_all(&own).map_err(|e| format!("making {}: {e}", own.display()))?;
            let file = own.join(context.random_name());
            fs::write(&file, "").map_err(|e| format!("making {}: {e}", file.display()))?;
            // Whoever the container runs as must be able to write it.
            let anybody = fs::Permissions::from_mode(0o666);
            fs::set_permissions(&file, anybody).map_err(|e| format!("opening {}: {e}", file.display()))?;
            all.push(mounts::file(&file, path));
        }
        let restart_count = match observed.container(&container.name) {
            Some(seen) => seen.restart_count + 1,
            None => restarts_by_log(&context.log_dir(pod).join(&container.name)),
        };
        fs::create_dir_all(context.log_dir(pod).join(&container.name))
            .map_err(|e| format!("making the log directory: {e}"))?;
        let image_user = context.runtime.image_user(&image_ref).await.map_err(|e| describe(&e))?;
        container::config(
            pod,
            container,
            &container::Input {
                restart_count,
                image_ref,
                image_user,
                env,
                mounts: all,
                memory_capacity: context.machine.memory,
                cpu_quota: context.config.cpu_cfs_quota,
                node: security::Node {
                    seccomp_root: context.config.root_dir.join("seccomp"),
                    seccomp_default: context.config.seccomp_default,
                },
                target,
            },
        )
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> Result<v1::PodSandboxConfig, String> {
        let context = &self.context;
        let (dns, warnings) = context.dns(pod)?;
        for warning in warnings {
            let reason =
                if warning.contains("ClusterDNS") { "MissingClusterDNS" } else { "DNSConfigForming" };
            context.events.pod(pod, true, reason, &warning);
        }
        sandbox::config(
            pod,
            &sandbox::Input {
                attempt,
                cgroup_parent: if context.cgroups.is_some() { context.tree.pod(pod) } else { String::new() },
                dns,
                cluster_domain: context.config.cluster_domain.clone(),
                log_directory: context.log_dir(pod).to_string_lossy().into_owned(),
                owner: context.owner(),
            },
        )
    }

    /// Control groups, directories and volumes; done again at each look, it brings files up to date.
    async fn prepare(&mut self, pod: &Arc<Pod>, ips: Vec<String>) -> Result<(), String> {
        let context = self.context.clone();
        if let Some(cgroups) = &context.cgroups {
            let group = context.tree.pod(pod);
            if !cgroups.exists(&group) {
                let limits = cgroups::pod_resources(pod, context.config.cpu_cfs_quota);
                let class = context.tree.class(resources::qos_class(pod));
                let made = cgroups
                    .create(&class, &linux::cgroup::Resources::default())
                    .and_then(|()| cgroups.create(&group, &limits));
                made.map_err(|e| {
                    let message =
                        format!("unable to ensure pod container exists: {}", crate::kubelet::text(&e));
                    context.events.pod(pod, true, "FailedCreatePodContainer", &message);
                    message
                })?;
            }
        }
        let dir = context.pod_dir(spec::uid(pod));
        for part in ["volumes", "containers"] {
            let path = dir.join(part);
            fs::create_dir_all(&path)
                .map_err(|e| format!("error making pod data directories: {}: {e}", path.display()))?;
        }
        if spec::spec(pod).volumes.iter().flatten().next().is_none() {
            return Ok(());
        }
        match self.make_volumes(pod, ips).await {
            Ok(()) => {
                self.complaint.clear();
                Ok(())
            }
            Err(error) => {
                if self.complaint != error {
                    context.events.pod(pod, true, "FailedMount", &error);
                    self.complaint.clone_from(&error);
                }
                Err(error)
            }
        }
    }

    async fn make_volumes(&mut self, pod: &Arc<Pod>, ips: Vec<String>) -> Result<(), String> {
        let context = self.context.clone();
        let sources = context.objects.resolve(pod).await;
        let facts = context.facts(ips);
        for volume in spec::spec(pod).volumes.iter().flatten() {
            let name = &volume.name;
            let failed = |e: String| format!("MountVolume.SetUp failed for volume {name:?} : {e}");
            let Some(sort) = volumes::sort(volume) else {
                return Err(failed("this kubelet does not know this kind of volume".into()));
            };
            let Some(path) = volumes::path(&context.config.root_dir, pod, volume) else { continue };
            let mut tokens = BTreeMap::new();
            for key in payload::token_keys(volume) {
                let (token, renew) = context.tokens.get(pod, &key).await.map_err(failed)?;
                self.soon(renew);
                tokens.insert(key, token);
            }
            let resolved = payload::Resolved { sources: &sources, facts: &facts, tokens: &tokens };
            let files = payload::payload(pod, volume, &resolved).map_err(failed)?;
            let now = context.clock.now();
            let stamp = format!("{}.{}", now.strftime("%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond());
            setup::setup(pod, volume, sort, &path, files.as_ref(), &stamp).map_err(failed)?;
            self.volumes.insert(name.clone(), path);
        }
        Ok(())
    }

    async fn sources(&self, pod: &Pod) -> Result<Sources, String> {
        let mut sources = self.context.objects.resolve(pod).await;
        if !spec::is_static(pod) {
            let never = tokio_util::sync::CancellationToken::new();
            let wait = self.context.services.wait_for_sync(&never);
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), wait).await;
        }
        sources.services = self.context.service_variables(pod)?;
        Ok(sources)
    }

    /// The name under which log collectors look for a container's log.
    pub(super) fn legacy_log(&self, pod: &Pod, container: &str, id: &str) -> Option<PathBuf> {
        let dir = self.context.config.container_logs_dir.as_ref()?;
        let name = format!("{}_{}_{container}", spec::name(pod), spec::namespace(pod));
        // File systems take no longer names.
        let name: String = name.chars().take(251 - id.len().min(200)).collect();
        Some(dir.join(format!("{name}-{id}.log")))
    }
}

fn attempt(observed: &Observed) -> u32 {
    observed.sandboxes.first().map(|s| s.attempt).unwrap_or_default()
}

/// The runtime's own text.
fn plain(error: &cri::Error) -> String {
    match error {
        cri::Error::Call { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn pull_secrets(pod: &Pod, sources: &Sources) -> Vec<Arc<Secret>> {
    let names = spec::spec(pod).image_pull_secrets.iter().flatten().map(|r| &r.name);
    let found = names.filter_map(|n| match sources.secrets.get(n) {
        Some(Found::Yes(secret)) => Some(secret.clone()),
        _ => None,
    });
    found.collect()
}

/// When the runtime has forgotten a container's former lives, its logs still tell how many there were.
fn restarts_by_log(dir: &std::path::Path) -> i32 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let number = |e: fs::DirEntry| e.file_name().to_string_lossy().split('.').next()?.parse::<i32>().ok();
    entries.flatten().filter_map(number).max().map_or(0, |n| n + 1)
}
