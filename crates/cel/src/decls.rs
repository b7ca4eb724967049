//! The functions there are: one line each in `functions.tsv` (name, overload, global or member, parameters, result),
//! as Kubernetes 1.36 declares them for new and for stored expressions alike, since it takes what 1.35 knew.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// A member's target is the first one.
    pub params: Vec<Type>,
    pub result: Type,
    /// The letters of its type parameters.
    pub letters: Vec<u8>,
}

#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
}

static TABLE: &str = include_str!("functions.tsv");

/// All functions by name.
pub fn functions() -> &'static HashMap<&'static str, Function> {
    static FUNCTIONS: OnceLock<HashMap<&'static str, Function>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut functions: HashMap<&'static str, Function> = HashMap::new();
        for line in TABLE.lines() {
            if let Some((name, overload)) = read(line) {
                let function =
                    functions.entry(name).or_insert_with(|| Function { name, overloads: Vec::new() });
                function.overloads.push(overload);
            }
        }
        functions
    })
}

fn read(line: &'static str) -> Option<(&'static str, Overload)> {
    let mut columns = line.split('\t');
    let (name, id, style) = (columns.next()?, columns.next()?, columns.next()?);
    let params = columns.next()?.split("; ").filter(|it| !it.is_empty());
    let params: Vec<Type> = params.map(Type::parse).collect::<Option<_>>()?;
    let result = Type::parse(columns.next()?)?;
    let mut letters = Vec::new();
    for param in params.iter().chain([&result]) {
        collect(param, &mut letters);
    }
    Some((name, Overload { id, member: style == "member", params, result, letters }))
}

fn collect(it: &Type, letters: &mut Vec<u8>) {
    match it {
        Type::Param(letter) if !letters.contains(letter) => letters.push(*letter),
        Type::List(inner) | Type::Type(Some(inner)) | Type::Opaque(_, Some(inner)) => collect(inner, letters),
        Type::Map(pair) => {
            collect(&pair.0, letters);
            collect(&pair.1, letters);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_line_is_read() {
        let count: usize = super::functions().values().map(|it| it.overloads.len()).sum();
        assert_eq!(count, super::TABLE.lines().count());
    }
}
