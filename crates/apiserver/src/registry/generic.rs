//! The write path of every stored kind: create and update (deletion is [`super::deletion`]), as upstream's `registry/generic/registry/store.go`
//! orders them. What differs by kind comes from `kinds` (pure rules) and from [`super::hooks`] (rules that need
//! storage).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apimachinery::{
    field::{self, Path},
    managed_fields, names,
    schema::{Resource, ResourceRef},
    status::Status,
};
use bytes::Bytes;
use etcd::KeyValue;
use serde_json::Value;

use super::{hooks, meta, privileged, strategy};
use crate::{
    admission, conversion, custom,
    handlers::options::WriteOptions,
    request::{AdmissionAttributes, Operation, Options, UserInfo},
    server::ApiServer,
    storage,
};

/// How often a generated name is drawn anew when it is taken (KEP-4420).
const NAME_ATTEMPTS: usize = 8;
/// How often a write that lost a race is tried again before it gives up.
pub(super) const RACES: usize = 100;

/// How often, and how long each time, a pod waits for the service account of a namespace that was just made.
const ACCOUNT_WAITS: usize = 10;
const ACCOUNT_WAIT: Duration = Duration::from_millis(100);

/// Warnings that a request gathers for its answer.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&text) {
            all.push(text);
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One write: who, and on what.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub server: &'a Arc<ApiServer>,
    pub user: &'a UserInfo,
    pub user_agent: &'a str,
    /// The verb that the request was authorized for: `create`, `update`, `patch`.
    pub verb: &'a str,
    pub resource: &'a Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The kind in the request: the subresource's where it has one of its own (`Scale`).
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub warnings: &'a Warnings,
}

/// Makes the new state of an object from the one that is there.
pub type Change<'a> = &'a (dyn Fn(Option<&Value>) -> Result<Value, Status> + Sync);

/// Who sees to the managed fields of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// The engine: whoever changed a field owns it.
    Recorded,
    /// The object brings them along.
    Given,
}

/// What a write leaves behind.
pub enum Outcome {
    /// The object as it is stored now.
    Stored(Arc<KeyValue>),
    /// The object as it would be stored (dry run), or as it last was (deleted).
    Object(Value),
    /// A deletion that has nothing more to show.
    Done(Box<Status>),
}

