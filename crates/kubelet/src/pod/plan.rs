//! What to do with a pod's sandbox and containers: a pure function of the specification and of what the runtime
//! shows. It follows the order of upstream's `computePodActions`.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod};

use super::labels;
use super::observed::{Observed, State};
use super::spec;

/// What the probes say of a container, by container id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    pub liveness_failed: bool,
    pub startup_failed: bool,
    /// Running, and past its startup probe if it has one.
    pub started: bool,
}

pub type Healths = BTreeMap<String, Health>;

/// A container to stop because it must not go on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Changed,
    Liveness,
    Startup,
    Unknown,
}

/// The deeds, in this order: stop the whole pod, stop single containers, make a sandbox, start containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stop everything, the sandbox included.
    pub kill_pod: bool,
    /// Then make a new sandbox, with this attempt number.
    pub create_sandbox: Option<u32>,
    /// The sandbox that is used or replaced.
    pub sandbox_id: Option<String>,
    pub kill: Vec<Kill>,
    /// Indexes into the ephemeral containers.
    pub start_ephemeral: Vec<usize>,
    /// Indexes into the init containers.
    pub start_init: Vec<usize>,
    /// Indexes into the containers.
    pub start: Vec<usize>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        *self == Plan { sandbox_id: self.sandbox_id.clone(), ..Plan::default() }
    }
}

/// Whether the pod needs a new sandbox, with its attempt number and the one it replaces.
pub fn sandbox_changed(pod: &Pod, observed: &Observed) -> (bool, u32, Option<String>) {
    let Some(newest) = observed.sandboxes.first() else { return (true, 0, None) };
    let again = newest.attempt + 1;
    let several = observed.sandboxes.iter().filter(|s| s.ready).count() > 1;
    let host_network = spec::host_network(pod);
    if several || !newest.ready {
        (true, again, Some(newest.id.clone()))
    } else if newest.host_network != host_network {
        (true, again, None)
    } else if !host_network && newest.ips.is_empty() {
        (true, again, Some(newest.id.clone()))
    } else {
        (false, newest.attempt, Some(newest.id.clone()))
    }
}

/// Whether a container that does not run is to be started.
pub fn should_start(pod: &Pod, container: &Container, observed: &Observed) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match observed.container(&container.name) {
        None => true,
        Some(c) => match c.state {
            State::Running => false,
            State::Unknown | State::Created => true,
            State::Exited => spec::should_restart(pod, container, c.exit_code),
        },
    }
}

/// The plan for a pod that is to run.
pub fn plan(pod: &Pod, observed: &Observed, health: &Healths) -> Plan {
    let pod_spec = spec::spec(pod);
    let (create, attempt, sandbox_id) = sandbox_changed(pod, observed);
    let mut plan = Plan { kill_pod: create, sandbox_id, ..Plan::default() };
    let never_restarts = pod_spec.containers.iter().all(|c| !spec::should_restart(pod, c, 1));

    if create {
        // A pod whose containers have run and are not to run again needs no new sandbox.
        if never_restarts && attempt != 0 && !observed.containers.is_empty() {
            return plan;
        }
        let done = |c: &Container| {
            observed.container(&c.name).is_some_and(|o| {
                o.state == State::Exited && o.exit_code == 0 && !spec::should_restart(pod, c, 0)
            })
        };
        let start: Vec<usize> =
            (0..pod_spec.containers.len()).filter(|i| !done(&pod_spec.containers[*i])).collect();
        let was_initialized = pod_spec.containers.iter().any(|c| observed.container(&c.name).is_some());
        if start.is_empty() && was_initialized {
            return plan;
        }
        plan.create_sandbox = Some(attempt);
        if spec::init_containers(pod).is_empty() {
            plan.start = start;
        } else {
            plan.start_init = vec![0];
        }
        return plan;
    }

    for (index, c) in pod_spec.ephemeral_containers.iter().flatten().enumerate() {
        if observed.container(&c.name).is_none() {
            plan.start_ephemeral.push(index);
        }
    }

    if !init_done(pod, observed, health, &mut plan) || plan.kill_pod {
        return plan;
    }

    let mut kept = 0;
    for (index, container) in pod_spec.containers.iter().enumerate() {
        let seen = observed.container(&container.name);
        let Some(running) = seen.filter(|c| c.state == State::Running) else {
            if should_start(pod, container, observed) {
                plan.start.push(index);
                if let Some(unknown) = seen.filter(|c| c.state == State::Unknown) {
                    plan.kill.push(Kill {
                        id: unknown.id.clone(),
                        name: container.name.clone(),
                        message: "Container is in \"unknown\" state, try killing it before restart".into(),
                        why: Why::Unknown,
                    });
                }
            }
            continue;
        };
        let Some((message, why)) = why_kill(container, running.hash, health.get(&running.id)) else {
            kept += 1;
            continue;
        };
        // Probes do not tell an exit code: any policy but Never restarts.
        let policy = container.restart_policy.as_deref().unwrap_or_else(|| spec::restart_policy(pod));
        let restart = why == Why::Changed || policy != "Never";
        let message = if restart { format!("{message}, will be restarted") } else { message };
        if restart {
            plan.start.push(index);
        }
        plan.kill.push(Kill { id: running.id.clone(), name: container.name.clone(), message, why });
    }

    if kept == 0 && plan.start.is_empty() {
        plan.kill_pod = true;
        plan.start_init.clear();
    }
    plan
}

