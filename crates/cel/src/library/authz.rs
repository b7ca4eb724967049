//! The authorizer: an expression asks whether somebody may do something.
//!
//! Deciding can take time, and evaluation does not wait: an [`Authorizer`] that does not know yet says so, evaluation
//! ends with [`Error::Undecided`], and the caller finds the decision out, remembers it, and evaluates again.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::library::{Implementation, string};
use crate::value::{Result, Value};

/// Who asks: the user of the request, or a service account in their place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asker {
    Requester,
    ServiceAccount { namespace: String, name: String },
}

/// What is asked. One and the same question is asked once in a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Check {
    pub asker: Asker,
    pub verb: String,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attributes {
    Path(String),
    Resource(Resource),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// As the expression wrote them, unparsed; empty for none.
    pub field_selector: String,
    pub label_selector: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why there was no proper answer.
    pub error: Option<String>,
}

/// Who answers.
pub trait Authorizer: Sync {
    /// The decision, or none if it is not known yet.
    fn decide(&self, check: &Check) -> Option<Decision>;
}

/// The values of the library.
#[derive(Clone)]
pub enum Subject<'a> {
    Authorizer { authorizer: &'a dyn Authorizer, asker: Asker },
    Path { authorizer: &'a dyn Authorizer, asker: Asker, path: String },
    Group { authorizer: &'a dyn Authorizer, asker: Asker, group: String },
    Resource { authorizer: &'a dyn Authorizer, asker: Asker, resource: Arc<Resource> },
    Decision(Arc<Decision>),
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.type_name())
    }
}

impl Subject<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Subject::Authorizer { .. } => "kubernetes.authorization.Authorizer",
            Subject::Path { .. } => "kubernetes.authorization.PathCheck",
            Subject::Group { .. } => "kubernetes.authorization.GroupCheck",
            Subject::Resource { .. } => "kubernetes.authorization.ResourceCheck",
            Subject::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// The value of the variable `authorizer`.
pub fn authorizer(authorizer: &dyn Authorizer) -> Value<'_> {
    Value::Authz(Subject::Authorizer { authorizer, asker: Asker::Requester })
}

/// The value of the variable `authorizer.requestResource`.
pub fn request_resource(authorizer: &dyn Authorizer, resource: Resource) -> Value<'_> {
    let resource = Arc::new(resource);
    Value::Authz(Subject::Resource { authorizer, asker: Asker::Requester, resource })
}

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "path" => path,
        "group" => group,
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |args, _| with(args, |it, text| it.subresource = text),
        "namespace" => |args, _| with(args, |it, text| it.namespace = text),
        "name" => |args, _| with(args, |it, text| it.name = text),
        "fieldSelector" => |args, _| with(args, |it, text| it.field_selector = text),
        "labelSelector" => |args, _| with(args, |it, text| it.label_selector = text),
        "check" => check,
        "allowed" => |args, _| Ok(Value::Bool(decision(args)?.allowed)),
        "reason" => |args, _| Ok(Value::string(&decision(args)?.reason)),
        "errored" => |args, _| Ok(Value::Bool(decision(args)?.error.is_some())),
        "error" => |args, _| Ok(Value::string(decision(args)?.error.as_deref().unwrap_or_default())),
        _ => return None,
    })
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision> {
    match args.first() {
        Some(Value::Authz(Subject::Decision(it))) => Ok(it),
        _ => Err(Error::no_such_overload()),
    }
}

fn path<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::Authz(Subject::Authorizer { authorizer, asker })) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let path = string(args, 1)?;
    if path.trim().is_empty() {
        return Err(Error::new("path must not be empty"));
    }
    Ok(Value::Authz(Subject::Path { authorizer: *authorizer, asker: asker.clone(), path: path.to_owned() }))
}

fn group<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::Authz(Subject::Authorizer { authorizer, asker })) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let group = string(args, 1)?.to_owned();
    Ok(Value::Authz(Subject::Group { authorizer: *authorizer, asker: asker.clone(), group }))
}

fn service_account<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::Authz(Subject::Authorizer { authorizer, .. })) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let (namespace, name) = (string(args, 1)?, string(args, 2)?);
    if !apimachinery::names::is_dns1123_subdomain(name).is_empty() {
        return Err(Error::new("Invalid service account name"));
    }
    if !apimachinery::names::is_dns1123_label(namespace).is_empty() {
        return Err(Error::new("Invalid service account namespace"));
    }
    let asker = Asker::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok(Value::Authz(Subject::Authorizer { authorizer: *authorizer, asker }))
}

fn resource<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::Authz(Subject::Group { authorizer, asker, group })) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let resource = string(args, 1)?;
    if resource.trim().is_empty() {
        return Err(Error::new("resource must not be empty"));
    }
    let resource = Resource { group: group.clone(), resource: resource.to_owned(), ..Resource::default() };
    let (asker, resource) = (asker.clone(), Arc::new(resource));
    Ok(Value::Authz(Subject::Resource { authorizer: *authorizer, asker, resource }))
}

fn with<'a>(args: &[Value<'a>], set: fn(&mut Resource, String)) -> Result<Value<'a>> {
    let Some(Value::Authz(Subject::Resource { authorizer, asker, resource })) = args.first() else {
        return Err(Error::no_such_overload());
    };
    let mut changed = resource.as_ref().clone();
    set(&mut changed, string(args, 1)?.to_owned());
    let (asker, resource) = (asker.clone(), Arc::new(changed));
    Ok(Value::Authz(Subject::Resource { authorizer: *authorizer, asker, resource }))
}

fn check<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let verb = string(args, 1)?.to_owned();
    let (authorizer, asker, attributes) = match args.first() {
        Some(Value::Authz(Subject::Path { authorizer, asker, path })) => {
            (authorizer, asker.clone(), Attributes::Path(path.clone()))
        }
        Some(Value::Authz(Subject::Resource { authorizer, asker, resource })) => {
            (authorizer, asker.clone(), Attributes::Resource(resource.as_ref().clone()))
        }
        _ => return Err(Error::no_such_overload()),
    };
    let check = Check { asker, verb, attributes };
    match authorizer.decide(&check) {
        Some(decision) => Ok(Value::Authz(Subject::Decision(Arc::new(decision)))),
        None => Err(Error::Undecided(Arc::new(check))),
    }
}
