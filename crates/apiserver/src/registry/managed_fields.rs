//! Managed fields as the engine needs them: who writes, in which version, and what an endpoint does not let be
//! written. The work is `apimachinery::managed_fields`.

use std::sync::LazyLock;

use apimachinery::{
    codec, gvk,
    managed_fields::{Applied, Reset, Writer, manager_name, scale as owners_of_scale, unreadable},
    schema::{Resource, TypeId},
    status::Status,
};
use serde_json::Value;

use super::{generic::Scope, meta, scale};
use crate::{conversion, custom, handlers::options::WriteOptions};

macro_rules! fields {
    ($name:ident, $($path:expr),*) => {
        static $name: LazyLock<Reset> = LazyLock::new(|| Reset::of_fields(&[$(&$path),*]));
    };
}

fields!(NOTHING,);
fields!(STATUS, ["status"]);
fields!(SPEC, ["spec"]);
fields!(METADATA_AND_SPEC, ["metadata"], ["spec"]);
fields!(POD_STATUS, ["spec"], ["metadata", "deletionTimestamp"], ["metadata", "ownerReferences"]);
fields!(DEPLOYMENT_STATUS, ["spec"], ["metadata", "labels"]);
fields!(REQUEST, ["spec"], ["status"]);
fields!(REQUEST_STATUS, ["spec"], ["status", "conditions"]);
fields!(REQUEST_APPROVAL, ["spec"], ["status", "certificate"]);

static EPHEMERAL_CONTAINERS: Reset = Reset::AllBut(&[&[Some("spec"), Some("ephemeralContainers")]]);
static RESIZE: Reset = Reset::AllBut(&[
    &[Some("spec"), Some("containers"), None, Some("resources")],
    &[Some("spec"), Some("containers"), None, Some("resizePolicy")],
    &[Some("spec"), Some("initContainers"), None, Some("resources")],
    &[Some("spec"), Some("initContainers"), None, Some("resizePolicy")],
]);

/// What a path does not let be written (`GetResetFields` of upstream's strategies).
pub fn reset(resource: &Resource, subresource: &str) -> &'static Reset {
    match (&*resource.group, &*resource.plural, subresource) {
        ("", "pods", "status") => &POD_STATUS,
        ("", "pods", "ephemeralcontainers") => &EPHEMERAL_CONTAINERS,
        ("", "pods", "resize") => &RESIZE,
        ("", "namespaces", "finalize") => &STATUS,
        ("apps", "deployments", "status") => &DEPLOYMENT_STATUS,
        ("certificates.k8s.io", "certificatesigningrequests", "") => &REQUEST,
        ("certificates.k8s.io", "certificatesigningrequests", "status") => &REQUEST_STATUS,
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => &REQUEST_APPROVAL,
        ("certificates.k8s.io", "podcertificaterequests", "") => &NOTHING,
        ("" | "apps" | "autoscaling" | "batch" | "certificates.k8s.io" | "policy", _, "status")
        | ("networking.k8s.io", "ingresses", "status") => &SPEC,
        (_, _, "status") => &METADATA_AND_SPEC,
        (_, _, "") if resource.subresource("status").is_some() => &STATUS,
        _ => &NOTHING,
    }
}

/// Whether the kind is served in a version.
pub fn is_served(resource: &Resource, api_version: &str) -> bool {
    version(resource, api_version).is_some()
}

fn version<'a>(resource: &Resource, api_version: &'a str) -> Option<(TypeId, (&'a str, &'a str))> {
    let (group, version) = gvk::split(api_version).ok()?;
    if let Some(custom) = custom::of(resource) {
        let definition = &custom.definition;
        let at = definition.position(version).filter(|at| definition.versions[*at].served)?;
        return (group == resource.group).then(|| (definition.types().of(at).1, (group, version)));
    }
    let found = api::resources().by_kind(group, version, &resource.kind).filter(|found| found.default_on)?;
    Some((found.object, (group, version)))
}

fn convert(resource: &Resource, object: &Value, from: &str, to: &str) -> Option<(TypeId, Value)> {
    let (ty, target) = version(resource, to)?;
    let mut object = object.clone();
    if object.is_object() {
        conversion::convert(&mut object, &resource.kind, gvk::split(from).ok()?, target);
        object["apiVersion"] = to.into();
    }
    Some((ty, object))
}

