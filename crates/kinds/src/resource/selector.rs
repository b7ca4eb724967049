//! Expressions that select devices: what they may name, and what is wrong with one (KEP-4381; upstream's
//! `dynamic-resource-allocation/cel`).

use std::sync::LazyLock;

use cel::{DeclType, Environment, Type};

/// The most that an evaluation may cost by the estimate, in units of cost.
const MOST_COST: u64 = 1_000_000;
/// Attributes, and capacities, of one device.
const MOST_ATTRIBUTES: u64 = 32;
/// Characters of a driver's name and of the longest text in an attribute.
const DRIVER: u64 = 63;
const TEXT: u64 = 64;

/// Why an expression is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not compile, or gives something else than yes or no.
    Invalid(String),
    TooComplex,
}

/// `device`: its driver, and what it has by domain and name.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let by_name =
        |value: DeclType| DeclType::map(DeclType::map(value, Some(MOST_ATTRIBUTES)), Some(MOST_ATTRIBUTES));
    let fields = [
        ("driver", DeclType::plain(Type::String).with_max_elements(DRIVER)),
        ("allowMultipleAllocations", DeclType::plain(Type::Bool).with_max_elements(1)),
        ("attributes", by_name(DeclType::dynamic().with_max_elements(TEXT))),
        ("capacity", by_name(DeclType::plain(Type::structure("kubernetes.Quantity")))),
    ];
    let fields = fields.map(|(name, kind)| (name.to_owned(), kind));
    let device = DeclType::object("kubernetes.DRADevice", fields);
    Environment::new().with_bindings().with_variable("device", device.into())
});

/// What is wrong with an expression; none if nothing is.
pub fn fault(source: &str) -> Option<Fault> {
    let invalid = |why: String| Some(Fault::Invalid(why));
    let compiled = match cel::compile(source, &ENVIRONMENT) {
        Ok(compiled) => compiled,
        Err(issues) => return invalid(format!("compilation failed: {issues}")),
    };
    match compiled.result() {
        Type::Bool | Type::Dyn => {}
        other => return invalid(format!("must evaluate to bool or the unknown type, not {other}")),
    }
    if let Err(why) = compiled.program(&ENVIRONMENT) {
        return invalid(format!("program instantiation failed: {why}"));
    }
    (compiled.estimate(&ENVIRONMENT).max > MOST_COST).then_some(Fault::TooComplex)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of upstream's `compile_test.go`.
    #[test]
    fn expressions() {
        let check = |source: &str, expect: &str| {
            let got = match fault(source) {
                None => String::new(),
                Some(Fault::TooComplex) => "too complex".to_owned(),
                Some(Fault::Invalid(why)) => why.lines().next().unwrap_or_default().to_owned(),
            };
            assert_eq!(got, expect, "{source}");
        };
        for (source, expect) in [
            ("true", ""),
            ("2 == 2", ""),
            (r#"device.driver == "dra.example.com""#, ""),
            (r#"device.attributes["dra.example.com"]["model"].startsWith("a")"#, ""),
            (r#"device.attributes["dra.example.com"].version.isGreaterThan(semver("0.0.1"))"#, ""),
            (r#"device.capacity["dra.example.com"].memory.isGreaterThan(quantity("1Mi"))"#, ""),
            (r#"cel.bind(dra, device.attributes["dra.example.com"], dra.oneBool && dra.anotherBool)"#, ""),
            (r#"device.attributes["dra.example.com"].oneBool"#, ""),
            ("device.allowMultipleAllocations == true", ""),
            (
                "true ||",
                "compilation failed: ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting \
                         {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, \
                         IDENTIFIER}",
            ),
            ("\"hello\"", "must evaluate to bool or the unknown type, not string"),
            ("device.attrs", "compilation failed: ERROR: <input>:1:7: undefined field 'attrs'"),
            (
                r#"device.attributes["a"].map(s, s.lowerAscii()).map(s, s.size()).sum() == 0 && device.attributes["a"].map(s, s.lowerAscii()).map(s, s.size()).sum() == 0 && device.attributes["b"].all(a, device.attributes["b"].all(b, device.attributes["c"].all(c, device.attributes["c"].all(d, (a + b + c + d).matches('x+y')))))"#,
                "too complex",
            ),
        ] {
            check(source, expect);
        }
    }
}
