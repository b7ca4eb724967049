//! The built-in kinds of Kubernetes v1.36 as data, and typed structs for the parties that read and write them.
//!
//! The typed structs are k8s-openapi's, re-exported: `api::core::v1::Pod`, `api::meta::v1::ObjectMeta`.
//! No other crate names k8s-openapi.
//!
//! The data is [`schema`] (the field plan of every type) and [`resources`] (what is served, and where it is
//! stored). No behaviour: defaults and validation are in `kinds`.

mod descriptions;
mod tables;

pub use descriptions::{Description, Descriptions};
pub use tables::{object_type, resource, resources, schema, table_texts};

/// The group `resource.k8s.io`; `resource` is where quantities are.
pub use k8s_openapi::api::resource as dynamic_resources;
pub use k8s_openapi::api::*;
pub use k8s_openapi::apimachinery::pkg::apis::meta;
pub use k8s_openapi::apimachinery::pkg::{api::resource, util::intstr};
pub use k8s_openapi::{
    ByteString, ClusterResourceScope, Metadata, NamespaceResourceScope, Resource, ResourceScope,
    SubResourceScope, jiff,
};
