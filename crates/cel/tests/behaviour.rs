//! What the tables cannot say: budgets, hostile expressions, the authorizer, mutation, lazy variables.

use std::sync::{Arc, Mutex};

use cel::authz::{self, Asker, Attributes, Authorizer, Check, Decision, Resource};
use cel::{DeclType, Environment, Error, Lookup, Result, Type, Value};
use serde_json::json;

fn evaluate(source: &str, limit: u64) -> std::result::Result<String, String> {
    let environment = Environment::new();
    let compiled = cel::compile(source, &environment).map_err(|it| it.to_string())?;
    let program = compiled.program(&environment)?;
    program.evaluate(&[], limit).value.map(|it| it.show()).map_err(|it| it.to_string())
}

#[test]
fn budgets() {
    let spends = "lists.range(1000).all(x, lists.range(1000).all(y, x + y >= 0))";
    for (source, limit) in [
        (spends, 1_000_000),
        ("lists.range(1000000000).size() > 0", 1_000_000),
        ("lists.range(100).map(x, x).size() == 100", 1_000),
        // No operator swallows it.
        ("true || lists.range(100).all(x, x >= 0)", u64::MAX),
        ("lists.range(1000).all(x, x >= 0) || true", 100),
        ("[1].exists(i, lists.range(1000).all(x, x >= 0)) || true", 100),
    ] {
        let expect = if limit == u64::MAX {
            Ok("true".to_owned())
        } else {
            Err("operation cancelled: actual cost limit exceeded".to_owned())
        };
        assert_eq!(evaluate(source, limit), expect, "{source}");
    }
}

/// As deep and as long as anybody can write: an answer or a fault, and no more memory or stack than there is.
#[test]
fn hostile() {
    let nested = |open: &str, inner: &str, close: &str, count: usize| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let chained = |first: &str, next: &str, count: usize| format!("{first}{}", next.repeat(count));
    for source in [
        nested("(", "1", ")", 200),
        nested("(", "1", ")", 100_000),
        nested("[", "1", "]", 240),
        nested("{1:", "1", "}", 240),
        nested("size([", "1", "])", 120),
        nested("!(", "true", ")", 200),
        nested("-(", "1", ")", 200),
        nested("[1].map(x, ", "x", ")", 100),
        nested("[1].map(x, ", "x", ")", 200),
        nested("[[1].all(x, ", "true", ")][0]", 80),
        nested("true ? (", "1", ") : 2", 200),
        chained("1", " + 1", 200),
        chained("1", " + 1", 20_000),
        chained("true", " && true", 5_000),
        chained("true", " || false", 5_000),
        chained("dyn({})", ".a", 240),
        chained("dyn({})", ".a", 2_000),
        chained("dyn([])", "[0]", 240),
        chained("'a'", ".lowerAscii()", 240),
        chained("true ? 1 : ", "true ? 1 : ", 200) + "1",
        chained("optional.of(1)", ".optMap(x, x + 1)", 60),
        chained("optional.of([1])", ".optFlatMap(x, optional.of(x + x))", 30),
        chained("[1]", ".map(x, [x, x])", 60),
        "'a'.matches('((a{100}){100}){100}')".to_owned(),
        "'a'.matches('(((((((((((a*)*)*)*)*)*)*)*)*)*)*')".to_owned(),
        "a".repeat(100_000),
        "a".repeat(100_001),
        "'\\u".to_owned(),
        "\"\u{1f600}".to_owned(),
        "b'\\xff' + b'\u{e9}'".to_owned(),
        "9223372036854775807 + 1".to_owned(),
        "-9223372036854775808 / -1".to_owned(),
        "duration('9223372036s') + duration('9223372036s')".to_owned(),
        "timestamp('9999-12-31T23:59:59Z') + duration('24h')".to_owned(),
        "'%.999999999f'.format([1.0])".to_owned(),
        "'abc'.substring(1, 9223372036854775807)".to_owned(),
        "'abc'.indexOf('b', -9223372036854775808)".to_owned(),
        "'abc'.split('', 9223372036854775807)".to_owned(),
        "[1].slice(-9223372036854775808, 9223372036854775807)".to_owned(),
        "[[1]].flatten(9223372036854775807)".to_owned(),
        "timestamp(0).getHours('99999999999:00') == 1".to_owned(),
        "timestamp(0).getHours('-9223372036854775808:00') == 1".to_owned(),
    ] {
        let _ = evaluate(&source, 1_000_000);
    }
}

/// Answers what it has been told, and remembers what it was asked.
#[derive(Default)]
struct Told {
    answers: Vec<(Check, Decision)>,
    asked: Mutex<Vec<Check>>,
}

