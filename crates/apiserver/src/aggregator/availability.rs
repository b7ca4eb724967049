//! Whether an extension server can be asked: what can be seen without asking it, and its condition (upstream's
//! `controllers/status/remote`). Pure.

use apimachinery::field::quote;
use serde_json::{Value, json};

use super::resolve::is_ready;
use super::service::{Reference, condition};

/// What the condition `Available` shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    pub fn local() -> Self {
        let message = "Local APIServices are always available".into();
        Self { available: true, reason: "Local", message }
    }

    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".into() }
    }

    pub fn failed(message: String) -> Self {
        Self { available: false, reason: "FailedDiscoveryCheck", message }
    }
}

/// What stands against asking the server at all. `slices` are the Service's; `None`: the Service is not there.
pub fn obstacle(reference: &Reference, service: Option<&Value>, slices: &[Value]) -> Option<Verdict> {
    let who = format!("service/{} in {}", reference.name, quote(&reference.namespace));
    let no = |reason, message| Some(Verdict { available: false, reason, message });
    let Some(service) = service else { return no("ServiceNotFound", format!("{who} is not present")) };
    if service["spec"]["type"].as_str().is_some_and(|kind| kind != "ClusterIP") {
        return None;
    }
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = ports.into_iter().find(|port| port["port"].as_u64() == Some(u64::from(reference.port)));
    let Some(port) = port else {
        return no("ServicePortError", format!("{who} is not listening on port {}", reference.port));
    };
    let name = port["name"].as_str().unwrap_or_default();
    if slices.is_empty() {
        return no("EndpointsNotFound", format!("cannot find endpointslices for {who}"));
    }
    let leads = |slice: &Value| {
        let list = |key: &str| slice[key].as_array().cloned().unwrap_or_default();
        let port = |port: &Value| port["name"].as_str() == Some(name) && !port["port"].is_null();
        list("endpoints").iter().any(is_ready) && list("ports").iter().any(port)
    };
    if slices.iter().any(leads) {
        return None;
    }
    let message = format!("endpointslices for {who} have no addresses with port name {}", quote(name));
    no("MissingEndpoints", message)
}

/// The APIService with the verdict in its status; `None` if it says so already. The time is that of the last change
/// between available and not.
pub fn with_verdict(object: &Value, verdict: &Verdict, now: &str) -> Option<Value> {
    let status = if verdict.available { "True" } else { "False" };
    let said = condition(object);
    let same = |key: &str, text: &str| said.is_some_and(|said| said[key] == text);
    if same("status", status) && same("reason", verdict.reason) && same("message", &verdict.message) {
        return None;
    }
    let since = match said {
        Some(said) if said["status"] == status => said["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let new = json!({"type": "Available", "status": status, "reason": verdict.reason,
        "message": verdict.message, "lastTransitionTime": since});
    let mut object = object.clone();
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    match conditions.iter_mut().find(|one| one["type"] == "Available") {
        Some(one) => *one = new,
        None => conditions.push(new),
    }
    object["status"]["conditions"] = conditions.into();
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_against_asking() {
        let reference = Reference {
            namespace: "n".into(),
            name: "s".into(),
            port: 443,
            insecure: false,
            authority: Vec::new(),
        };
        let service = |kind: &str, port: u16| json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}});
        let slice = |name: &str, ready: bool| {
            json!({"ports": [{"name": name, "port": 8443}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
        };
        let check = |service: Option<Value>, slices: &[Value], expect: &str| {
            let got = obstacle(&reference, service.as_ref(), slices);
            let got = got.map_or(String::new(), |verdict| format!("{}: {}", verdict.reason, verdict.message));
            assert_eq!(got, expect);
        };
        check(None, &[], "ServiceNotFound: service/s in \"n\" is not present");
        check(
            Some(service("ClusterIP", 1)),
            &[],
            "ServicePortError: service/s in \"n\" is not listening on port 443",
        );
        let here = || Some(service("ClusterIP", 443));
        check(here(), &[], "EndpointsNotFound: cannot find endpointslices for service/s in \"n\"");
        let missing = "MissingEndpoints: endpointslices for service/s in \"n\" have no addresses with port name \"https\"";
        check(here(), &[slice("https", false)], missing);
        check(here(), &[slice("other", true)], missing);
        check(here(), &[slice("other", true), slice("https", true)], "");
        check(Some(service("ExternalName", 1)), &[], "");
    }

    #[test]
    fn conditions() {
        let object = json!({"spec": {}});
        let first = with_verdict(&object, &Verdict::passed(), "t1").unwrap();
        assert_eq!(with_verdict(&first, &Verdict::passed(), "t2"), None);
        let time = |object: &Value| condition(object).unwrap()["lastTransitionTime"].clone();
        let second = with_verdict(&first, &Verdict::failed("x".into()), "t2").unwrap();
        assert_eq!((time(&first), time(&second)), ("t1".into(), "t2".into()));
        let third = with_verdict(&second, &Verdict::failed("y".into()), "t3").unwrap();
        assert_eq!((time(&third), third["status"]["conditions"].as_array().unwrap().len()), ("t2".into(), 1));
    }
}
