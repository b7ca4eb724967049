//! The functions, by name. Which overload is meant is seen from the values, as the checker leaves it open where
//! types are dynamic; the overload's name is passed for the few that need it, empty where several can be meant.

pub mod authz;
pub mod convert;
pub mod dates;
pub mod format;
pub mod format_string;
pub mod ip;
pub mod lists;
pub mod optional;
pub mod quantity;
pub mod regex;
pub mod semver;
pub mod text;
pub mod url;

use crate::error::Error;
use crate::value::{Result, Value};

/// What a function does with its arguments; a member's target is the first.
pub type Implementation = for<'a> fn(&[Value<'a>], &str) -> Result<Value<'a>>;

/// The function of a name that is neither an operator nor evaluated lazily.
pub fn implementation(name: &str) -> Option<Implementation> {
    let found = convert::implementation(name)
        .or_else(|| text::implementation(name))
        .or_else(|| lists::implementation(name))
        .or_else(|| dates::implementation(name))
        .or_else(|| regex::implementation(name))
        .or_else(|| optional::implementation(name))
        .or_else(|| authz::implementation(name));
    found.or_else(|| kubernetes(name))
}

/// Functions of several of Kubernetes' types share names, and are told apart by their target.
fn kubernetes(name: &str) -> Option<Implementation> {
    Some(match name {
        "quantity" => quantity::quantity,
        "isQuantity" => quantity::is_quantity,
        "sign" => quantity::sign,
        "asInteger" => quantity::as_integer,
        "isInteger" => quantity::is_integer,
        "asApproximateFloat" => quantity::as_approximate_float,
        "add" => quantity::add,
        "sub" => quantity::sub,
        "isGreaterThan" => |args, _| ordered(args).map(|it| Value::Bool(it.is_gt())),
        "isLessThan" => |args, _| ordered(args).map(|it| Value::Bool(it.is_lt())),
        "compareTo" => |args, _| ordered(args).map(|it| Value::Int(it as i64)),
        "semver" => semver::semver,
        "isSemver" => semver::is_semver,
        "major" => |args, _| semver::part(args, 0),
        "minor" => |args, _| semver::part(args, 1),
        "patch" => |args, _| semver::part(args, 2),
        "url" => url::url,
        "isURL" => url::is_url,
        "getScheme" => |args, _| url::part(args, |it| it.scheme.clone()),
        "getHost" => |args, _| url::part(args, |it| it.host.clone()),
        "getHostname" => |args, _| url::part(args, url::Url::hostname),
        "getPort" => |args, _| url::part(args, url::Url::port),
        "getEscapedPath" => |args, _| url::part(args, url::Url::escaped_path),
        "getQuery" => url::query,
        "ip" => ip::ip,
        "isIP" => ip::is_ip,
        "ip.isCanonical" => ip::is_canonical,
        "family" => ip::family,
        "isUnspecified" => |args, _| ip::test(args, |it| it.is_unspecified()),
        "isLoopback" => |args, _| ip::test(args, |it| it.is_loopback()),
        "isLinkLocalMulticast" => |args, _| ip::test(args, ip::is_link_local_multicast),
        "isLinkLocalUnicast" => |args, _| ip::test(args, ip::is_link_local_unicast),
        "isGlobalUnicast" => |args, _| ip::test(args, ip::is_global_unicast),
        "cidr" => ip::cidr,
        "isCIDR" => ip::is_cidr,
        "containsIP" => ip::contains_ip,
        "containsCIDR" => ip::contains_cidr,
        "prefixLength" => ip::prefix_length,
        "masked" => ip::masked,
        "format.named" => format::named,
        "validate" => format::validate,
        "cel.@mapInsert" => map_insert,
        _ => return None,
    })
}

fn ordered(args: &[Value<'_>]) -> Result<std::cmp::Ordering> {
    match args {
        [Value::Quantity(one), Value::Quantity(other)] => Ok(one.cmp(other)),
        [Value::Semver(one), Value::Semver(other)] => Ok(one.order(other)),
        _ => Err(Error::no_such_overload()),
    }
}

/// The text in an argument's place.
pub(crate) fn string<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str> {
    args.get(index).and_then(Value::as_str).ok_or_else(Error::no_such_overload)
}

pub(crate) fn int(args: &[Value<'_>], index: usize) -> Result<i64> {
    args.get(index).and_then(Value::as_int).ok_or_else(Error::no_such_overload)
}

/// The map with an entry, or all of another map's, that it must not have.
fn map_insert<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    use crate::value::{Entries, Map};
    let entries = |it: &Value<'a>| -> Result<Entries<'a>> {
        match it {
            Value::Map(Map::Owned(entries)) => Ok(entries.as_ref().clone()),
            Value::Map(map) => {
                let mut entries = Entries::new();
                for key in map.keys() {
                    if let Some(value) = map.find(&key)? {
                        entries.insert(key.key(), (key, value));
                    }
                }
                Ok(entries)
            }
            _ => Err(Error::no_such_overload()),
        }
    };
    let (mut into, added) = match args {
        [map, key, value] => (entries(map)?, Entries::from([(key.key(), (key.clone(), value.clone()))])),
        [map, more] => (entries(map)?, entries(more)?),
        _ => return Err(Error::no_such_overload()),
    };
    insert_all(&mut into, added)?;
    Ok(Value::Map(Map::Owned(std::sync::Arc::new(into))))
}

pub(crate) fn insert_all<'a>(
    into: &mut crate::value::Entries<'a>,
    added: crate::value::Entries<'a>,
) -> Result<()> {
    for (at, (key, value)) in added {
        if into.contains_key(&at) {
            return Err(Error::new(format!("insert failed: key {} already exists", key.show())));
        }
        into.insert(at, (key, value));
    }
    Ok(())
}
