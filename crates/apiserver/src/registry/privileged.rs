//! `--allow-privileged=false`: no container is privileged, in no pod and no template of one.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::schema::Resource;
use serde_json::Value;

use crate::admission::pod_security::template_of;

/// Adds a fault for each privileged container, in upstream's words.
pub fn check(resource: &Resource, object: &Value, errors: &mut ErrorList) {
    let pointer = match (&*resource.group, &*resource.plural) {
        ("", "pods") => String::new(),
        (group, plural) => match template_of(group, plural) {
            Some(pointer) => pointer.to_owned(),
            None => return,
        },
    };
    let fields: Vec<&str> = pointer.split('/').skip(1).chain(["spec"]).collect();
    below(&fields, None, object, errors);
}

fn below(fields: &[&str], path: Option<&Path<'_>>, value: &Value, errors: &mut ErrorList) {
    let Some((first, rest)) = fields.split_first() else {
        return containers(path.unwrap_or(&Path::NIL), value, errors);
    };
    let path = path.unwrap_or(&Path::NIL).child(first);
    below(rest, Some(&path), &value[*first], errors);
}

fn containers(spec_path: &Path<'_>, spec: &Value, errors: &mut ErrorList) {
    let hosts = |context: &Value| context["windowsOptions"]["hostProcess"].as_bool() == Some(true);
    let host = "hostProcess containers are disallowed by cluster policy";
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let path = spec_path.child(field);
        for (i, container) in spec[field].as_array().into_iter().flatten().enumerate() {
            let context = &container["securityContext"];
            let path = path.index(i);
            let path = path.child("securityContext");
            if context["privileged"].as_bool() == Some(true) {
                errors.push(Error::forbidden(&path.child("privileged"), "disallowed by cluster policy"));
            }
            if hosts(context) {
                let path = path.child("windowsOptions");
                errors.push(Error::forbidden(&path.child("hostProcess"), host));
            }
        }
    }
}
