//! What happens on a side: the same, at the same times, whosever the API server is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::objects::{self, HOME};
use super::side::Side;

/// One rollout each.
const TURNS: u32 = 20;
const JOBS_A_TURN: u32 = 5;
const WIDE: u32 = 200;
const POLL: Duration = Duration::from_secs(1);
/// No single thing takes longer, unless something is broken.
const LIMIT: Duration = Duration::from_secs(300);
/// How long nothing changes before the end is written down.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs the whole script, spread over `length`.
pub fn run(side: &mut Side, length: Duration) -> Result<()> {
    let begin = Instant::now();
    timed(side, "everything of the beginning there and ready", |side| {
        again(side, |side| side.apply(&[objects::namespace(HOME)]))?;
        // The namespace gets its service account a moment later, and pods are refused until then.
        again(side, |side| side.get(&["serviceaccount", "default", "-n", HOME]))?;
        again(side, |side| side.apply(&objects::home()))?;
        rolled_out(side, "deployment", "web")?;
        rolled_out(side, "daemonset", "agent")?;
        rolled_out(side, "statefulset", "db")
    })?;
    for turn in 0..TURNS {
        take(side, turn).with_context(|| format!("in turn {turn}"))?;
        let until = length * (turn + 1) / TURNS;
        side.rest(until.saturating_sub(begin.elapsed()))?;
    }
    kubectl(side, &["patch", "cronjob", "tick", "-n", HOME, "-p", r#"{"spec":{"suspend":true}}"#])?;
    settled(side)
}

fn take(side: &mut Side, turn: u32) -> Result<()> {
    side.say(&format!("turn {turn}"));
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"turn": turn.to_string()}}}}});
    kubectl(side, &["patch", "deployment", "web", "-n", HOME, "-p", &template.to_string()])?;
    // Three times the API server goes down in the middle of a rollout, once without warning.
    match turn {
        5 | 15 => side.restart_server("TERM")?,
        10 => side.restart_server("KILL")?,
        _ => {}
    }
    timed(side, "rollout of 10 replicas", |side| rolled_out(side, "deployment", "web"))?;
    if turn.is_multiple_of(2) {
        timed(side, "5 Jobs", |side| jobs(side, turn / 2))?;
    }
    match turn {
        1 | 12 => {
            for replicas in [WIDE, 0] {
                let count = replicas.to_string();
                timed(side, &format!("scale to {replicas}"), |side| {
                    kubectl(side, &["scale", "deployment", "wide", "-n", HOME, "--replicas", &count])?;
                    rolled_out(side, "deployment", "wide")?;
                    until(side, "pods of wide", |side| {
                        let pods = side.get(&["pods", "-n", HOME, "-l", "app=wide"])?;
                        Ok(items(&pods).len() == replicas as usize)
                    })
                })?;
            }
        }
        2 | 7 | 11 | 16 => {
            let name = format!("doomed-{turn}");
            again(side, |side| side.apply(&[objects::namespace(&name)]))?;
            again(side, |side| side.get(&["serviceaccount", "default", "-n", &name]))?;
            again(side, |side| side.apply(&objects::doomed(&name)))?;
            side.rest(Duration::from_secs(5))?;
            timed(side, "namespace with 30 objects deleted", |side| {
                kubectl(side, &["delete", "namespace", &name, "--wait=false"])?;
                gone(side, &["namespace", &name])
            })?;
        }
        3 => approve_request(side)?,
        4 => {
            kubectl(side, &["scale", "statefulset", "db", "-n", HOME, "--replicas=5"])?;
            timed(side, "StatefulSet from 3 to 5, with claims", |side| {
                rolled_out(side, "statefulset", "db")
            })?;
        }
        6 => {
            timed(side, "Job deleted with its pods first", |side| {
                kubectl(
                    side,
                    &["delete", "job", "job-1", "-n", HOME, "--cascade=foreground", "--wait=false"],
                )?;
                gone(side, &["job", "job-1", "-n", HOME])
            })?;
        }
        8 => orphans(side)?,
        9 => {
            kubectl(side, &["patch", "daemonset", "agent", "-n", HOME, "-p", &template.to_string()])?;
            timed(side, "rollout of a DaemonSet on 10 nodes", |side| rolled_out(side, "daemonset", "agent"))?;
        }
        13 => {
            kubectl(side, &["taint", "node", "hollow-3", "swap=out:NoExecute", "--overwrite"])?;
            timed(side, "pods evicted by a taint and made again", |side| {
                until(side, "pods of hollow-3", |side| {
                    let pods = side.get(&["pods", "-A", "--field-selector=spec.nodeName=hollow-3"])?;
                    Ok(items(&pods).is_empty())
                })?;
                rolled_out(side, "deployment", "web")
            })?;
            kubectl(side, &["taint", "node", "hollow-3", "swap-"])?;
            rolled_out(side, "daemonset", "agent")?;
        }
        14 => {
            kubectl(side, &["scale", "statefulset", "db", "-n", HOME, "--replicas=2"])?;
            rolled_out(side, "statefulset", "db")?;
        }
        17 => {
            timed(side, "node drained", |side| {
                // Only running pods: which finished ones lie on the node is chance.
                let drain =
                    ["drain", "hollow-4", "--ignore-daemonsets", "--pod-selector=app=web", "--timeout=120s"];
                kubectl(side, &drain)
            })?;
            kubectl(side, &["uncordon", "hollow-4"])?;
            rolled_out(side, "deployment", "web")?;
        }
        18 => {
            kubectl(side, &["delete", "pvc", "data-db-4", "-n", HOME, "--wait=false"])?;
            gone(side, &["pvc", "data-db-4", "-n", HOME])?;
        }
        19 => {
            kubectl(side, &["delete", "service", "wide", "-n", HOME, "--wait=false"])?;
            timed(side, "endpoints gone after their Service", |side| {
                until(side, "endpoint slices of wide", |side| {
                    let slices = side.get(&["endpointslices", "-n", HOME, "-l", "app=wide"])?;
                    Ok(items(&slices).is_empty())
                })
            })?;
        }
        _ => {}
    }
    Ok(())
}

