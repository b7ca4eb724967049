//! Made-up objects of every kind, for upstream's own libraries to say what they make of them, and the comparison
//! of that with what we make of them. [docs/ORACLE.md](../../../../docs/ORACLE.md) says how to go about it.
//!
//! ```text
//! oracle write SEED COUNT [SUBJECT...] > cases.jsonl
//! oracle compare cases.jsonl answers.jsonl
//! oracle golden cases.jsonl answers.jsonl KIND... > golden.jsonl
//! ```

mod apply;
mod codec;
mod defaults;
mod random;
mod strategic;

#[path = "../../../api/tests/made/mod.rs"]
mod made;

use std::collections::BTreeMap;
use std::io::Write;

use apimachinery::schema::{Type, TypeId};
use serde_json::{Map, Value, json};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A line of the cases: `op` says which subject it belongs to.
type Case = Map<String, Value>;

/// What is compared: how cases are made (`(type, its group, version and kind, seed, count)`), and what differs
/// between an answer and ours.
struct Subject {
    name: &'static str,
    write: fn(TypeId, &Gvk, u64, u64) -> Vec<Case>,
    compare: fn(TypeId, &Case, &Case) -> Vec<Difference>,
}

const SUBJECTS: &[Subject] = &[
    Subject { name: "codec", write: codec::write, compare: codec::compare },
    Subject { name: "strict", write: codec::write_broken, compare: codec::compare_broken },
    Subject { name: "defaults", write: defaults::write, compare: defaults::compare },
    Subject { name: "strategic", write: strategic::write, compare: strategic::compare },
    Subject { name: "apply", write: apply::write, compare: apply::compare },
];

struct Gvk {
    group: String,
    version: String,
    kind: String,
}

impl Gvk {
    fn api_version(&self) -> String {
        apimachinery::gvk::api_version(&self.group, &self.version)
    }

    /// The start of every object of the kind.
    fn stamp(&self, object: &mut Value) {
        if let Some(object) = object.as_object_mut() {
            object.insert("apiVersion".into(), self.api_version().into());
            object.insert("kind".into(), self.kind.clone().into());
        }
    }

    fn case(&self, op: &str, rest: Value) -> Case {
        let mut case = json!({"op": op, "group": self.group, "version": self.version, "kind": self.kind});
        let case = case.as_object_mut().expect("an object");
        case.extend(rest.as_object().cloned().unwrap_or_default());
        std::mem::take(case)
    }
}

/// What is not the same: where, what upstream has and what we have.
struct Difference {
    what: String,
    theirs: String,
    ours: String,
}

fn text<'a>(case: &'a Case, field: &str) -> &'a str {
    case.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Two texts that ought to be the same; of JSON, only what differs in it.
fn same(what: &str, theirs: &str, ours: &str) -> Option<Difference> {
    if theirs == ours {
        return None;
    }
    if let (Ok(a), Ok(b)) = (serde_json::from_str::<Value>(theirs), serde_json::from_str::<Value>(ours)) {
        if a == b {
            let at = theirs.bytes().zip(ours.bytes()).position(|(a, b)| a != b).unwrap_or_default();
            let near = |text: &str| {
                String::from_utf8_lossy(text.as_bytes().get(at.saturating_sub(30)..).unwrap_or_default())
                    .chars()
                    .take(80)
                    .collect()
            };
            return Some(Difference {
                what: format!("{what}, writing"),
                theirs: near(theirs),
                ours: near(ours),
            });
        }
        let (at, theirs, ours) = first_difference(&a, &b, String::new());
        return Some(Difference { what: format!("{what} {at}"), theirs, ours });
    }
    Some(Difference { what: what.into(), theirs: theirs.into(), ours: ours.into() })
}

fn first_difference(a: &Value, b: &Value, path: String) -> (String, String, String) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let mut keys: Vec<&String> = x.keys().chain(y.keys()).collect();
            keys.sort();
            let at = keys.into_iter().find(|key| x.get(*key) != y.get(*key));
            let Some(key) = at else { return (path, String::new(), String::new()) };
            match (x.get(key), y.get(key)) {
                (Some(x), Some(y)) => first_difference(x, y, format!("{path}.{key}")),
                (x, y) => {
                    let show = |v: Option<&Value>| v.map_or("absent".into(), Value::to_string);
                    (format!("{path}.{key}"), show(x), show(y))
                }
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let at = x.iter().zip(y).position(|(x, y)| x != y).unwrap_or_default();
            first_difference(&x[at], &y[at], format!("{path}[{at}]"))
        }
        _ => (path, a.to_string(), b.to_string()),
    }
}

/// Every type that calls itself a kind.
fn kinds() -> impl Iterator<Item = (TypeId, &'static Type)> {
    api::schema().types().filter(|(_, ty)| !ty.kinds.is_empty())
}

