//! Values that may be absent. `or` and `orValue` are evaluated lazily and live with the interpreter.

use crate::error::Error;
use crate::library::Implementation;
use crate::value::{Result, Value};

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "optional.of" => |args, _| Ok(Value::some(one(args)?.clone())),
        "optional.none" => |_, _| Ok(Value::Optional(None)),
        "optional.ofNonZeroValue" => |args, _| {
            let value = one(args)?;
            Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value.clone()) })
        },
        "hasValue" => |args, _| match one(args)? {
            Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
            _ => Err(Error::no_such_overload()),
        },
        "value" => |args, _| match one(args)? {
            Value::Optional(Some(inner)) => Ok((**inner).clone()),
            Value::Optional(None) => Err(Error::new("optional.none() dereference")),
            _ => Err(Error::no_such_overload()),
        },
        _ => return None,
    })
}

fn one<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v Value<'a>> {
    args.first().ok_or_else(Error::no_such_overload)
}
