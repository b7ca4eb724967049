//! ServiceAccount: its secrets are known by name alone.

use serde_json::{Value, json};

use crate::check::text;
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    returns_deleted: true,
    prepare_for_create: names_only,
    prepare_for_update: |new, _, _| names_only(new),
    warnings,
    ..GENERIC
};

fn names_only(account: &mut Value) {
    for secret in account.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        *secret = match text(secret, "name") {
            "" => json!({}),
            name => json!({"name": name}),
        };
    }
}

fn warnings(account: &Value, old: Option<&Value>, _subresource: &str) -> Vec<String> {
    const KEY: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |account: &Value| account["metadata"]["annotations"].get(KEY).is_some();
    let new = has(account) && !old.is_some_and(has);
    let warning = || {
        format!(
            "metadata.annotations[{KEY}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        )
    };
    new.then(warning).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_names() {
        let mut account = json!({"secrets": [{"kind": "Secret", "name": "a"}, {"kind": "x"}]});
        names_only(&mut account);
        assert_eq!(account["secrets"], json!([{"name": "a"}, {}]));
        let marked =
            json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
        assert_eq!(warnings(&marked, None, "").len(), 1);
        assert_eq!(warnings(&marked, Some(&marked), ""), Vec::<String>::new());
    }
}
