//! Unknown fields go, as upstream's `schema/pruning` has it.

use serde_json::Value;

use super::{Additional, META_FIELDS, Structural};

/// Removes what `schema` does not know from an object that is a resource. Returns the paths of what went, sorted
/// (`spec.a[0].b`), for strict field validation.
pub fn prune(object: &mut Value, schema: &Structural) -> Vec<String> {
    let mut walk = Walk { path: String::new(), gone: Vec::new() };
    let root = Node { schema: Some(schema), embedded: true };
    walk.prune(object, root);
    walk.gone.sort();
    walk.gone
}

/// As [`prune`], for a value anywhere in a resource (a default).
pub fn prune_value(value: &mut Value, schema: &Structural) -> Vec<String> {
    let mut walk = Walk { path: String::new(), gone: Vec::new() };
    walk.prune(value, Node::of(Some(schema)));
    walk.gone.sort();
    walk.gone
}

/// A schema, and whether kind, apiVersion and metadata are to be left alone.
#[derive(Clone, Copy)]
struct Node<'a> {
    schema: Option<&'a Structural>,
    embedded: bool,
}

impl<'a> Node<'a> {
    fn of(schema: Option<&'a Structural>) -> Node<'a> {
        Node { schema, embedded: schema.is_some_and(|schema| schema.embedded) }
    }
}

struct Walk {
    path: String,
    gone: Vec<String>,
}

impl Walk {
    /// Does something one step further down.
    fn under(&mut self, step: &dyn Fn(&mut String), work: impl FnOnce(&mut Walk)) {
        let length = self.path.len();
        step(&mut self.path);
        work(self);
        self.path.truncate(length);
    }

    fn record(&mut self, key: &str) {
        let mut path = self.path.clone();
        append(&mut path, key);
        self.gone.push(path);
    }

    fn prune(&mut self, value: &mut Value, node: Node<'_>) {
        if node.schema.is_some_and(|schema| schema.preserve_unknown) {
            return self.keep(value, node);
        }
        match value {
            Value::Object(fields) => {
                let mut gone = Vec::new();
                for (key, value) in fields.iter_mut() {
                    if node.embedded && META_FIELDS.contains(&key.as_str()) {
                        continue;
                    }
                    match node.schema.map(|schema| (schema.properties.get(key), &schema.additional)) {
                        Some((Some(property), _)) => {
                            self.under(&|path| append(path, key), |walk| {
                                walk.prune(value, Node::of(Some(property)));
                            });
                        }
                        Some((None, Additional::Any | Additional::Never)) => {
                            self.under(&|path| append(path, key), |walk| walk.prune(value, Node::of(None)));
                        }
                        Some((None, Additional::Schema(others))) => {
                            self.under(&|path| append(path, key), |walk| {
                                walk.prune(value, Node::of(Some(others)));
                            });
                        }
                        Some((None, Additional::Absent)) | None => {
                            let is_meta = META_FIELDS.contains(&key.as_str()) && self.path.is_empty();
                            gone.push((key.clone(), node.schema.is_none() || !is_meta));
                        }
                    }
                }
                for (key, told) in gone {
                    fields.remove(&key);
                    if told {
                        self.record(&key);
                    }
                }
            }
            Value::Array(items) => {
                let schema = Node::of(node.schema.and_then(|schema| schema.items.as_deref()));
                for (index, item) in items.iter_mut().enumerate() {
                    self.under(&|path| path.push_str(&format!("[{index}]")), |walk| walk.prune(item, schema));
                }
            }
            _ => {}
        }
    }

    /// Below a node that keeps what it does not know, what it does know is pruned all the same.
    fn keep(&mut self, value: &mut Value, node: Node<'_>) {
        let Some(schema) = node.schema else { return };
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    if node.embedded && META_FIELDS.contains(&key.as_str()) {
                        continue;
                    }
                    let below = match (schema.properties.get(key), &schema.additional) {
                        (Some(property), _) => Some(property),
                        (None, Additional::Absent) => continue,
                        (None, additional) => additional.schema(),
                    };
                    self.under(&|path| append(path, key), |walk| walk.prune(value, Node::of(below)));
                }
            }
            Value::Array(items) => {
                let schema = Node::of(schema.items.as_deref());
                for (index, item) in items.iter_mut().enumerate() {
                    self.under(&|path| path.push_str(&format!("[{index}]")), |walk| walk.keep(item, schema));
                }
            }
            _ => {}
        }
    }
}

fn append(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}