fn why_kill(container: &Container, hash: Option<u64>, health: Option<&Health>) -> Option<(String, Why)> {
    let name = &container.name;
    let health = health.copied().unwrap_or_default();
    if hash.is_some_and(|hash| hash != labels::hash(container)) {
        Some((format!("Container {name} definition changed"), Why::Changed))
    } else if health.liveness_failed {
        Some((format!("Container {name} failed liveness probe"), Why::Liveness))
    } else if health.startup_failed {
        Some((format!("Container {name} failed startup probe"), Why::Startup))
    } else {
        None
    }
}

/// Plans the init containers; answers whether the pod's own containers may be started.
fn init_done(pod: &Pod, observed: &Observed, health: &Healths, plan: &mut Plan) -> bool {
    let regular_seen = spec::spec(pod).containers.iter().any(|c| {
        let in_sandbox = |o: &&super::observed::Container| Some(&o.sandbox_id) == plan.sandbox_id.as_ref();
        observed.container(&c.name).filter(in_sandbox).is_some()
    });
    for (index, container) in spec::init_containers(pod).iter().enumerate() {
        let in_sandbox = |o: &&super::observed::Container| Some(&o.sandbox_id) == plan.sandbox_id.as_ref();
        let seen = observed.container(&container.name).filter(in_sandbox);
        let sidecar = spec::is_sidecar(container);
        if regular_seen && !sidecar {
            continue;
        }
        match seen.map(|c| (c.state, c)) {
            None | Some((State::Created, _)) => plan.start_init.push(index),
            Some((State::Unknown, c)) => {
                plan.kill.push(Kill {
                    id: c.id.clone(),
                    name: c.name.clone(),
                    message: "Init container is in \"unknown\" state, try killing it before restart".into(),
                    why: Why::Unknown,
                });
                plan.start_init.push(index);
            }
            Some((State::Running, c)) if sidecar => {
                let health_of = health.get(&c.id);
                if let Some((message, why)) = why_kill(container, c.hash, health_of) {
                    let message = format!("{message}, will be restarted");
                    plan.kill.push(Kill { id: c.id.clone(), name: c.name.clone(), message, why });
                    plan.start_init.push(index);
                } else if regular_seen || health_of.is_some_and(|h| h.started) {
                    continue;
                }
            }
            Some((State::Running, _)) => {}
            Some((State::Exited, _)) if sidecar => plan.start_init.push(index),
            Some((State::Exited, c)) if c.exit_code == 0 && c.reason != "OOMKilled" => continue,
            Some((State::Exited, c)) => {
                // "Always" means for an init container: until it succeeds.
                if spec::should_restart(pod, container, c.exit_code.max(1)) {
                    plan.start_init.push(index);
                } else {
                    plan.kill_pod = true;
                }
            }
        }
        if regular_seen {
            continue;
        }
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::observed::{Container as Seen, Sandbox};
    use super::*;

    fn pod(policy: &str, inits: &[&str], names: &[&str]) -> Pod {
        let container = |name: &&str| {
            let (name, sidecar) = name.strip_prefix('+').map_or((*name, false), |n| (n, true));
            Container {
                name: name.into(),
                image: Some("i".into()),
                restart_policy: sidecar.then(|| "Always".into()),
                ..Container::default()
            }
        };
        let mut pod = Pod::default();
        let spec = pod.spec.get_or_insert_default();
        spec.restart_policy = Some(policy.into());
        spec.init_containers = (!inits.is_empty()).then(|| inits.iter().map(container).collect());
        spec.containers = names.iter().map(container).collect();
        pod
    }

    /// `a` running, `a:0` ended with 0, `a?` unknown, `a!` of another specification; in sandbox s0.
    fn seen(text: &str) -> Seen {
        let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
        let mut c = Seen {
            id: format!("id-{name}"),
            sandbox_id: "s0".into(),
            state: State::Running,
            ..Seen::default()
        };
        let like = Container { name: name.clone(), image: Some("i".into()), ..Container::default() };
        c.hash = Some(labels::hash(&like));
        match &text[name.len()..] {
            "" => {}
            "?" => c.state = State::Unknown,
            "!" => c.hash = Some(1),
            code => {
                c.state = State::Exited;
                c.exit_code = code[1..].parse().expect("a code");
            }
        }
        c.name = name;
        c
    }

    fn sandbox(ready: bool) -> Sandbox {
        Sandbox { id: "s0".into(), ready, ips: vec!["10.0.0.1".into()], ..Sandbox::default() }
    }

    fn text(plan: &Plan) -> String {
        let mut words = Vec::new();
        if plan.kill_pod {
            words.push("kill-pod".to_owned());
        }
        words.extend(plan.kill.iter().map(|k| format!("kill({})", k.message)));
        words.extend(plan.create_sandbox.map(|a| format!("sandbox#{a}")));
        words.extend(plan.start_init.iter().map(|i| format!("init{i}")));
        words.extend(plan.start.iter().map(|i| format!("start{i}")));
        words.join(" ")
    }

    #[test]
    fn plans() {
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<bool>, &'a [&'a str], &'a str);
        let cases: &[Case] = &[
            ("Always", &[], &["a", "b"], None, &[], "kill-pod sandbox#0 start0 start1"),
            ("Always", &[], &["a", "b"], Some(true), &["a"], "start1"),
            ("Always", &[], &["a"], Some(true), &["a"], ""),
            ("Always", &[], &["a"], Some(true), &["a:0"], "start0"),
            ("OnFailure", &[], &["a", "b"], Some(true), &["a:0", "b:1"], "start1"),
            ("OnFailure", &[], &["a"], Some(true), &["a:0"], "kill-pod"),
            ("Never", &[], &["a", "b"], Some(true), &["a:1", "b"], ""),
            ("Never", &[], &["a"], Some(true), &["a:1"], "kill-pod"),
            ("Always", &[], &["a"], Some(false), &["a:137"], "kill-pod sandbox#1 start0"),
            ("OnFailure", &[], &["a", "b"], Some(false), &["a:0", "b:1"], "kill-pod sandbox#1 start1"),
            ("OnFailure", &[], &["a"], Some(false), &["a:0"], "kill-pod"),
            ("Never", &[], &["a"], Some(false), &["a:1"], "kill-pod"),
            ("Never", &[], &["a"], Some(false), &[], "kill-pod sandbox#1 start0"),
            (
                "Always",
                &[],
                &["a"],
                Some(true),
                &["a!"],
                "kill(Container a definition changed, will be restarted) start0",
            ),
            (
                "Always",
                &[],
                &["a"],
                Some(true),
                &["a?"],
                "kill(Container is in \"unknown\" state, try killing it before restart) start0",
            ),
            ("Always", &["i", "j"], &["a"], None, &[], "kill-pod sandbox#0 init0"),
            ("Always", &["i", "j"], &["a"], Some(true), &["i"], ""),
            ("Always", &["i", "j"], &["a"], Some(true), &["i:0"], "init1"),
            ("Always", &["i", "j"], &["a"], Some(true), &["i:3"], "init0"),
            ("Never", &["i", "j"], &["a"], Some(true), &["i:3"], "kill-pod"),
            ("Always", &["i", "j"], &["a"], Some(true), &["i:0", "j:0"], "start0"),
            ("Always", &["i"], &["a"], Some(true), &["a"], ""),
            ("Always", &["i"], &["a"], Some(false), &["i:0", "a:1"], "kill-pod sandbox#1 init0"),
            ("Always", &["+i"], &["a"], Some(true), &["i"], ""),
            ("Always", &["+i"], &["a"], Some(true), &["i:0", "a"], "init0"),
        ];
        for (policy, inits, names, ready, containers, expect) in cases {
            let observed = Observed {
                sandboxes: ready.map(sandbox).into_iter().collect(),
                containers: containers.iter().map(|c| seen(c)).collect(),
            };
            let got = text(&plan(&pod(policy, inits, names), &observed, &Healths::new()));
            assert_eq!(&got, expect, "{policy} {inits:?} {names:?} sandbox {ready:?} {containers:?}");
        }
    }

    #[test]
    fn probes_kill() {
        let observed = Observed { sandboxes: vec![sandbox(true)], containers: vec![seen("a"), seen("b")] };
        for (policy, expect) in [
            ("Always", "kill(Container a failed liveness probe, will be restarted) start0"),
            ("Never", "kill(Container a failed liveness probe)"),
        ] {
            let health = Health { liveness_failed: true, ..Health::default() };
            let healths = Healths::from([("id-a".into(), health)]);
            assert_eq!(text(&plan(&pod(policy, &[], &["a", "b"]), &observed, &healths)), expect);
        }
    }

    #[test]
    fn a_sidecar_holds_the_pod_back_until_it_has_started() {
        let observed = Observed { sandboxes: vec![sandbox(true)], containers: vec![seen("i")] };
        let pod = pod("Always", &["+i"], &["a"]);
        for (started, expect) in [(false, ""), (true, "start0")] {
            let healths = Healths::from([("id-i".into(), Health { started, ..Health::default() })]);
            assert_eq!(text(&plan(&pod, &observed, &healths)), expect);
        }
    }
}
