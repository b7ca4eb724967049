//! ControllerRevision: what a DaemonSet or StatefulSet looked like.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::check::{immutable, not_negative};
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy { validate, validate_update, ..GENERIC };

fn validate(revision: &Value, errors: &mut ErrorList) {
    not_negative(revision, "revision", &Path::NIL, errors);
    let why = match revision.get("data") {
        None | Some(Value::Null) => "data is mandatory",
        Some(Value::Object(_)) => return,
        Some(_) => "data must be a valid JSON object",
    };
    errors.push(Error::required(&Path::new("data"), why));
}

fn validate_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    not_negative(new, "revision", &Path::NIL, errors);
    immutable(&new["data"], &old["data"], &Path::new("data"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rows::Subject;

    #[test]
    fn controller_revision() {
        let good = json!({"metadata": {"name": "r", "namespace": "n"}, "data": {"spec": {}}, "revision": 1});
        let subject = Subject { group: "apps", version: "v1", kind: "ControllerRevision", good };
        subject.created(json!({}), &[]);
        subject.created(json!({"revision": -1}), &["revision: Invalid"]);
        subject.says(json!({"data": null}), "data: Required value: data is mandatory");
        subject.says(json!({"data": [1]}), "data: Required value: data must be a valid JSON object");
        subject.updated(json!({}), json!({"revision": 2}), "", &[]);
        subject.updated(json!({}), json!({"data": {"spec": {"a": 1}}}), "", &["data: Invalid"]);
    }
}
