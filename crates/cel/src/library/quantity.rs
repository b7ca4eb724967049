//! `kubernetes.Quantity`.

use std::sync::Arc;

use apimachinery::quantity::{Format, Quantity};

use crate::error::Error;
use crate::library::string;
use crate::value::{Result, Value};

fn this<'v>(args: &'v [Value<'_>]) -> Result<&'v Quantity> {
    match args.first() {
        Some(Value::Quantity(it)) => Ok(it),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn quantity<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let parsed = Quantity::parse(string(args, 0)?).map_err(|error| Error::new(error.to_string()))?;
    Ok(Value::Quantity(Arc::new(parsed)))
}

pub(super) fn is_quantity<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(Quantity::parse(string(args, 0)?).is_ok()))
}

pub(super) fn sign<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Int(this(args)?.sign().into()))
}

pub(super) fn as_integer<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let whole = this(args)?.as_i64().ok_or_else(|| Error::new("cannot convert value to integer"))?;
    Ok(Value::Int(whole))
}

pub(super) fn is_integer<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(this(args)?.as_i64().is_some()))
}

pub(super) fn as_approximate_float<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Double(this(args)?.as_f64()))
}

fn other(args: &[Value<'_>]) -> Result<Quantity> {
    match args.get(1) {
        Some(Value::Quantity(it)) => Ok((**it).clone()),
        Some(Value::Int(it)) => Ok(Quantity::new(*it, Format::DecimalExponent)),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn add<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut sum = this(args)?.clone();
    sum.add(&other(args)?);
    Ok(Value::Quantity(Arc::new(sum)))
}

pub(super) fn sub<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut difference = this(args)?.clone();
    difference.sub(&other(args)?);
    Ok(Value::Quantity(Arc::new(difference)))
}
