//! The webhooks that are configured, read once for each stored revision of their configuration.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use apimachinery::schema::Resource;
use arc_swap::ArcSwap;
use bytes::Bytes;
use etcd::KeyValue;
use serde_json::Value;

use super::review::Version;
use crate::{
    admission::{expression::MatchConditions, matching::Criteria},
    server::ApiServer,
    webhook::{Error, Target},
};

/// For a hook that says nothing, as defaults have it.
const TIMEOUT: i64 = 10;

/// One entry of `webhooks`.
pub struct Hook {
    pub name: String,
    /// The configuration's.
    pub configuration: String,
    /// Tells hooks apart that have one name.
    pub uid: String,
    /// Or what is wrong with its selectors.
    pub criteria: Result<Criteria, String>,
    pub conditions: MatchConditions,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    pub timeout: Duration,
    pub side_effects: SideEffects,
    /// `reinvocationPolicy: IfNeeded`.
    pub is_reinvoked: bool,
    /// None if it speaks no version that we do.
    pub version: Option<Version>,
    client: Value,
    target: OnceLock<Result<Target, String>>,
}

/// Whether a hook may be asked about what is not going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    Unsaid,
    /// `None`, `NoneOnDryRun`.
    NotOnDryRun,
    Some,
}

impl Hook {
    /// `index` counts the hooks of this name within the configuration.
    fn read(configuration: &str, hook: &Value, index: usize) -> Self {
        let text = |field: &str| hook[field].as_str().unwrap_or_default();
        let conditions = hook["matchConditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let versions = hook["admissionReviewVersions"].as_array().into_iter().flatten();
        let seconds = hook["timeoutSeconds"].as_i64().unwrap_or(TIMEOUT).clamp(1, 30);
        Self {
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            uid: format!("{configuration}/{}/{index}", text("name")),
            criteria: Criteria::of_webhook(hook).map_err(|e| e.to_string()),
            conditions: MatchConditions::of_webhook(conditions),
            ignores_failures: text("failurePolicy") == "Ignore",
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            side_effects: match text("sideEffects") {
                "" => SideEffects::Unsaid,
                "None" | "NoneOnDryRun" => SideEffects::NotOnDryRun,
                _ => SideEffects::Some,
            },
            is_reinvoked: text("reinvocationPolicy") == "IfNeeded",
            version: Version::first_of(versions.filter_map(Value::as_str)),
            client: hook["clientConfig"].clone(),
            target: OnceLock::new(),
        }
    }

    /// Where it is reached; worked out when it is first called.
    ///
    /// # Errors
    /// What is wrong with its `clientConfig`.
    pub fn target(&self, server: &ApiServer) -> Result<&Target, Error> {
        let made = self.target.get_or_init(|| {
            server.webhooks.target(&self.client).map_err(|error| match error {
                Error::Configuration(why) => why,
                other => other.to_string(),
            })
        });
        made.as_ref().map_err(|why| Error::Configuration(why.clone()))
    }
}

/// What is stored of one kind of configuration, in order of names.
pub struct Configurations {
    plural: &'static str,
    known: ArcSwap<Known>,
}

#[derive(Default)]
struct Known {
    read: Vec<Read>,
    hooks: Arc<[Arc<Hook>]>,
}

/// One configuration at one revision.
struct Read {
    key: Bytes,
    revision: i64,
    hooks: Vec<Arc<Hook>>,
}

impl Configurations {
    pub fn new(plural: &'static str) -> Self {
        Self { plural, known: ArcSwap::default() }
    }

    /// Every hook, as they are stored now. Cheap when nothing has changed, and cheaper when nothing is configured.
    pub fn current(&self, server: &ApiServer) -> Arc<[Arc<Hook>]> {
        let Some(resource) = api::resource("admissionregistration.k8s.io", "v1", self.plural) else {
            return Arc::default();
        };
        let known = self.known.load();
        if known.read.is_empty() && !server.storage.has_any(resource, "") {
            return known.hooks.clone();
        }
        let stored = server.storage.all(resource, "");
        let same =
            |(read, kv): (&Read, &Arc<KeyValue>)| read.revision == kv.mod_revision && read.key == kv.key;
        if known.read.len() == stored.len() && known.read.iter().zip(&stored).all(same) {
            return known.hooks.clone();
        }
        let read: Vec<Read> = stored
            .iter()
            .map(|kv| {
                let before = known.read.iter().find(|read| same((read, kv)));
                let hooks = match before {
                    Some(before) => before.hooks.clone(),
                    None => read(server, resource, kv),
                };
                Read { key: kv.key.clone(), revision: kv.mod_revision, hooks }
            })
            .collect();
        let hooks: Arc<[Arc<Hook>]> = read.iter().flat_map(|read| read.hooks.iter().cloned()).collect();
        self.known.store(Arc::new(Known { read, hooks: hooks.clone() }));
        hooks
    }
}

fn read(server: &ApiServer, resource: &Resource, kv: &KeyValue) -> Vec<Arc<Hook>> {
    let configuration = match server.storage.decode(resource, kv) {
        Ok(configuration) => configuration,
        Err(error) => {
            let key = String::from_utf8_lossy(&kv.key);
            tracing::error!(%key, %error, "a webhook configuration is unreadable and counts as absent");
            return Vec::new();
        }
    };
    let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
    let mut count = BTreeMap::<&str, usize>::new();
    let hooks = configuration["webhooks"].as_array().into_iter().flatten();
    let read = hooks.map(|hook| {
        let index = count.entry(hook["name"].as_str().unwrap_or_default()).or_default();
        *index += 1;
        Arc::new(Hook::read(name, hook, *index - 1))
    });
    read.collect()
}