fn find(case: &Case) -> Option<TypeId> {
    let wanted = |(g, v, k): &(_, _, _)| {
        let name = |a: &apimachinery::schema::Name, b: &str| a == b;
        name(g, text(case, "group")) && name(v, text(case, "version")) && name(k, text(case, "kind"))
    };
    kinds().find(|(_, ty)| ty.kinds.iter().any(wanted)).map(|(id, _)| id)
}

fn write(args: &[String]) -> Fallible<()> {
    let [seed, count, subjects @ ..] = args else { return Err("SEED COUNT [SUBJECT...]".into()) };
    let (seed, count): (u64, u64) = (seed.parse()?, count.parse()?);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut id = 0;
    for subject in
        SUBJECTS.iter().filter(|s| subjects.is_empty() || subjects.iter().any(|name| name == s.name))
    {
        for (ty, at) in kinds() {
            let Some((group, version, kind)) = at.kinds.first() else { continue };
            let gvk = Gvk { group: group.to_string(), version: version.to_string(), kind: kind.to_string() };
            for mut case in (subject.write)(ty, &gvk, seed, count) {
                case.insert("id".into(), id.into());
                id += 1;
                writeln!(out, "{}", Value::Object(case))?;
            }
        }
    }
    Ok(out.flush()?)
}

/// `apps/v1 Deployment`, and whether that is served at all.
fn at(case: &Case) -> String {
    let (group, version, kind) = (text(case, "group"), text(case, "version"), text(case, "kind"));
    let api_version = apimachinery::gvk::api_version(group, version);
    match api::resources().by_kind(group, version, kind) {
        Some(resource) if resource.default_on => format!("{api_version} {kind}"),
        Some(_) => format!("{api_version} {kind} (off)"),
        None => format!("{api_version} {kind} (no resource)"),
    }
}

/// Cases and their answers, by line.
fn pairs(cases: &str, answers: &str) -> Fallible<Vec<(Case, Case)>> {
    let read = |path: &str| -> Fallible<Vec<Case>> {
        let text = std::fs::read_to_string(path)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let (cases, answers) = (read(cases)?, read(answers)?);
    if cases.len() != answers.len() {
        return Err(format!("{} cases and {} answers", cases.len(), answers.len()).into());
    }
    Ok(cases.into_iter().zip(answers).collect())
}

fn compare(args: &[String]) -> Fallible<()> {
    let [cases, answers, all @ ..] = args else { return Err("CASES ANSWERS [all]".into()) };
    let (mut seen, mut faults) = (BTreeMap::<&str, (usize, usize)>::new(), BTreeMap::<_, (usize, _)>::new());
    for (case, answer) in pairs(cases, answers)? {
        let subject = SUBJECTS.iter().find(|s| s.name == text(&case, "op")).ok_or("an unknown subject")?;
        let ty = find(&case).ok_or("an unknown kind")?;
        let differences = (subject.compare)(ty, &case, &answer);
        let count = seen.entry(subject.name).or_default();
        count.0 += 1;
        count.1 += usize::from(!differences.is_empty());
        for d in differences {
            if !all.is_empty() {
                println!("{}", json!([case["id"], at(&case), d.what, d.theirs, d.ours]));
            }
            let first = || (case["id"].clone(), at(&case), d.theirs, d.ours);
            let key = format!("{}: {}", subject.name, d.what);
            faults.entry(key).and_modify(|(n, _)| *n += 1).or_insert_with(|| (1, first()));
        }
    }
    for (what, (count, (id, kind, theirs, ours))) in &faults {
        println!("{count} times {what}\n    case {id}, {kind}\n    theirs {theirs}\n    ours   {ours}");
    }
    for (name, (all, bad)) in seen {
        println!("{name}: {bad} of {all} differ");
    }
    if faults.is_empty() { Ok(()) } else { Err("not the same".into()) }
}

/// Cases of some kinds together with the answers, to be kept.
fn golden(args: &[String]) -> Fallible<()> {
    let [cases, answers, kinds @ ..] = args else { return Err("CASES ANSWERS KIND...".into()) };
    for (mut case, mut answer) in pairs(cases, answers)? {
        if kinds.is_empty() || kinds.iter().any(|kind| kind == text(&case, "kind")) {
            case.remove("id");
            answer.remove("id");
            case.insert("answer".into(), Value::Object(answer));
            println!("{}", Value::Object(case));
        }
    }
    Ok(())
}

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "write" => write(rest),
        Some((verb, rest)) if verb == "compare" => compare(rest),
        Some((verb, rest)) if verb == "golden" => golden(rest),
        _ => Err("write, compare or golden".into()),
    }
}
