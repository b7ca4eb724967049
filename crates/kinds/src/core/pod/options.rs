//! What an update of a pod or a template may keep although a new one may not have it: rules came after objects
//! (upstream's `GetValidationOptionsFromPodSpecAndMeta`). Gates stand as in v1.36.

use apimachinery::field::{ErrorList, Path};
use serde_json::Value;

use super::affinity::{has_invalid_label_value, match_label_keys, pod_terms, selectors};
use super::{annotations, resources, security, visit, volumes};
use crate::check::{flag, items, present, text};
use crate::meta;

/// Leniency, field by field; none by default.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// A pod, not a template.
    pub is_pod: bool,
    pub deletion_cost: bool,
    pub indivisible_huge_pages: bool,
    pub label_values_in_selectors: bool,
    pub label_values_in_node_affinity: bool,
    pub spread_selectors: bool,
    /// Match label keys of spread constraints may repeat what the selector says.
    pub spread_label_keys: bool,
    pub token_paths: bool,
    pub host_sysctls: bool,
    pub selinux_change_policy: bool,
    pub comparison_operators: bool,
    /// The host's network together with user namespaces of its own.
    pub host_network_with_users: bool,
    pub devices_with_users: bool,
    /// Init containers that end may ask for a restart on resize.
    pub restart_on_resize: bool,
}

impl Options {
    /// For a new pod or template.
    pub fn new(is_pod: bool) -> Options {
        Options { is_pod, ..Options::default() }
    }

    /// For a change, given the old spec and metadata.
    pub fn update(is_pod: bool, old: &Value, metadata: &Value) -> Options {
        let context = &old["securityContext"];
        let finds = |check: &dyn Fn(&mut ErrorList)| {
            let mut errors = ErrorList::new();
            check(&mut errors);
            !errors.is_empty()
        };
        let nowhere = Path::NIL;
        let constraints = items(old, "topologySpreadConstraints");
        let own_users = old.get("hostUsers").and_then(Value::as_bool) == Some(false);
        let mut devices = false;
        visit(old, &nowhere, |container, _| devices |= !items(container, "volumeDevices").is_empty());
        let required = old.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
        Options {
            is_pod,
            deletion_cost: finds(&|errors| annotations::deletion_cost(metadata, &nowhere, errors)),
            indivisible_huge_pages: resources::uses_indivisible(old),
            label_values_in_selectors: finds(&|errors| {
                pod_terms(old, |term| selectors(term, false, &nowhere, errors));
            }),
            label_values_in_node_affinity: required.is_some_and(has_invalid_label_value),
            spread_selectors: constraints.iter().any(|c| !meta::selector_is_good(&c["labelSelector"])),
            spread_label_keys: constraints
                .iter()
                .any(|constraint| finds(&|errors| match_label_keys(constraint, &nowhere, errors))),
            token_paths: volumes::tokens(old)
                .any(|token| finds(&|errors| volumes::file_path(text(token, "path"), &nowhere, errors))),
            host_sysctls: items(context, "sysctls")
                .iter()
                .any(|sysctl| security::host_sysctl(text(sysctl, "name"), old).is_some()),
            selinux_change_policy: present(context, "seLinuxChangePolicy").is_some(),
            comparison_operators: items(old, "tolerations")
                .iter()
                .any(|toleration| matches!(text(toleration, "operator"), "Lt" | "Gt")),
            host_network_with_users: own_users && flag(old, "hostNetwork"),
            devices_with_users: own_users && devices,
            restart_on_resize: items(old, "initContainers").iter().any(|container| {
                text(container, "restartPolicy") != "Always"
                    && items(container, "resizePolicy")
                        .iter()
                        .any(|policy| text(policy, "restartPolicy") == "RestartContainer")
            }),
        }
    }
}
