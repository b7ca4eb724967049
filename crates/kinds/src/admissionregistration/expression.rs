//! The language of admission: what expressions in policies and match conditions may name, and what is wrong with
//! them, in upstream's words (`apiserver/pkg/admission/plugin/cel`).
//!
//! Objects and parameters are dynamic, the request and its namespace have types.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::{DeclType, Environment, Field, Kind, Program, Type};

/// What the budgets of one policy and of one set of match conditions are, in units of cost.
pub const POLICY_BUDGET: u64 = cel::cost::RUNTIME_BUDGET;
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// Names that not every expression has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// `params`: the policy has a kind of parameters.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{…}` and `JSONPatch{…}`.
    pub mutation: bool,
}

/// What an expression must evaluate to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Conditions and validations.
    Bool,
    /// A message.
    String,
    /// The value of an audit annotation.
    StringOrNull,
    /// A variable.
    Anything,
    /// An apply configuration.
    Object,
    /// A list of `JSONPatch`.
    Patches,
}

impl Wanted {
    fn types(self) -> Vec<Type> {
        match self {
            Wanted::Bool => vec![Type::Bool],
            Wanted::String => vec![Type::String],
            Wanted::StringOrNull => vec![Type::String, Type::Null],
            Wanted::Anything => Vec::new(),
            Wanted::Object => vec![Type::structure("Object")],
            Wanted::Patches => vec![Type::list(Type::structure("JSONPatch"))],
        }
    }
}

fn text() -> DeclType {
    DeclType::plain(Type::String)
}

fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, DeclType)>) -> DeclType {
    DeclType::object(name, fields.into_iter().map(|(name, kind)| (name.to_owned(), kind)))
}

/// The type of `request`.
fn request() -> Arc<DeclType> {
    let kind =
        || object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(|name| (name, text())));
    let resource = || {
        object("kubernetes.GroupVersionResource", ["group", "version", "resource"].map(|name| (name, text())))
    };
    let texts = || DeclType::list(text(), None);
    let user = object(
        "kubernetes.UserInfo",
        [("username", text()), ("uid", text()), ("groups", texts()), ("extra", DeclType::map(texts(), None))],
    );
    Arc::new(object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", DeclType::plain(Type::Bool)),
            ("options", DeclType::dynamic()),
        ],
    ))
}