impl Scope<'_> {
    /// The write as managed fields see it.
    pub(super) fn with_writer<T>(&self, options: &WriteOptions, work: impl FnOnce(&Writer<'_>) -> T) -> T {
        let convert = |object: &Value, from: &str, to: &str| convert(self.resource, object, from, to);
        let (schema, ty) = custom::schema_of(self.resource);
        work(&Writer {
            schema,
            ty,
            api_version: &self.resource.api_version(),
            manager: &manager_name(&options.field_manager, self.user_agent),
            subresource: self.subresource,
            now: self.server.clock.now(),
            reset: reset(self.resource, self.subresource),
            convert: &convert,
        })
    }

    /// Records what a write that is no apply has changed.
    pub(crate) fn manage_fields(&self, live: Option<&Value>, object: &mut Value, options: &WriteOptions) {
        self.with_writer(options, |writer| writer.update(live, object));
    }

    /// The object after the configuration has been applied to it, in normal form and without defaults; whether it
    /// differs from what was there in more than its owners.
    ///
    /// # Errors
    /// 409 for conflicts, 400 and 500 as upstream for configurations that do not fit.
    pub fn apply_to(
        &self,
        live: Option<&Value>,
        config: &Value,
        options: &WriteOptions,
    ) -> Result<(Value, bool), Status> {
        let applied = self
            .with_writer(options, |writer| writer.apply(live, config, &self.resource.kind, options.force));
        let Applied { object, managed, changed, normal } = applied.map_err(|e| e.to_status())?;
        let mut object = match normal {
            true => object,
            false => self.conform(object, config)?,
        };
        if managed.is_some() {
            meta::set(&mut object, "managedFields", managed);
        }
        Ok((object, changed))
    }

    /// The workload after the configuration of a Scale has been applied to it.
    ///
    /// # Errors
    /// As [`Scope::apply_to`], and what is wrong with the Scale.
    pub fn apply_to_scale(
        &self,
        workload: &Value,
        ty: TypeId,
        config: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let live = self.owned_scale(workload)?;
        let applied = self.with_scale_writer(ty, options, |writer| {
            writer.apply(Some(&live), config, "Scale", options.force)
        });
        let Applied { object, managed, .. } = applied.map_err(|e| e.to_status())?;
        let wanted = conform(ty, object, config)?;
        meta::match_name(&wanted, self.name)?;
        self.scaled(workload, &wanted, managed.as_ref())
    }

    /// The workload after a Scale has been written over its own. Whoever asks for no replicas owns none: a Scale
    /// does not show that number.
    ///
    /// # Errors
    /// What is wrong with the Scale.
    pub fn update_by_scale(
        &self,
        workload: &Value,
        ty: TypeId,
        mut wanted: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let live = self.owned_scale(workload)?;
        meta::set(&mut wanted, "managedFields", live["metadata"].get("managedFields").cloned());
        self.with_scale_writer(ty, options, |writer| writer.update(Some(&live), &mut wanted));
        self.scaled(workload, &wanted, wanted["metadata"].get("managedFields"))
    }

    /// The workload's Scale, with the owners of its replicas.
    fn owned_scale(&self, workload: &Value) -> Result<Value, Status> {
        let known = |version: &str| is_served(self.resource, version);
        let owners = workload["metadata"].get("managedFields");
        let mut live = scale::of(self.resource, workload)?;
        let shown = owners_of_scale::to_scale(owners, &known).map_err(broken_owners)?;
        if shown.is_some() {
            meta::set(&mut live, "managedFields", shown);
        }
        Ok(live)
    }

    fn with_scale_writer<T>(
        &self,
        ty: TypeId,
        options: &WriteOptions,
        work: impl FnOnce(&Writer<'_>) -> T,
    ) -> T {
        self.with_writer(options, |writer| {
            let convert = |_: &Value, _: &str, _: &str| None;
            let schema = api::schema();
            work(&Writer { schema, ty, api_version: "autoscaling/v1", convert: &convert, ..*writer })
        })
    }

    /// The workload with the replicas of a Scale, whose owners are `owners`.
    fn scaled(&self, workload: &Value, wanted: &Value, owners: Option<&Value>) -> Result<Value, Status> {
        let known = |version: &str| is_served(self.resource, version);
        let mut workload = scale::apply(self.resource, wanted, workload)?;
        let before = workload["metadata"].get("managedFields");
        let api_version = self.resource.api_version();
        let after = owners_of_scale::to_parent(before, owners, &api_version, &known);
        meta::set(&mut workload, "managedFields", after.map_err(broken_owners)?);
        Ok(workload)
    }
}

impl Scope<'_> {
    /// An applied object in normal form.
    fn conform(&self, mut object: Value, config: &Value) -> Result<Value, Status> {
        let Some(custom) = custom::of(self.resource) else {
            return conform(self.resource.object, object, config);
        };
        custom.coerce(&mut object).map_err(Status::bad_request)?;
        Ok(object)
    }
}

fn broken_owners(why: impl std::fmt::Display) -> Status {
    Status::failure(500, "", format!("failed to decode managed fields: {why}"))
}

fn conform(ty: TypeId, object: Value, config: &Value) -> Result<Value, Status> {
    let decoded = codec::normal::conform(api::schema(), ty, object);
    decoded.map(|decoded| decoded.value).map_err(|why| unreadable(config, why).to_status())
}
