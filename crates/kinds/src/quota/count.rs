//! Kinds of which only the number counts.

/// The names under which objects of a resource are counted: `count/deployments.apps`, and for four kinds an older
/// one.
pub fn names(group: &str, resource: &str) -> impl Iterator<Item = String> {
    let older = match (group, resource) {
        ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
            Some(resource.to_owned())
        }
        _ => None,
    };
    let dot = if group.is_empty() { "" } else { "." };
    [format!("count/{resource}{dot}{group}")].into_iter().chain(older)
}