/// The type of `namespaceObject`. `UID` is written like that upstream, and names nothing.
fn namespace() -> Arc<DeclType> {
    let time = || DeclType::plain(Type::Timestamp);
    let int = || DeclType::plain(Type::Int);
    let texts = || DeclType::list(text(), None);
    let map = || DeclType::map(text(), None);
    let condition = object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", map()),
            ("annotations", map()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", int()),
            ("deletionTimestamp", time()),
            ("generation", int()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let status = object(
        "kubernetes.NamespaceStatus",
        [("conditions", DeclType::list(condition, None)), ("phase", text())],
    );
    Arc::new(object(
        "kubernetes.Namespace",
        [
            ("metadata", metadata),
            ("spec", object("kubernetes.NamespaceSpec", [("finalizers", texts())])),
            ("status", status),
        ],
    ))
}

/// Types of objects where they are known: for warnings only, since evaluation goes by what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Typed<'a> {
    pub object: Option<&'a Arc<DeclType>>,
    pub params: Option<&'a Arc<DeclType>>,
}

/// What expressions are compiled against. Values are given in this order, of which an expression that declares less
/// sees a beginning: `object`, `oldObject`, `namespaceObject`, `request`, `variables` (in a policy), `params`,
/// `authorizer`, `authorizer.requestResource`.
pub fn environment(declared: Declared, variables: Option<&Variables>, typed: Typed<'_>) -> Environment {
    static TYPES: LazyLock<(Arc<DeclType>, Arc<DeclType>)> = LazyLock::new(|| (request(), namespace()));
    let (request, namespace) = &*TYPES;
    let or_dynamic =
        |kind: Option<&Arc<DeclType>>| kind.cloned().unwrap_or_else(|| Arc::new(DeclType::dynamic()));
    let mut environment = Environment::new()
        .with_variable("object", or_dynamic(typed.object))
        .with_variable("oldObject", or_dynamic(typed.object))
        .with_variable("namespaceObject", namespace.clone())
        .with_variable("request", request.clone());
    if let Some(variables) = variables {
        environment = environment.with_variable("variables", Arc::new(variables.declaration()));
    }
    if declared.params {
        environment = environment.with_variable("params", or_dynamic(typed.params));
    }
    if declared.authorizer {
        environment = environment
            .with("authorizer", Type::structure("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", Type::structure("kubernetes.authorization.ResourceCheck"));
    }
    if declared.mutation { environment.with_mutation() } else { environment }
}

/// The variables of a policy as far as they have been compiled: each may name those before it.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    types: BTreeMap<String, Type>,
}

impl Variables {
    /// A variable with the type of its expression; none if it does not compile.
    pub fn add(&mut self, name: &str, kind: Option<&Type>) {
        self.types.insert(name.to_owned(), kind.map_or(Type::Dyn, without_objects));
    }

    fn declaration(&self) -> DeclType {
        let mut all = cel::Object {
            name: "kubernetes.variables".into(),
            fields: BTreeMap::new(),
            properties: BTreeMap::new(),
        };
        for (name, kind) in &self.types {
            let kind = Arc::new(DeclType::plain(kind.clone()));
            all.fields.insert(name.as_str().into(), Field { property: name.clone(), kind: kind.clone() });
            all.properties.insert(name.clone(), kind);
        }
        DeclType { kind: Kind::Object(all), max_elements: 0, min_size: 2, nullable: false }
    }
}

/// What is left of a type when it becomes a variable's.
fn without_objects(kind: &Type) -> Type {
    match kind {
        Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Bytes
        | Type::Duration
        | Type::Timestamp => kind.clone(),
        Type::List(element) => Type::list(without_objects(element)),
        Type::Map(pair) => Type::map(without_objects(&pair.0), without_objects(&pair.1)),
        _ => Type::Dyn,
    }
}

/// Compiles an expression; with the type of what it evaluates to.
///
/// # Errors
/// What is wrong with it, as upstream words it.
pub fn compile(source: &str, environment: &Environment, wanted: Wanted) -> Result<(Program, Type), String> {
    let compiled =
        cel::compile(source, environment).map_err(|issues| format!("compilation failed: {issues}"))?;
    let kind = compiled.result().clone();
    let types = wanted.types();
    if !types.is_empty() && !types.contains(&kind) {
        let names: Vec<String> = types.iter().map(shown).collect();
        let one_of = match names.as_slice() {
            [one] => one.clone(),
            several => format!("one of [{}]", several.join(" ")),
        };
        return Err(format!("must evaluate to {one_of} but got {}", shown(&kind)));
    }
    let program =
        compiled.program(environment).map_err(|why| format!("program instantiation failed: {why}"))?;
    Ok((program, kind))
}

/// A type as upstream prints it outside of the checker.
fn shown(kind: &Type) -> String {
    match kind {
        Type::List(element) => format!("list({})", shown(element)),
        Type::Map(pair) => format!("map({}, {})", shown(&pair.0), shown(&pair.1)),
        Type::Null | Type::Duration | Type::Timestamp => kind.runtime_name(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types that come out, and what is said where they are not wanted.
    #[test]
    fn expressions() {
        let all = Declared { params: true, authorizer: true, mutation: true };
        let full = environment(all, None, Typed::default());
        let bare = environment(Declared::default(), None, Typed::default());
        let mut variables = Variables::default();
        variables.add("list", Some(&Type::list(Type::structure("kubernetes.Quantity"))));
        variables.add("broken", None);
        let composed = environment(all, Some(&variables), Typed::default());
        let check = |environment: &Environment, source: &str, wanted: Wanted, expect: &str| {
            let got = match compile(source, environment, wanted) {
                Ok((_, kind)) => kind.to_string(),
                Err(why) => why,
            };
            assert_eq!(got, expect, "{source}");
        };
        for (source, wanted, expect) in [
            ("object.a.b == params.c", Wanted::Bool, "bool"),
            ("authorizer.requestResource.check('get').allowed()", Wanted::Bool, "bool"),
            ("authorizer.group('').resource('pods').check('get').allowed()", Wanted::Bool, "bool"),
            ("request.userInfo.groups", Wanted::Anything, "list(string)"),
            ("namespaceObject.metadata.labels", Wanted::Anything, "map(string, string)"),
            ("Object{spec: Object.spec{replicas: 1}}", Wanted::Object, "Object"),
            ("[JSONPatch{op: 'remove', path: '/a'}]", Wanted::Patches, "list(JSONPatch)"),
            ("request.name", Wanted::Bool, "must evaluate to bool but got string"),
            ("1", Wanted::StringOrNull, "must evaluate to one of [string null_type] but got int"),
            ("null", Wanted::StringOrNull, "null"),
            ("null", Wanted::String, "must evaluate to string but got null_type"),
            ("Object.spec{}", Wanted::Object, "must evaluate to Object but got Object.spec"),
            ("[]", Wanted::Patches, "must evaluate to list(JSONPatch) but got list(dyn)"),
        ] {
            check(&full, source, wanted, expect);
        }
        check(&composed, "variables.list", Wanted::Anything, "list(dyn)");
        check(&composed, "variables.broken + 1", Wanted::Anything, "int");
        check(
            &composed,
            "variables.none",
            Wanted::Anything,
            "compilation failed: ERROR: <input>:1:10: undefined field 'none'\n | variables.none\n | .........^",
        );
        check(
            &bare,
            "params == null",
            Wanted::Bool,
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params == \
             null\n | ^",
        );
    }
}