impl Authorizer for Told {
    fn decide(&self, check: &Check) -> Option<Decision> {
        self.asked.lock().unwrap().push(check.clone());
        self.answers.iter().find(|(it, _)| it == check).map(|(_, decision)| decision.clone())
    }
}

#[test]
fn decisions_are_waited_for() {
    let environment =
        Environment::new().with("authorizer", Type::structure("kubernetes.authorization.Authorizer"));
    let source = "authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').subresource('scale')\
                  .namespace('ns').name('web').check('update').allowed() && authorizer.path('/healthz').check('get').reason() == 'ok'";
    let compiled = cel::compile(source, &environment).unwrap();
    assert_eq!(compiled.estimate(&environment).max, 700_012);
    let program = compiled.program(&environment).unwrap();
    let mut told = Told::default();
    loop {
        let said = {
            let variables = [Some(authz::authorizer(&told))];
            program.evaluate(&variables, 1_000_000).value.map(|it| it.as_bool())
        };
        match said {
            Ok(value) => {
                assert_eq!(value, Some(true));
                break;
            }
            Err(Error::Undecided(check)) => {
                let decision = Decision { allowed: true, reason: "ok".to_owned(), error: None };
                told.answers.push((check.as_ref().clone(), decision));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let scale = Resource {
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        subresource: "scale".to_owned(),
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
        ..Resource::default()
    };
    let asker = Asker::ServiceAccount { namespace: "ns".to_owned(), name: "sa".to_owned() };
    let first = Check { asker, verb: "update".to_owned(), attributes: Attributes::Resource(scale) };
    assert_eq!(told.answers[0].0, first);
    let second = &told.answers[1].0;
    assert_eq!(
        (&second.asker, &second.attributes),
        (&Asker::Requester, &Attributes::Path("/healthz".to_owned()))
    );
}

#[test]
fn mutations_are_constructed() {
    let environment = Environment::new().with("object", Type::Dyn).with_mutation();
    let check = |source: &str, expect: serde_json::Value| {
        let program = cel::compile(source, &environment).unwrap().program(&environment).unwrap();
        let object = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1}});
        let variables = [Some(Value::json(&object))];
        assert_eq!(
            program.evaluate(&variables, 1_000_000).value.unwrap().to_json().unwrap(),
            expect,
            "{source}"
        );
    };
    check(
        "Object{metadata: Object.metadata{labels: {'a': object.metadata.name}}, spec: Object.spec{replicas: object.spec.replicas + 1}}",
        json!({"metadata": {"labels": {"a": "web"}}, "spec": {"replicas": 2}}),
    );
    check(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: [1, 2]}]",
        json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": [1, 2]}]),
    );
    check(
        "Object{?spec: object.?absent, ?metadata: optional.of(Object.metadata{})}",
        json!({"metadata": {}}),
    );
}

struct Variables(Mutex<Vec<String>>);

impl Lookup for Variables {
    fn get(&self, name: &str) -> Option<Result<Value<'_>>> {
        self.0.lock().unwrap().push(name.to_owned());
        match name {
            "replicas" => Some(Ok(Value::Int(3))),
            "bad" => Some(Err(Error::new("composited variable \"bad\" fails to compile"))),
            _ => None,
        }
    }

    fn names(&self) -> Vec<&str> {
        vec!["bad", "replicas"]
    }
}

#[test]
fn variables_are_worked_out_when_asked_for() {
    let fields = [("replicas", Type::Int), ("bad", Type::Bool)];
    let fields = fields.map(|(name, kind)| (name.to_owned(), DeclType::plain(kind)));
    let declared = Arc::new(DeclType::object("kubernetes.variables", fields));
    let environment = Environment::new().with_variable("variables", declared);
    let asked = |source: &str, expect: &str, names: &[&str]| {
        let program = cel::compile(source, &environment).unwrap().program(&environment).unwrap();
        let lookup = Variables(Mutex::default());
        let variables = [Some(Value::Map(cel::Map::Lazy(&lookup)))];
        let said =
            program.evaluate(&variables, 1_000_000).value.map_or_else(|it| it.to_string(), |it| it.show());
        assert_eq!(said, expect, "{source}");
        assert_eq!(*lookup.0.lock().unwrap(), names, "{source}");
    };
    asked("variables.replicas > 2 || variables.bad", "true", &["replicas"]);
    asked("variables.bad", "composited variable \"bad\" fails to compile", &["bad"]);
    asked("true || variables.bad", "true", &[]);
}
