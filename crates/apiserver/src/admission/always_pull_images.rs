//! Every container pulls its image anew, so that nobody runs a private image that happens to be on the node
//! (upstream `plugin/pkg/admission/alwayspullimages`). Off by default.

use apimachinery::field::{self, Error, Path};
use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_pod, items, text};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An update that brings no new image changes nothing.
fn is_ignored(a: &AdmissionAttributes<'_>, pod: &Value) -> bool {
    fn images(pod: &Value) -> impl Iterator<Item = &str> {
        let containers =
            LISTS.into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
        containers.map(|container| text(container, "/image"))
    }
    match (is_pod(a), a.operation, a.old) {
        (true, Operation::Create, _) => false,
        (true, Operation::Update, Some(old)) => images(pod).all(|new| images(old).any(|known| known == new)),
        _ => true,
    }
}

pub fn mutate(_: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if is_ignored(a, pod) {
        return Ok(());
    }
    for list in LISTS {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["imagePullPolicy"] = "Always".into();
        }
    }
    for volume in pod["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
            image["pullPolicy"] = "Always".into();
        }
    }
    Ok(())
}

pub fn validate(_: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if is_ignored(a, pod) {
        return Ok(());
    }
    let spec = Path::new("spec");
    let mut faults = Vec::new();
    let mut check = |path: &Path<'_>, policy: &str| {
        if policy != "Always" {
            faults.push(forbidden(a, pod, Error::not_supported(path, policy, ["Always"])).message);
        }
    };
    for list in LISTS {
        let path = spec.child(list);
        for (i, container) in items(pod, &format!("/spec/{list}")).enumerate() {
            check(&path.index(i).child("imagePullPolicy"), text(container, "/imagePullPolicy"));
        }
    }
    let path = spec.child("volumes");
    for (i, volume) in items(pod, "/spec/volumes").enumerate().filter(|(_, v)| v.get("image").is_some()) {
        check(&path.index(i).child("image").child("pullPolicy"), text(volume, "/image/pullPolicy"));
    }
    match field::aggregate_messages(faults) {
        // Upstream gives the sum of its refusals no reason.
        Some(all) => Err(Status::failure(500, "", all)),
        None => Ok(()),
    }
}
