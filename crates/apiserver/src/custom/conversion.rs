//! Conversion by webhook: stored objects are brought into the version of a resource before anything else looks at them
//! (upstream's `apiserver/conversion/webhook_converter.go`). Without a webhook nothing is done here: only apiVersion
//! differs, and [`Custom::decode`] sees to that.

use std::sync::Arc;

use apimachinery::{codec::json, gvk, schema::Resource, status::Status};
use etcd::{Batch, Event, KeyValue};
use serde_json::{Value, json};

use super::{Custom, definition::Conversion, object, of};
use crate::{
    registry::meta,
    server::ApiServer,
    webhook::{self, Limits},
};

/// How long a conversion may take, and how large its answer may be for each byte that was sent.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
const LARGEST: usize = 16 << 20;

/// A resource whose objects a webhook converts, and the webhook.
fn webhook_of(resource: &Resource) -> Option<(&Custom, &Value)> {
    let custom = of(resource)?;
    match &custom.definition.conversion {
        Conversion::Webhook(webhook) => Some((custom, webhook)),
        Conversion::None => None,
    }
}

/// Whether stored objects of a resource may have to be converted by somebody else.
pub fn needs_webhook(resource: &Resource) -> bool {
    webhook_of(resource).is_some()
}

impl ApiServer {
    /// A stored object in the resource's version.
    ///
    /// # Errors
    /// 500 for a webhook that fails.
    pub(crate) async fn in_version(
        &self,
        resource: &Resource,
        kv: Arc<KeyValue>,
    ) -> Result<Arc<KeyValue>, Status> {
        if !needs_webhook(resource) {
            return Ok(kv);
        }
        let mut one = self.all_in_version(resource, vec![kv]).await?;
        one.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// [`ApiServer::in_version`] of many, asked for together.
    ///
    /// # Errors
    /// 500 for a webhook that fails.
    pub(crate) async fn all_in_version(
        &self,
        resource: &Resource,
        mut kvs: Vec<Arc<KeyValue>>,
    ) -> Result<Vec<Arc<KeyValue>>, Status> {
        let Some((custom, webhook)) = webhook_of(resource) else { return Ok(kvs) };
        let mut objects = Vec::new();
        let mut places = Vec::new();
        for (place, kv) in kvs.iter_mut().enumerate() {
            if kv.value.is_empty() || custom.is_stored_as(&kv.value) {
                continue;
            }
            if let Some(kept) = self.storage.converted(kv, custom.tag) {
                *kv = kept;
                continue;
            }
            let unreadable = |why| Status::internal(format_args!("unable to decode a stored object: {why}"));
            let (mut object, _) = json::parse(&kv.value).map_err(unreadable)?;
            meta::set(&mut object, "resourceVersion", Some(kv.mod_revision.to_string().into()));
            objects.push(object);
            places.push(place);
        }
        if objects.is_empty() {
            return Ok(kvs);
        }
        let api_version = custom.api_version();
        let converted = self.convert(custom, webhook, &api_version, objects).await?;
        for (place, mut object) in places.into_iter().zip(converted) {
            let Some(kv) = kvs.get_mut(place) else { continue };
            meta::set(&mut object, "resourceVersion", None);
            let mut bytes = Vec::with_capacity(kv.value.len());
            object::write(&object, &mut bytes);
            let new = Arc::new(KeyValue {
                key: kv.key.clone(),
                value: bytes.into(),
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
                ..KeyValue::default()
            });
            self.storage.keep_converted(kv, custom.tag, new.clone());
            *kv = new;
        }
        Ok(kvs)
    }

    /// The events of a watch, as [`ApiServer::all_in_version`].
    ///
    /// # Errors
    /// 500 for a webhook that fails.
    pub(crate) async fn events_in_version(
        &self,
        resource: &Resource,
        batch: &Batch,
    ) -> Result<Arc<Batch>, Status> {
        let kvs = batch.events.iter().flat_map(|event| [Some(event.kv.clone()), event.prev.clone()]);
        let converted = self.all_in_version(resource, kvs.flatten().collect()).await?;
        let mut converted = converted.into_iter();
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            let kv = converted.next().unwrap_or_else(|| event.kv.clone());
            let prev = event.prev.clone().map(|prev| converted.next().unwrap_or(prev));
            events.push(Event { kind: event.kind, kv, prev });
        }
        Ok(Arc::new(Batch { revision: batch.revision, events }))
    }

