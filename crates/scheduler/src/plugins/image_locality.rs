//! ImageLocality: prefers nodes that have the pod's images, by size and by how few other nodes have them.

use crate::framework::{Cluster, MAX_NODE_SCORE, Plugin};
use crate::types::{NodeInfo, PodInfo};

pub struct ImageLocality;

const MIB: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MIB;
const MOST_PER_CONTAINER: i64 = 1000 * MIB;

/// A reference without a tag means `latest`, as the node's status writes it.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, cluster: &Cluster<'_>) -> Option<i64> {
        let containers = &pod.pod.spec.as_ref()?.containers;
        let present: i64 = containers
            .iter()
            .filter_map(|container| {
                let image = with_tag(container.image.as_deref()?);
                let size = *node.images.get(&image)?;
                let spread = (cluster.with_image)(&image) as f64 / cluster.nodes.max(1) as f64;
                Some((size as f64 * spread) as i64)
            })
            .sum();
        let most = MOST_PER_CONTAINER * containers.len().max(1) as i64;
        Some(MAX_NODE_SCORE * (present.clamp(LEAST, most) - LEAST) / (most - LEAST))
    }
}
