//! What evaluation costs. The rules are cel-go's with Kubernetes' for its libraries, so that a budget means here what
//! it means upstream.

use crate::value::{List, Map, Value};

pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const OBJECT: u64 = 40;
/// Per character of text that is gone through.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Per character of a regular expression.
pub(crate) const REGEX: f64 = 0.25;
/// A question to the authorizer.
pub(crate) const CHECK: u64 = 350_000;

/// The budget of one evaluation, and of the estimate of one expression.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The budget of all rules of one object.
pub const RUNTIME_BUDGET: u64 = 10_000_000;

/// How a call is charged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Fixed(u64),
    /// The first argument's text, so many times.
    Text(f64),
    /// A walk through all of the first argument.
    Walk,
    /// The second argument is a selector to be parsed.
    Selector,
    /// The text that comes out, twice.
    Joined,
    /// The pattern against the text.
    Matches,
    Contains,
    Validate,
    ContainsIp {
        text: bool,
    },
    ContainsCidr {
        text: bool,
    },
    Equal,
    /// The shorter of two.
    Compare,
    Concat,
    /// The second argument's items.
    Items,
    /// A new list of the result's size.
    Output,
    Flatten,
    /// Each item of an argument with each.
    SelfCompare(usize),
    Sets(f64),
}

fn ceil(value: f64) -> u64 {
    value.ceil() as u64
}

fn text(size: u64) -> u64 {
    ceil(size as f64 * TRAVERSAL)
}

impl Rule {
    /// The rule of a function, by its overload where only one can be meant.
    pub fn of(function: &str, overload: &str) -> Rule {
        if let Some(rule) = Rule::of_extension(overload) {
            return rule;
        }
        match function {
            "check" => Rule::Fixed(CHECK),
            "fieldSelector" | "labelSelector" => Rule::Selector,
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Rule::Walk,
            "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => {
                Rule::Text(1.0)
            }
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => Rule::Text(1.0),
            "ip" if overload == "cidr_ip" => Rule::Fixed(1),
            "ip" => Rule::Text(1.0),
            "replace" | "split" | "ip.isCanonical" => Rule::Text(2.0),
            "join" => Rule::Joined,
            "find" | "findAll" => Rule::Matches,
            "containsIP" => Rule::ContainsIp { text: overload == "cidr_contains_ip_string" },
            "containsCIDR" => Rule::ContainsCidr { text: overload == "cidr_contains_cidr_string" },
            "validate" => Rule::Validate,
            "_==_" => Rule::Equal,
            "_!=_" => Rule::Compare,
            _ => Rule::of_standard(overload),
        }
    }

    fn of_extension(overload: &str) -> Option<Rule> {
        Some(match overload {
            "list_slice" | "lists_range" | "list_reverse" => Rule::Output,
            "list_flatten" | "list_flatten_int" => Rule::Flatten,
            "list_distinct" => Rule::SelfCompare(0),
            "list_sets_contains_list" | "list_sets_intersects_list" => Rule::Sets(1.0),
            "list_sets_equivalent_list" => Rule::Sets(2.0),
            _ if !overload.starts_with("list_") => return None,
            _ if overload.ends_with("_sort") => Rule::SelfCompare(0),
            _ if overload.ends_with("_sortByAssociatedKeys") => Rule::SelfCompare(1),
            _ => return None,
        })
    }

    fn of_standard(overload: &str) -> Rule {
        match overload {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
            | "strings_quote" | "string_format" => Rule::Text(1.0),
            "in_list" => Rule::Items,
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes" => Rule::Compare,
            "add_string" | "add_bytes" => Rule::Concat,
            "matches_string" => Rule::Matches,
            "contains_string" => Rule::Contains,
            _ => Rule::Fixed(1),
        }
    }

    /// What a call with these arguments has cost.
    pub fn cost(self, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
        // Optional values have the size of what they hold to the language's own rules.
        let size = |index: usize| args.get(index).map_or(1, sized);
        match self {
            Rule::Fixed(cost) => cost,
            Rule::Text(times) => ceil(size(0) as f64 * times * TRAVERSAL),
            Rule::Walk => {
                let mut left = WALKED;
                args.first().map_or(0, |it| walk(it, &mut left))
            }
            Rule::Selector => selector(size(1)),
            Rule::Joined => ceil(result.map_or(1, Value::size) as f64 * 2.0 * TRAVERSAL),
            Rule::Matches => {
                let through = ceil((1.0 + size(0) as f64) * TRAVERSAL);
                through.saturating_mul(ceil(size(1) as f64 * REGEX))
            }
            Rule::Contains => text(size(0)).saturating_mul(text(size(1))),
            Rule::Validate => match args {
                [Value::Format(format), checked] => {
                    let through = ceil((1.0 + checked.size() as f64) * TRAVERSAL);
                    through.saturating_mul(ceil(format.regex_size as f64 * REGEX))
                }
                _ => 1,
            },
            Rule::ContainsIp { text: other } => text(size(0) * 2) + if other { text(size(1)) } else { 0 },
            Rule::ContainsCidr { text: other } => {
                text(size(0) * 2) + text(size(0)) + 1 + if other { text(size(1)) } else { 0 }
            }
            Rule::Equal => match args.first() {
                Some(
                    Value::Quantity(_)
                    | Value::Ip(_)
                    | Value::Cidr(_)
                    | Value::Format(_)
                    | Value::Url(_)
                    | Value::Semver(_)
                    | Value::Authz(_),
                ) => 1,
                _ => text(size(0).min(size(1))),
            },
            Rule::Compare => text(size(0).min(size(1))),
            Rule::Concat => text(size(0) + size(1)),
            Rule::Items => size(1),
            Rule::Output => result.map_or(1, Value::size) + 1 + LIST,
            Rule::Flatten => {
                let depth = args.get(1).and_then(Value::as_int).unwrap_or(1);
                // A negative depth, which fails, wraps around.
                ((size(0) as f64 * depth as f64) as i64 as u64).wrapping_add(1 + LIST)
            }
            Rule::SelfCompare(index) => self_compare(args.get(index)),
            Rule::Sets(times) => 1 + (size(0).saturating_mul(size(1)) as f64 * times) as u64,
        }
    }
}