    /// An object in another version of its kind, for whoever wants to be shown it so; as it is, but for apiVersion, if
    /// no webhook has to be asked.
    ///
    /// # Errors
    /// 500 for a webhook that fails.
    pub(crate) async fn shown_in(
        &self,
        resource: &Resource,
        mut object: Value,
        api_version: &str,
    ) -> Result<Value, Status> {
        let Some((custom, webhook)) = webhook_of(resource) else {
            object["apiVersion"] = api_version.into();
            return Ok(object);
        };
        let one = self.convert(custom, webhook, api_version, vec![object]).await?.pop();
        one.ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// An object as it is to be stored, its resourceVersion taken out.
    ///
    /// # Errors
    /// It cannot be encoded, or a webhook fails.
    pub(crate) async fn encode(
        &self,
        resource: &Resource,
        object: &mut Value,
    ) -> Result<bytes::Bytes, Status> {
        if let Some((custom, webhook)) = webhook_of(resource)
            && custom.definition.storage != custom.version
        {
            meta::set(object, "resourceVersion", None);
            let stored =
                Custom { definition: custom.definition.clone(), version: custom.definition.storage, tag: 0 };
            let api_version = stored.api_version();
            let mut one = self.convert(custom, webhook, &api_version, vec![object.clone()]).await?;
            let mut converted = one.pop().ok_or_else(|| Status::internal("a conversion lost its object"))?;
            stored.coerce(&mut converted).map_err(Status::internal)?;
            return stored.encode(&converted);
        }
        crate::storage::encode(resource, object)
    }

    async fn convert(
        &self,
        custom: &Custom,
        webhook: &Value,
        api_version: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        objects.iter_mut().for_each(apimachinery::managed_fields::unfold);
        let definition = &custom.definition;
        let from = objects.first().and_then(|object| object["apiVersion"].as_str()).unwrap_or_default();
        let failed = format!("conversion webhook for {from}, Kind={} ", definition.kind);
        let fault = |why: String| Status::failure(500, "", format!("{failed}{why}"));
        let accepted = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let version = accepted
            .filter_map(Value::as_str)
            .find(|version| matches!(*version, "v1" | "v1beta1"))
            .ok_or_else(|| {
                fault(format!(
                    "failed: crd {} does not accept a ConversionReview version that is known",
                    definition.name
                ))
            })?;
        let uid = meta::uid(&*self.entropy);
        let review_version = format!("apiextensions.k8s.io/{version}");
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": review_version,
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        });
        let target = self.webhooks.target(&webhook["clientConfig"]);
        let limits = Limits { timeout: TIMEOUT, bytes: LARGEST };
        let answer = match target {
            Ok(target) => self.webhooks.post(&target, review.to_string().into(), limits).await,
            Err(why) => Err(why),
        };
        let failed_call = |why: webhook::Error| {
            let why = why.to_string();
            fault(format!("failed: {}", why.trim_start_matches("failed to call webhook: ")))
        };
        let answer = answer.map_err(failed_call)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|why| fault(format!("failed: {why}")))?;
        let converted =
            read(&answer, &review_version, &uid).map_err(|why| fault(format!("failed: {why}")))?;
        if converted.len() != objects.len() {
            return Err(fault(format!("returned {} objects, expected {}", converted.len(), objects.len())));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs
            .map(|(index, (original, converted))| {
                restore(original, converted, api_version).map_err(|why| {
                    fault(format!("returned invalid converted object at index {index}: {why}"))
                })
            })
            .collect()
    }
}

