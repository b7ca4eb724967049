//! Functions of lists: Kubernetes' own, the lists and sets extensions, and those around optional values.

use std::cmp::Ordering;

use crate::error::Error;
use crate::library::{Implementation, int};
use crate::ops;
use crate::value::{LONGEST, List, Result, Value};

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "isSorted" => is_sorted,
        "sum" => sum,
        "min" => |args, _| extreme(args, "min", Ordering::Greater),
        "max" => |args, _| extreme(args, "max", Ordering::Less),
        "slice" => slice,
        "flatten" => flatten,
        "sort" => |args, _| sort(list(args, 0)?, list(args, 0)?),
        "@sortByAssociatedKeys" => |args, _| sort(list(args, 0)?, list(args, 1)?),
        "lists.range" => range,
        "reverse" => reverse,
        "distinct" => distinct,
        "first" => |args, _| end(list(args, 0)?, |_| 0),
        "last" => |args, _| end(list(args, 0)?, |length| length - 1),
        "optional.unwrap" | "unwrapOpt" => unwrap,
        "sets.contains" => |args, _| Ok(Value::Bool(covers(list(args, 0)?, list(args, 1)?)?)),
        "sets.equivalent" => |args, _| {
            let (one, other) = (list(args, 0)?, list(args, 1)?);
            Ok(Value::Bool(covers(one, other)? && covers(other, one)?))
        },
        "sets.intersects" => |args, _| Ok(Value::Bool(intersects(list(args, 0)?, list(args, 1)?)?)),
        _ => return None,
    })
}

fn list<'v, 'a>(args: &'v [Value<'a>], index: usize) -> Result<&'v List<'a>> {
    match args.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(Error::no_such_overload()),
    }
}

/// What can be compared at all.
fn comparable(value: &Value<'_>) -> Result<()> {
    match value {
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Timestamp(_) => Ok(()),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_sorted<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut before: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        let item = item?;
        comparable(&item)?;
        if let Some(before) = &before
            && ops::compare(before, &item) == Ok(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], overload: &str) -> Result<Value<'a>> {
    let mut sum = match overload {
        "list_uint_sum_uint" => Value::Uint(0),
        "list_double_sum_double" => Value::Double(0.0),
        "list_duration_sum_duration" => Value::Duration(0),
        "list_int_sum_int" => Value::Int(0),
        // The first item tells.
        _ => match list(args, 0)?.iter().next() {
            Some(Ok(Value::Uint(_))) => Value::Uint(0),
            Some(Ok(Value::Double(_))) => Value::Double(0.0),
            Some(Ok(Value::Duration(_))) => Value::Duration(0),
            _ => Value::Int(0),
        },
    };
    for item in list(args, 0)?.iter() {
        sum = ops::add(&sum, &item?)?;
    }
    Ok(sum)
}

fn extreme<'a>(args: &[Value<'a>], name: &str, replaced_when: Ordering) -> Result<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        let item = item?;
        comparable(&item)?;
        match &best {
            Some(best) if ops::compare(best, &item) != Ok(replaced_when) => {}
            _ => best = Some(item),
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

pub(crate) fn index_of<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool) -> Result<Value<'a>> {
    let matches = |index: &usize| list.at(*index).and_then(|it| ops::equal(&it, wanted)) == Ok(true);
    let found = if last { (0..list.len()).rev().find(matches) } else { (0..list.len()).find(matches) };
    Ok(Value::Int(found.map_or(-1, |index| index as i64)))
}

fn slice<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let list = list(args, 0)?;
    let (start, end) = (int(args, 1)?, int(args, 2)?);
    let fail = |why: String| Err(Error::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return fail("negative indexes not supported".to_owned());
    };
    if from > to {
        return fail("start index must be less than or equal to end index".to_owned());
    }
    if list.len() < to {
        return fail(format!("list is length {}", list.len()));
    }
    if to - from > LONGEST {
        return Err(Error::CostExceeded);
    }
    Ok(Value::list((from..to).map(|index| list.at(index)).collect::<Result<_>>()?))
}

fn flatten<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let depth = if args.len() > 1 { int(args, 1)? } else { 1 };
    if depth < 0 {
        return Err(Error::new("level must be non-negative"));
    }
    let mut items = list(args, 0)?.to_vec()?;
    for _ in 0..depth {
        if !items.iter().any(|it| matches!(it, Value::List(_))) {
            break;
        }
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::List(inner) => flat.extend(inner.to_vec()?),
                other => flat.push(other),
            }
            if flat.len() > LONGEST {
                return Err(Error::CostExceeded);
            }
        }
        items = flat;
    }
    Ok(Value::list(items))
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Result<Value<'a>> {
    let keys = keys.to_vec()?;
    if list.len() != keys.len() {
        return Err(Error::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let Some(first) = keys.first() else { return Ok(Value::List(list.clone())) };
    comparable(first).map_err(|_| Error::new("list elements must be comparable"))?;
    if keys.len() > 1 && keys.iter().any(|key| key.type_name() != first.type_name()) {
        return Err(Error::new("list elements must have the same type"));
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|one, other| ops::compare(&keys[*one], &keys[*other]).unwrap_or(Ordering::Equal));
    Ok(Value::list(order.into_iter().map(|index| list.at(index)).collect::<Result<_>>()?))
}

fn range<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let end = int(args, 0)?;
    if end > LONGEST as i64 {
        return Err(Error::CostExceeded);
    }
    Ok(Value::list((0..end).map(Value::Int).collect()))
}

fn reverse<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut items = list(args, 0)?.to_vec()?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut found: Vec<Value<'a>> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for item in list(args, 0)?.iter() {
        let item = item?;
        // Scalars are looked up; the rest is compared with all before.
        let scalar = !matches!(item, Value::List(_) | Value::Map(_) | Value::Optional(_) | Value::Null)
            && comparable(&item).is_ok();
        let fresh = if scalar {
            let nan = matches!(item, Value::Double(it) if it.is_nan());
            known.insert((comparison_class(&item), item.key())) || nan
        } else {
            !found.iter().any(|other| ops::equal(&item, other) == Ok(true))
        };
        if fresh {
            found.push(item);
        }
    }
    Ok(Value::list(found))
}

/// Numbers are equal across their types, and nothing else is.
fn comparison_class(value: &Value<'_>) -> u8 {
    match value {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
        Value::Bool(_) => 1,
        Value::String(_) => 2,
        Value::Bytes(_) => 3,
        Value::Duration(_) => 4,
        _ => 5,
    }
}

fn end<'a>(list: &List<'a>, place: fn(usize) -> usize) -> Result<Value<'a>> {
    Ok(if list.is_empty() { Value::Optional(None) } else { Value::some(list.at(place(list.len()))?) })
}

fn unwrap<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut items = Vec::new();
    for item in list(args, 0)?.iter() {
        match item? {
            Value::Optional(inner) => items.extend(inner.map(|it| (*it).clone())),
            other => return Err(Error::new(format!("value {} is not optional", other.show()))),
        }
    }
    Ok(Value::list(items))
}

fn covers(list: &List<'_>, part: &List<'_>) -> Result<bool> {
    for item in part.iter() {
        if !ops::list_contains(list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects(one: &List<'_>, other: &List<'_>) -> Result<bool> {
    for item in one.iter() {
        if ops::list_contains(other, &item?) == Ok(true) {
            return Ok(true);
        }
    }
    Ok(false)
}
