//! What is checked after the types: literals that cannot mean anything, and lists and maps of mixed types.

use crate::ast::{Expr, Id, Literal};
use crate::checker::Checked;
use crate::issues::Issues;
use crate::library::{format_string, implementation, regex};
use crate::types::Type;
use crate::value::Value;

/// # Errors
/// All faults.
pub(crate) fn validate(checked: &Checked, source: &str) -> Result<(), Issues> {
    let mut issues = Issues::new(source);
    mixed(checked, &mut issues);
    for id in 0..checked.ast.nodes.len() as Id {
        literal_argument(checked, id, &mut issues);
    }
    format_string::validate(checked, &mut issues);
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

fn literal_argument(checked: &Checked, id: Id, issues: &mut Issues) {
    let Expr::Call { function, args, .. } = checked.ast.expr(id) else { return };
    let Some(first) = args.first() else { return };
    let Expr::Literal(literal) = checked.ast.expr(*first) else { return };
    let good = match (&**function, literal) {
        ("duration" | "timestamp", literal) => {
            let value = match literal {
                Literal::String(text) => Value::string(text),
                Literal::Int(it) => Value::Int(*it),
                _ => return,
            };
            implementation(function).is_some_and(|it| it(&[value], "").is_ok())
        }
        ("matches", Literal::String(pattern)) => regex::compile(pattern).is_ok(),
        _ => return,
    };
    if !good {
        issues.report(checked.ast.offset(*first), format!("invalid {function} argument"));
    }
}

/// Types that are the same, or of which one can be anything.
fn equivalent(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::List(one), Type::List(other)) => equivalent(one, other),
        (Type::Map(one), Type::Map(other)) => equivalent(&one.0, &other.0) && equivalent(&one.1, &other.1),
        (Type::Opaque(one, first), Type::Opaque(other, second)) => {
            one == other
                && match (first, second) {
                    (Some(first), Some(second)) => equivalent(first, second),
                    (None, None) => true,
                    _ => false,
                }
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == other,
    }
}

fn mixed(checked: &Checked, issues: &mut Issues) {
    let exempt = formatted(checked);
    let mut report = |id: Id, wanted: &Type, found: &Type| {
        issues.report(checked.ast.offset(id), format!("expected type '{wanted}' but found '{found}'"));
    };
    let unwrapped = |id: Id, optional: bool| {
        let kind = checked.kind(id);
        if optional { kind.unwrap_optional().unwrap_or(kind) } else { kind }
    };
    for id in 0..checked.ast.nodes.len() as Id {
        if exempt[id as usize] {
            continue;
        }
        match checked.ast.expr(id) {
            Expr::List { elements, optional } => {
                let mut kinds =
                    elements.iter().zip(optional).map(|(id, optional)| (*id, unwrapped(*id, *optional)));
                let Some((_, wanted)) = kinds.next() else { continue };
                if let Some((id, found)) = kinds.find(|(_, kind)| !equivalent(wanted, kind)) {
                    report(id, wanted, found);
                }
            }
            Expr::Map { entries } => {
                let Some(first) = entries.first() else { continue };
                let (key, value) = (checked.kind(first.key), unwrapped(first.value, first.optional));
                for entry in &entries[1..] {
                    let found = (checked.kind(entry.key), unwrapped(entry.value, entry.optional));
                    if !equivalent(key, found.0) {
                        report(entry.key, key, found.0);
                    }
                    if !equivalent(value, found.1) {
                        report(entry.value, value, found.1);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What is within a call of `format`, which takes mixed lists.
fn formatted(checked: &Checked) -> Vec<bool> {
    let mut exempt = vec![false; checked.ast.nodes.len()];
    // Parents come after their children, so going backwards passes it down.
    for id in (0..checked.ast.nodes.len()).rev() {
        let call =
            matches!(checked.ast.expr(id as Id), Expr::Call { function, .. } if **function == *"format");
        if call || exempt[id] {
            for child in checked.ast.children(id as Id) {
                exempt[child as usize] = true;
            }
        }
    }
    exempt
}
