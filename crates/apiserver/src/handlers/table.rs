//! Objects as rows of a Table, which is what kubectl prints.

use apimachinery::{field, field::Path, schema::Resource, status::Status};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::transform::{ListMeta, metadata};
use crate::request::Query;

/// `TableOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub include: Include,
    pub headers: bool,
}

/// `includeObject`: what each row carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Options {
    pub(super) fn parse(query: &Query) -> Result<Self, Status> {
        let include = match query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Object,
            other => {
                let allowed = ["Metadata", "None", "Object", ""];
                let error = field::Error::not_supported(&Path::new("includeObject"), other, allowed);
                return Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")));
            }
        };
        Ok(Self { include, headers: !query.flag("noHeaders") })
    }
}

/// A Table of these objects, which are in the resource's version.
pub(super) fn build(
    resource: &Resource,
    version: &str,
    options: Options,
    objects: Vec<Value>,
    list: &ListMeta,
    now: Timestamp,
) -> Value {
    let columns = kinds::columns::columns(&resource.group, &resource.kind);
    let mut objects = objects;
    if let Some(order) = columns.order {
        objects.sort_by(order);
    }
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(columns, object, version, options, now)).collect();
    let definitions: Vec<Value> = if options.headers {
        columns.definitions.iter().map(kinds::columns::Column::to_value).collect()
    } else {
        Vec::new()
    };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list.to_value(),
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn row(
    columns: &kinds::columns::Columns,
    object: Value,
    version: &str,
    options: Options,
    now: Timestamp,
) -> Value {
    let mut row = json!({ "cells": (columns.cells)(&object, now) });
    let conditions = (columns.conditions)(&object);
    if !conditions.is_empty() {
        row["conditions"] = Value::Array(conditions);
    }
    row["object"] = match options.include {
        Include::Nothing => Value::Null,
        Include::Metadata => metadata(object, version),
        Include::Object => object,
    };
    row
}
