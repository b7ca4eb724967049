//! Events about pods, their containers and the node, under upstream's reasons.

use api::core::v1::{ObjectReference, Pod};
use client::{EventType, Recorder};

use crate::pod::spec;

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    node: ObjectReference,
}

impl Events {
    pub fn new(recorder: Recorder, node_name: &str) -> Events {
        // Upstream uses the name as the uid here.
        let node = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node_name.into()),
            uid: Some(node_name.into()),
            ..ObjectReference::default()
        };
        Events { recorder, node }
    }

    fn record(&self, about: ObjectReference, warning: bool, reason: &str, message: &str) {
        let kind = if warning { EventType::Warning } else { EventType::Normal };
        self.recorder.record(about, kind, reason, message);
    }

    /// About a pod.
    pub fn pod(&self, pod: &Pod, warning: bool, reason: &str, message: &str) {
        self.record(client::reference(pod), warning, reason, message);
    }

    /// About a container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, warning: bool, reason: &str, message: &str) {
        let mut about = client::reference(pod);
        about.field_path = Some(spec::field_path(pod, container));
        self.record(about, warning, reason, message);
    }

    /// About the node.
    pub fn node(&self, warning: bool, reason: &str, message: &str) {
        self.record(self.node.clone(), warning, reason, message);
    }
}