/// The objects in a webhook's answer.
fn read(answer: &Value, api_version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let response = &answer["response"];
    if api_version.ends_with("/v1") {
        let (group_version, kind) = (&answer["apiVersion"], &answer["kind"]);
        if *group_version != *api_version || *kind != "ConversionReview" {
            let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "expected webhook response of {api_version}, Kind=ConversionReview, got {}, Kind={}",
                shown(group_version),
                shown(kind)
            ));
        }
        if response.is_object() && response["uid"] != uid {
            let given = response["uid"].as_str().unwrap_or_default();
            return Err(format!("expected response.uid={uid:?}, got {given:?}"));
        }
    }
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let result = &response["result"];
    let status = result["status"].as_str().unwrap_or_default();
    if status != "Success" {
        return Err(match result["message"].as_str().unwrap_or_default() {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
}

/// A converted object with the metadata of the original, but for labels and annotations.
fn restore(original: &Value, mut converted: Value, api_version: &str) -> Result<Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let given = text(&converted["apiVersion"]);
    if given != api_version {
        let shown =
            |api_version: &str| gvk::split(api_version).map(|(g, v)| format!("{g}/{v}")).unwrap_or_default();
        return Err(format!(
            "invalid groupVersion (expected {}, received {})",
            shown(api_version),
            shown(&given)
        ));
    }
    if converted["kind"] != original["kind"] {
        let (expected, got) = (text(&original["kind"]), text(&converted["kind"]));
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (expected, got) = (text(&original["metadata"][field]), text(&converted["metadata"][field]));
        if expected != got {
            return Err(format!("must have the same {name}: {expected} != {got}"));
        }
    }
    let Some(given) = converted.get("metadata").and_then(Value::as_object) else {
        return Err("missing metadata in converted object".into());
    };
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        let Some(all) = metadata.as_object_mut() else { continue };
        match given.get(field) {
            None | Some(Value::Null) => drop(all.remove(field)),
            Some(Value::Object(texts)) if texts.values().all(Value::is_string) => {
                all.insert(field.to_owned(), Value::Object(texts.clone()));
            }
            Some(_) => return Err(format!("metadata.{field} is no map of texts")),
        }
    }
    converted["metadata"] = metadata;
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let review = "apiextensions.k8s.io/v1";
        let answer =
            |response: Value| json!({"kind": "ConversionReview", "apiVersion": review, "response": response});
        let check = |answer: Value, expect: Result<usize, &str>| {
            let got = read(&answer, review, "u").map(|objects| objects.len());
            assert_eq!(got, expect.map_err(str::to_owned), "{answer}");
        };
        let good = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]});
        check(answer(good.clone()), Ok(1));
        check(
            json!({}),
            Err("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind="),
        );
        check(answer(Value::Null), Err("no response provided"));
        check(answer(json!({"uid": "v"})), Err("expected response.uid=\"u\", got \"v\""));
        check(answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), Err("no"));
        check(answer(json!({"uid": "u"})), Err("response.result.status was '', not 'Success'"));
    }

    #[test]
    fn metadata_is_the_originals() {
        let original = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "uid": "u",
            "labels": {"a": "b"}, "finalizers": ["f"]}});
        let check = |converted: Value, expect: Result<Value, &str>| {
            assert_eq!(restore(&original, converted, "g/v2"), expect.map_err(str::to_owned));
        };
        check(
            json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"c": "d"},
                "finalizers": []}, "spec": 1}),
            Ok(
                json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"c": "d"},
                "finalizers": ["f"]}, "spec": 1}),
            ),
        );
        check(json!({"apiVersion": "g/v1"}), Err("invalid groupVersion (expected g/v2, received g/v1)"));
        check(json!({"apiVersion": "g/v2", "kind": "L"}), Err("invalid kind (expected K, received L)"));
        check(
            json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "m", "uid": "u"}}),
            Err("must have the same name: n != m"),
        );
        check(
            json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"a": 1}}}),
            Err("metadata.labels is no map of texts"),
        );
    }
}
