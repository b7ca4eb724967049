//! Pod templates as identities: the hash that a Deployment puts into names and labels, and when two templates
//! are the same.

use api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// The label with which a Deployment tells the pods of its ReplicaSets apart.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// A short hash of a template, safe in names and labels. With a collision count another one results. It need
/// not agree with upstream's, which hashes Go's own dump of the structure: a ReplicaSet is recognised by its
/// template, and only a new one gets a hash.
pub fn hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    feed(plain(template).to_string().as_bytes());
    if let Some(count) = collision_count {
        feed(&count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// Whether two templates are the same but for [`TEMPLATE_HASH`]. Absent and empty are the same.
pub fn equal_ignoring_hash(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    plain(a) == plain(b)
}

/// Spells text with letters and digits that make no words and are not mistaken for each other (Go's
/// `rand.SafeEncodeString`).
pub fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

fn plain(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    prune(&mut value);
    value
}

/// Removes what is empty inside out.
fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => {
            map.retain(|_, value| !prune(value));
            map.is_empty()
        }
        Value::Array(items) => {
            // The place of an item counts, so an empty one stays.
            items.iter_mut().for_each(|item| {
                prune(item);
            });
            items.is_empty()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn sameness() {
        let check = |a: Value, b: Value, same: bool| {
            let (a, b) = (template(a), template(b));
            assert_eq!(equal_ignoring_hash(&a, &b), same);
            assert_eq!(hash(&a, None) == hash(&b, None), same);
        };
        let containers = json!([{"name": "c", "image": "i"}]);
        let spec = json!({"containers": containers});
        check(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": spec}),
            json!({"metadata": {"labels": {"a": "b", TEMPLATE_HASH: "x"}}, "spec": spec}),
            true,
        );
        check(
            json!({"spec": spec}),
            json!({"metadata": {"labels": {TEMPLATE_HASH: "x"}}, "spec": spec}),
            true,
        );
        check(json!({"spec": spec}), json!({"spec": {"containers": containers, "volumes": []}}), true);
        check(json!({"spec": spec}), json!({"spec": {"containers": [{"name": "c", "image": "j"}]}}), false);
    }

    #[test]
    fn hashes() {
        let one = template(json!({"spec": {"containers": []}}));
        assert_ne!(hash(&one, None), hash(&one, Some(1)));
        assert_ne!(hash(&one, Some(1)), hash(&one, Some(2)));
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}