/// Five Jobs of different sorts, until each has ended, or has been cleaned up.
fn jobs(side: &mut Side, round: u32) -> Result<()> {
    let numbers: Vec<u32> = (0..JOBS_A_TURN).map(|number| round * JOBS_A_TURN + number).collect();
    let all: Vec<Value> = numbers.iter().map(|number| objects::job(HOME, *number)).collect();
    again(side, |side| side.apply(&all))?;
    until(side, "Jobs", |side| {
        let jobs = side.get(&["jobs", "-n", HOME])?;
        let ended = |job: &Value| {
            let conditions = job["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            conditions
                .iter()
                .any(|c| (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True")
        };
        let mine =
            |job: &Value| numbers.iter().any(|number| job["metadata"]["name"] == format!("job-{number}"));
        Ok(items(&jobs).iter().filter(|job| mine(job)).all(ended))
    })
}

/// A Deployment deleted without its ReplicaSet, which then stands alone until it is deleted too.
fn orphans(side: &mut Side) -> Result<()> {
    again(side, |side| side.apply(&[objects::deployment(HOME, "lone", 2)]))?;
    rolled_out(side, "deployment", "lone")?;
    timed(side, "Deployment deleted without its ReplicaSet", |side| {
        kubectl(side, &["delete", "deployment", "lone", "-n", HOME, "--cascade=orphan", "--wait=false"])?;
        gone(side, &["deployment", "lone", "-n", HOME])
    })?;
    let sets = side.get(&["replicasets", "-n", HOME, "-l", "app=lone"])?;
    if items(&sets).len() != 1 || !sets["items"][0]["metadata"]["ownerReferences"].is_null() {
        bail!("the ReplicaSet is not there, or has its owner still: {sets}");
    }
    timed(side, "ReplicaSet deleted, pods after it", |side| {
        kubectl(side, &["delete", "replicaset", "-l", "app=lone", "-n", HOME, "--wait=false"])?;
        until(side, "pods of lone", |side| {
            Ok(items(&side.get(&["pods", "-n", HOME, "-l", "app=lone"])?).is_empty())
        })
    })
}

/// A certificate that the signer gives once the request is approved.
fn approve_request(side: &mut Side) -> Result<()> {
    let request = side.certificate_request()?;
    again(side, |side| side.apply(std::slice::from_ref(&request)))?;
    timed(side, "certificate signed", |side| {
        kubectl(side, &["certificate", "approve", "swap"])?;
        until(
            side,
            "certificate",
            |side| Ok(side.get(&["csr", "swap"])?["status"]["certificate"].is_string()),
        )
    })
}

/// Whether the controller has seen the newest spec, and all of it runs.
fn rolled_out(side: &mut Side, kind: &str, name: &str) -> Result<()> {
    until(side, name, |side| {
        let object = side.get(&[kind, name, "-n", HOME])?;
        let (status, number) = (&object["status"], |value: &Value| value.as_u64().unwrap_or(0));
        let wanted = match kind {
            "daemonset" => number(&status["desiredNumberScheduled"]),
            _ => number(&object["spec"]["replicas"]),
        };
        let counts: &[&str] = match kind {
            "daemonset" => &["updatedNumberScheduled", "numberAvailable"],
            "statefulset" => &["replicas", "updatedReplicas", "availableReplicas"],
            _ => &["replicas", "updatedReplicas", "availableReplicas"],
        };
        Ok(status["observedGeneration"] == object["metadata"]["generation"]
            && (kind != "daemonset" || wanted > 0)
            && counts.iter().all(|count| number(&status[*count]) == wanted))
    })
}

fn gone(side: &mut Side, what: &[&str]) -> Result<()> {
    until(side, what.first().unwrap_or(&""), |side| {
        let said = side.kubectl(&[&["get", "--ignore-not-found", "-o", "name"], what].concat())?;
        Ok(said.trim().is_empty())
    })
}

/// Until no object in [`HOME`] and no pod has changed for a while.
fn settled(side: &mut Side) -> Result<()> {
    let mut last = BTreeMap::new();
    let mut since = Instant::now();
    let begin = Instant::now();
    while since.elapsed() < SETTLED && begin.elapsed() < LIMIT {
        side.rest(Duration::from_secs(5))?;
        let kinds =
            "pods,replicasets,deployments,statefulsets,daemonsets,jobs,endpointslices,pvc,pdb,resourcequotas";
        let Ok(all) = side.get(&[kinds, "-n", HOME]) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let now: BTreeMap<String, String> = items(&all)
            .iter()
            .map(|item| (text(&item["metadata"]["uid"]), text(&item["metadata"]["resourceVersion"])))
            .collect();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn timed(side: &mut Side, what: &str, act: impl FnOnce(&mut Side) -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    act(side).with_context(|| what.to_owned())?;
    side.figure(what, begin.elapsed());
    Ok(())
}

/// Polls. What cannot be read now may be readable later: the API server may be starting.
fn until(side: &mut Side, what: &str, done: impl Fn(&mut Side) -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let found = done(side);
        if matches!(found, Ok(true)) {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            bail!("{what}: not there after {} s: {found:?}", LIMIT.as_secs());
        }
        side.rest(POLL)?;
    }
}

/// Tries again for a while.
fn again<T>(side: &mut Side, act: impl Fn(&mut Side) -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match act(side) {
            Ok(done) => return Ok(done),
            Err(error) if begin.elapsed() > Duration::from_secs(60) => return Err(error),
            Err(error) => {
                let error = format!("{error:#}");
                side.say(&format!("again, since: {}", error.trim().lines().last().unwrap_or_default()));
            }
        }
        side.rest(POLL)?;
    }
}

fn kubectl(side: &mut Side, args: &[&str]) -> Result<()> {
    again(side, |side| side.kubectl(args)).map(drop)
}
