//! Kinds that ask what somebody may do; nothing here is stored. [`escalation`] guards who hands out rights.

pub mod escalation;

use apimachinery::{field::ErrorList, status::Status};
use serde_json::{Value, json};

use crate::{
    authorization::{Attributes, Decision},
    handlers::options::WriteOptions,
    registry::{generic::Scope, meta, strategy},
    request::{Operation, UserInfo},
};

/// Answers a create of a kind of `authorization.k8s.io`.
pub async fn create(scope: &Scope<'_>, mut object: Value, options: &WriteOptions) -> Result<Value, Status> {
    scope.admit(Operation::Create, &mut object, None, options.into()).await?;
    let plural = &*scope.resource.plural;
    if plural == "selfsubjectrulesreviews" {
        if text(&object["spec"], "namespace").is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        scope.check(Operation::Create, &object, None, options.into()).await?;
        return Ok(rules(scope, object));
    }
    let local = plural == "localsubjectaccessreviews";
    if local {
        meta::match_namespace(&mut object, scope.namespace)?;
    }
    let own = plural == "selfsubjectaccessreviews";
    let mut errors = ErrorList::new();
    (strategy::of(scope.resource).validate)(&object, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&scope.resource.group, "", "", &errors));
    }
    scope.check(Operation::Create, &object, None, options.into()).await?;
    let asked;
    let user = if own {
        scope.user
    } else {
        asked = user(&object["spec"]);
        &asked
    };
    object["status"] = answer(scope, user, &object["spec"]).await;
    Ok(object)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn strings(value: &Value) -> impl Iterator<Item = String> + '_ {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from)
}

fn user(spec: &Value) -> UserInfo {
    let mut user = UserInfo::new(text(spec, "user"), &[]);
    user.uid = text(spec, "uid").into();
    user.groups = strings(&spec["groups"]).collect();
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), strings(values).collect());
    }
    user
}

async fn answer(scope: &Scope<'_>, user: &UserInfo, spec: &Value) -> Value {
    let (selector, label_selector);
    let resource = &spec["resourceAttributes"];
    let attributes = if resource.is_object() {
        selector = field_selector(&resource["fieldSelector"]);
        label_selector = labels_of(&resource["labelSelector"]);
        Attributes {
            is_resource: true,
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: match text(resource, "version") {
                "" => "*",
                version => version,
            },
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            field_selector: &selector,
            label_selector: &label_selector,
            ..Attributes::default()
        }
    } else {
        let path = &spec["nonResourceAttributes"];
        Attributes { verb: text(path, "verb"), path: text(path, "path"), ..Attributes::default() }
    };
    let decision = scope.server.authorizer.ask(user, &attributes).await;
    let mut status = json!({"allowed": decision.is_allowed()});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    let reason = decision.reason().to_string();
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if let Some(why) = decision.reason().failure() {
        status["evaluationError"] = why.into();
    }
    status
}

/// As text, whichever way it was given; what is not an equality says nothing to our authorizers.
fn field_selector(selector: &Value) -> String {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = selector["requirements"].as_array().into_iter().flatten().filter_map(|r| {
        let values: Vec<&str> = r["values"].as_array()?.iter().filter_map(Value::as_str).collect();
        match (text(r, "operator"), values.as_slice()) {
            ("In", [value]) => Some(format!("{}={value}", text(r, "key"))),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

/// The same of labels.
fn labels_of(selector: &Value) -> String {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = selector["requirements"].as_array().into_iter().flatten().filter_map(|r| {
        let (key, values) = (text(r, "key"), strings(&r["values"]).collect::<Vec<_>>().join(","));
        Some(match text(r, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        })
    });
    terms.collect::<Vec<_>>().join(",")
}

/// SelfSubjectRulesReview: what `kubectl auth can-i --list` shows.
fn rules(scope: &Scope<'_>, mut object: Value) -> Value {
    let namespace = text(&object["spec"], "namespace").to_owned();
    let (rules, error) = scope.server.authorizer.rules_for(scope.user, &namespace);
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    for rule in &rules {
        let value = rule.to_value();
        if !rule.resources.is_empty() {
            let mut value = value.clone();
            if let Some(map) = value.as_object_mut() {
                map.remove("nonResourceURLs");
            }
            resources.push(value);
        }
        if !rule.urls.is_empty() {
            urls.push(json!({"verbs": value["verbs"], "nonResourceURLs": value["nonResourceURLs"]}));
        }
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": error.is_some()});
    if let Some(error) = error {
        status["evaluationError"] = error.into();
    }
    object["spec"] = json!({});
    object["status"] = status;
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let table = [
            (json!({"rawSelector": "a=b"}), "a=b"),
            (
                json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}),
                "spec.nodeName=n",
            ),
            (json!({"requirements": [{"key": "a", "operator": "NotIn", "values": ["n"]}]}), ""),
            (Value::Null, ""),
        ];
        for (selector, expect) in table {
            assert_eq!(field_selector(&selector), expect);
        }
    }
}