impl Scope<'_> {
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name)
    }

    pub fn conflict(&self, why: impl std::fmt::Display) -> Status {
        Status::conflict(&self.resource.group, &self.resource.plural, self.name, why)
    }

    fn invalid(&self, name: &str, errors: &[field::Error]) -> Status {
        // The kind as upstream's rules know it: of one group, whatever group it is served in.
        let group = self.resource.storage.as_ref().map_or(&*self.resource.group, |at| &*at.group);
        Status::invalid(group, &self.resource.kind, name, errors)
    }

    fn attributes<'b>(
        &'b self,
        operation: Operation,
        old: Option<&'b Value>,
        options: Options<'b>,
    ) -> AdmissionAttributes<'b> {
        AdmissionAttributes {
            operation,
            user: self.user,
            group: &self.resource.group,
            version: &self.resource.version,
            kind: self.kind,
            resource: &self.resource.plural,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            old,
            dry_run: options.dry_run(),
            options,
        }
    }

    /// Mutating admission, in upstream's place: after decoding and defaulting, before validation.
    pub async fn admit(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: Options<'_>,
    ) -> Result<(), Status> {
        let attributes = self.attributes(operation, old, options);
        for _ in 0..ACCOUNT_WAITS {
            if !self.view(|view| admission::service_account::is_early(view, &attributes, object)) {
                break;
            }
            tokio::time::sleep(ACCOUNT_WAIT).await;
        }
        let mut rounds = admission::reinvocation::Rounds::default();
        loop {
            let chain = &self.server.admission;
            self.view(|view| chain.mutate_with(view, &attributes, object, &mut rounds))?;
            admission::webhook::mutate(self, &attributes, object, &mut rounds).await?;
            if !rounds.begin_second() {
                return Ok(());
            }
        }
    }

    /// Validating admission, right before the store.
    pub async fn check(
        &self,
        operation: Operation,
        object: &Value,
        old: Option<&Value>,
        options: Options<'_>,
    ) -> Result<(), Status> {
        let attributes = AdmissionAttributes {
            name: if self.name.is_empty() { meta::name(object) } else { self.name },
            ..self.attributes(operation, old, options)
        };
        self.view(|view| self.server.admission.validate_with(view, &attributes, object))?;
        admission::webhook::validate(self, &attributes, object).await?;
        self.server.admission.charge(self, &attributes, object).await
    }

    /// The other versions, and the other groups' names, of what the request is about.
    pub fn equivalents(&self) -> Vec<admission::matching::Equivalent> {
        let (of, subresource) = (self.resource, self.subresource);
        if custom::of(of).is_some() {
            let all = self.server.catalog.all();
            return admission::matching::equivalents(all.iter().map(|r| &**r), of, subresource);
        }
        admission::matching::equivalents(self.server.served.iter(), of, subresource)
    }

    /// What admission may look at.
    fn view<T>(&self, look: impl FnOnce(&admission::View<'_>) -> T) -> T {
        let stored = |group: &str, plural: &str| {
            api::resources().iter().find(|r| r.group == group && r.plural == plural && r.storage.is_some())
        };
        // Owners and parameters may be custom objects.
        let any = |group: &str, plural: &str| {
            let found = stored(group, plural).map(ResourceRef::from);
            found.or_else(|| self.server.catalog.preferred(group, plural))
        };
        let storage = &self.server.storage;
        let pods = stored("", "pods");
        look(&admission::View {
            get: &|group, plural, namespace, name| {
                storage.read(&*any(group, plural)?, namespace, name).ok().flatten()
            },
            kept: &|group, plural, namespace, name| storage.kept(stored(group, plural)?, namespace, name),
            list: &|group, plural, namespace| {
                stored(group, plural).map(|r| storage.kept_all(r, namespace)).unwrap_or_default()
            },
            pods: &|namespace| pods.map(|r| storage.read_all(r, namespace)).unwrap_or_default(),
            phase: &|name| storage.field(stored("", "namespaces")?, "", name, "status.phase").ok().flatten(),
            labels: &|group, plural, namespace, name| storage.labels(stored(group, plural)?, namespace, name),
            may: &|attributes| self.server.authorizer.decide(self.user, attributes).is_allowed(),
            warn: &|text| self.warnings.add(text),
            entropy: &*self.server.entropy,
            configuration: self.server.admission.configuration(),
            policies: admission::policy::Around {
                policies: &self.server.admission.policies,
                storage: Some(storage),
                metrics: Some(&self.server.metrics.policies),
                resource: Some(self.resource),
                kind: &|group, version, kind| {
                    let found = api::resources().by_kind(group, version, kind).map(ResourceRef::from);
                    found.or_else(|| self.server.catalog.by_kind(group, version, kind))
                },
                equivalents: &|| self.equivalents(),
                decide: &|user, attributes| self.server.authorizer.decide(user, attributes),
                annotate: &|key, value| {
                    tracing::debug!(target: "apiserver::audit", key, value, "an annotation by admission");
                },
            },
        })
    }

    fn deduplicate_owners(&self, object: &mut Value, after_admission: bool) {
        if let Some(warning) = meta::deduplicate_owners(object, after_admission) {
            self.warnings.add(warning);
        }
    }

    fn check_privileged(&self, object: &Value, errors: &mut field::ErrorList) {
        if !self.server.settings.allow_privileged && self.subresource != "status" {
            privileged::check(self.resource, object, errors);
        }
    }

    /// Creates an object. `object` is decoded, defaulted and in the resource's version.
    pub async fn create(&self, object: Value, options: &WriteOptions) -> Result<Outcome, Status> {
        self.create_as(object, options, Owners::Recorded).await
    }

    async fn create_as(
        &self,
        mut object: Value,
        options: &WriteOptions,
        owners: Owners,
    ) -> Result<Outcome, Status> {
        if custom::of(self.resource).is_some_and(|custom| custom.definition.terminating) {
            let (group, plural) = (&self.resource.group, &self.resource.plural);
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(group, plural, meta::name(&object), why));
        }
        meta::wipe_system_fields(&mut object);
        let namespace = if self.resource.namespaced { self.namespace } else { "" };
        meta::match_namespace(&mut object, namespace)?;
        self.deduplicate_owners(&mut object, false);
        // Before the strategy: what it fills in belongs to nobody, as upstream has it.
        if owners == Owners::Recorded {
            self.manage_fields(None, &mut object, options);
        }
        strategy::prepare_for_create(self.resource, &mut object, &self.now())?;
        self.admit(Operation::Create, &mut object, None, options.into()).await?;
        self.deduplicate_owners(&mut object, true);
        let generates = meta::name(&object).is_empty() && !meta::text(&object, "generateName").is_empty();
        let mut attempts = if generates { NAME_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let copy = if attempts > 0 { object.clone() } else { std::mem::take(&mut object) };
            match self.insert(copy, generates, options).await {
                Err(status) if attempts > 0 && status.is_already_exists() => {}
                done => return done,
            }
        }
    }

    /// [`Scope::insert_once`], again when somebody else took at the same moment what was reserved.
    async fn insert(
        &self,
        object: Value,
        generated: bool,
        options: &WriteOptions,
    ) -> Result<Outcome, Status> {
        let hooks = hooks(self.resource);
        if hooks.reserves {
            for _ in 0..RACES {
                if let Some(done) = self.insert_once(object.clone(), generated, options, hooks).await? {
                    return Ok(done);
                }
            }
        } else if let Some(done) = self.insert_once(object, generated, options, hooks).await? {
            return Ok(done);
        }
        Err(self.conflict("what it needs is taken again and again; please try again"))
    }

    /// The part of a creation that is tried again under another name. `None` when what was reserved is taken.
    async fn insert_once(
        &self,
        mut object: Value,
        generated: bool,
        options: &WriteOptions,
        hooks: &super::Hooks,
    ) -> Result<Option<Outcome>, Status> {
        meta::fill_system_fields(&mut object, self.server.clock.now(), &*self.server.entropy);
        if generated {
            let base = meta::text(&object, "generateName");
            let name = names::generate_name(base, &*self.server.entropy);
            meta::set(&mut object, "name", Some(name.into()));
        }
        conversion::agree(&self.resource.group, &self.resource.kind, &mut object);
        let reservation = (hooks.begin_write)(self, &mut object, None, options.dry_run)?;
        strategy::prepare_for_create(self.resource, &mut object, &self.now())?;
        let mut errors = (hooks.faults)(self, &object, None);
        errors.extend(strategy::validate_create(self.resource, &object));
        self.check_privileged(&object, &mut errors);
        if !errors.is_empty() {
            return Err(self.invalid(meta::name(&object), &errors));
        }
        strategy::warnings(self.resource, self.subresource, &object, None, self.warnings);
        self.check(Operation::Create, &object, None, options.into()).await?;
        if meta::text(&object, "resourceVersion").parse().is_ok_and(|version: u64| version != 0) {
            // Upstream's store refuses it with a plain error.
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Status::failure(500, "", why));
        }
        let name = meta::name(&object).to_owned();
        let key = storage::key(self.resource, self.namespace, &name)?;
        let exists = |existing: Option<&Arc<KeyValue>>| {
            let (group, plural) = (&self.resource.group, &self.resource.plural);
            let mut status = if generated {
                Status::generate_name_conflict(group, plural, &name, 1)
            } else {
                Status::already_exists(group, plural, &name)
            };
            let existing = existing.and_then(|kv| self.server.storage.decode(self.resource, kv).ok());
            if existing.is_some_and(|o| meta::is_being_deleted(&o)) {
                status.message = format!("object is being deleted: {}", status.message);
            }
            status
        };
        if options.dry_run {
            return match self.server.storage.store().get(&key) {
                Some(existing) => Err(exists(Some(&existing))),
                None => Ok(Some(Outcome::Object(object))),
            };
        }
        let beside = reservation.as_ref().map(|r| (hooks.beside_write)(self, &object, r)).transpose()?;
        let beside = beside.unwrap_or_default();
        let needs = !beside.create.is_empty();
        let value = self.server.encode(self.resource, &mut object).await?;
        match self.server.storage.put_with(self.resource, key, value, 0, beside).await? {
            Ok(kv) => {
                if let Some(reservation) = reservation {
                    reservation.commit();
                }
                Ok(Some(self.stored(kv).await?))
            }
            Err(None) if needs => Ok(None),
            Err(existing) => Err(exists(existing.as_ref())),
        }
    }

    /// Updates an object: `change` makes the new state from the old one, again after each lost race. The
    /// boolean tells whether the object was created.
    ///
    /// `change` gets `None` where the object is not there and the kind lets updates create; it must then give
    /// the whole object.
    pub async fn update(
        &self,
        options: &WriteOptions,
        change: Change<'_>,
    ) -> Result<(Outcome, bool), Status> {
        self.update_as(options, change, Owners::Recorded).await
    }

    /// As [`Scope::update`], for an apply: `change` has seen to the managed fields, and what is not there is
    /// created.
    pub async fn apply(&self, options: &WriteOptions, change: Change<'_>) -> Result<(Outcome, bool), Status> {
        self.update_as(options, change, Owners::Given).await
    }

    async fn update_as(
        &self,
        options: &WriteOptions,
        change: Change<'_>,
        owners: Owners,
    ) -> Result<(Outcome, bool), Status> {
        let key = storage::key(self.resource, self.namespace, self.name)?;
        for _ in 0..RACES {
            let Some(kv) = self.server.storage.store().get(&key) else {
                let creates = owners == Owners::Given || strategy::allow_create_on_update(self.resource);
                if !creates || !self.subresource.is_empty() {
                    return Err(self.not_found());
                }
                let mut object = change(None)?;
                self.check_uid(&key, &object, "")?;
                meta::set(&mut object, "resourceVersion", None);
                self.server.authorize_create(self)?;
                match self.create_as(object, options, owners).await {
                    // Somebody was faster: then it is an update after all.
                    Err(status) if status.is_already_exists() => continue,
                    done => return done.map(|outcome| (outcome, true)),
                }
            };
            let old = self.decode(&kv).await?;
            let new = change(Some(&old))?;
            if let Some(outcome) = self.replace(&key, &kv, old, new, options, owners).await? {
                return Ok((outcome, false));
            }
        }
        Err(self.conflict("the object is being modified too often; please apply your changes again"))
    }

    /// Changes an object on the server's own account: a binding, a budget. No strategy, no admission of the
    /// object; whoever calls has seen to both.
    pub async fn put(&self, dry_run: bool, change: Change<'_>) -> Result<(), Status> {
        let key = storage::key(self.resource, self.namespace, self.name)?;
        for _ in 0..RACES {
            let Some(kv) = self.server.storage.store().get(&key) else { return Err(self.not_found()) };
            let old = self.decode(&kv).await?;
            let mut new = change(Some(&old))?;
            // Upstream writes a status through its own client, and a binding past all that.
            if self.subresource == "status" {
                let own = Scope { user_agent: "kube-apiserver", ..*self };
                own.manage_fields(Some(&old), &mut new, &WriteOptions::default());
            }
            if dry_run {
                return Ok(());
            }
            let value = self.server.encode(self.resource, &mut new).await?;
            if self.server.storage.put(self.resource, key.clone(), value, kv.mod_revision).await?.is_ok() {
                return Ok(());
            }
        }
        Err(self.conflict("the object is being modified too often; please try again"))
    }

    /// One attempt to write `new` over `old`; `None` when the race was lost.
    async fn replace(
        &self,
        key: &Bytes,
        kv: &KeyValue,
        old: Value,
        mut new: Value,
        options: &WriteOptions,
        owners: Owners,
    ) -> Result<Option<Outcome>, Status> {
        self.check_uid(key, &new, meta::text(&old, "uid"))?;
        let given = meta::resource_version(&new)?;
        if given == 0 {
            if !strategy::allow_unconditional_update(self.resource) {
                let path = Path::new("metadata");
                let error = field::Error::invalid(
                    &path.child("resourceVersion"),
                    0,
                    "must be specified for an update",
                );
                let (group, plural) = (&self.resource.group, &self.resource.plural);
                return Err(Status::invalid(group, plural, self.name, &[error]));
            }
            let version = old["metadata"]["resourceVersion"].clone();
            meta::set(&mut new, "resourceVersion", Some(version));
        } else if given != kv.mod_revision.unsigned_abs() {
            return Err(Status::modified(&self.resource.group, &self.resource.plural, self.name));
        }
        let namespace = if self.resource.namespaced { self.namespace } else { "" };
        meta::match_namespace(&mut new, namespace)?;
        self.deduplicate_owners(&mut new, false);
        // Before the strategy, as in a creation.
        if owners == Owners::Recorded {
            self.manage_fields(Some(&old), &mut new, options);
        }
        self.prepare_update(&mut new, &old);
        self.admit(Operation::Update, &mut new, Some(&old), options.into()).await?;
        self.deduplicate_owners(&mut new, true);
        conversion::agree(&self.resource.group, &self.resource.kind, &mut new);
        let hooks = hooks(self.resource);
        let reservation = match self.subresource {
            "" => (hooks.begin_write)(self, &mut new, Some(&old), options.dry_run)?,
            _ => None,
        };
        self.prepare_update(&mut new, &old);
        let mut errors = (hooks.faults)(self, &new, Some(&old));
        errors.extend(strategy::validate_update(self.resource, self.subresource, &new, &old, self.warnings));
        self.check_privileged(&new, &mut errors);
        if !errors.is_empty() {
            return Err(self.invalid(meta::name(&new), &errors));
        }
        strategy::warnings(self.resource, self.subresource, &new, Some(&old), self.warnings);
        if managed_fields::equal_but_for_times(&new, &old) {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        self.check(Operation::Update, &new, Some(&old), options.into()).await?;
        if meta::deletes_itself(&new, &old) && (hooks.may_delete_on_update)(&new) {
            if !options.dry_run {
                let beside = (hooks.beside_delete)(&old);
                match self.server.storage.delete_with(key.clone(), kv.mod_revision, beside).await? {
                    Ok(_) => (hooks.after_delete)(self.server, &old),
                    // Gone already: that is what was wanted.
                    Err(None) => {}
                    Err(Some(_)) => return Ok(None),
                }
            }
            return Ok(Some(Outcome::Object(new)));
        }
        if options.dry_run {
            return Ok(Some(Outcome::Object(new)));
        }
        let value = self.server.encode(self.resource, &mut new).await?;
        if value == kv.value {
            // Nothing changed: no new revision.
            if let Some(reservation) = reservation {
                reservation.commit();
            }
            let unchanged = self.server.storage.store().get(key);
            return match unchanged.filter(|now| now.mod_revision == kv.mod_revision) {
                Some(kv) => Ok(Some(self.stored(kv).await?)),
                None => Ok(None),
            };
        }
        let beside = reservation.as_ref().map(|r| (hooks.beside_write)(self, &new, r)).transpose()?;
        let beside = beside.unwrap_or_default();
        match self.server.storage.put_with(self.resource, key.clone(), value, kv.mod_revision, beside).await?
        {
            Ok(kv) => {
                if let Some(reservation) = reservation {
                    reservation.commit();
                }
                Ok(Some(self.stored(kv).await?))
            }
            Err(_) => Ok(None),
        }
    }

    /// A stored object, in the resource's version.
    pub(super) async fn decode(&self, kv: &Arc<KeyValue>) -> Result<Value, Status> {
        let kv = self.server.in_version(self.resource, kv.clone()).await?;
        self.server.storage.decode(self.resource, &kv)
    }

    /// What was stored, to be shown in the resource's version.
    pub(super) async fn stored(&self, kv: Arc<KeyValue>) -> Result<Outcome, Status> {
        self.server.in_version(self.resource, kv).await.map(Outcome::Stored)
    }

    /// An object that carries a uid is meant for that very object.
    fn check_uid(&self, key: &Bytes, new: &Value, stored: &str) -> Result<(), Status> {
        let uid = meta::text(new, "uid");
        if uid.is_empty() || uid == stored {
            return Ok(());
        }
        Err(self.conflict(format_args!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
             failed: UID in precondition: {uid}, UID in object meta: {stored}",
            String::from_utf8_lossy(key)
        )))
    }

    /// The time of this write, in RFC 3339.
    fn now(&self) -> String {
        apimachinery::time::format(self.server.clock.now())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::keep_system_fields(new, old);
        let now = self.now();
        strategy::prepare_for_update(self.resource, self.subresource, new, old, &now);
    }
}