fn sized(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(inner)) => sized(inner),
        other => other.size(),
    }
}

fn selector(length: u64) -> u64 {
    let requirements = (length as f64 * 0.5).ceil();
    LIST + text(length) + ceil(requirements * (LIST + OBJECT) as f64)
}

fn self_compare(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let is_text = matches!(list.at(0), Ok(Value::String(_) | Value::Bytes(_)));
    let factor = if is_text { 2.0 + TRAVERSAL } else { 2.0 };
    let size = list.len() as u64;
    (size.saturating_mul(size) as f64 * factor) as u64 + 1 + LIST
}

/// Parts of a value that are gone through: more would be over any budget, or be the same parts again and again.
const WALKED: u32 = 2_000_000;

fn walk(value: &Value<'_>, left: &mut u32) -> u64 {
    let Some(rest) = left.checked_sub(1) else { return u64::MAX };
    *left = rest;
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => walk_list(list, left),
        Value::Map(map) => walk_map(map, left),
        _ => 1,
    }
}

fn walk_list(list: &List<'_>, left: &mut u32) -> u64 {
    let mut sum: u64 = 0;
    for item in list.iter() {
        sum = sum.saturating_add(item.map_or(1, |it| walk(&it, left)));
        if *left == 0 {
            return u64::MAX;
        }
    }
    sum
}

fn walk_map(map: &Map<'_>, left: &mut u32) -> u64 {
    let mut sum: u64 = 0;
    for key in map.keys() {
        let value = map.find(&key).ok().flatten().map_or(1, |it| walk(&it, left));
        sum = sum.saturating_add(walk(&key, left)).saturating_add(value);
    }
    sum
}
