//! Objects as rows of a Table, which is what kubectl prints.

use std::cmp::Ordering;

use apimachinery::{field, field::Path, managed_fields, schema::ResourceRef, status::Status};
use jiff::{SignedDuration, Timestamp};
use kinds::columns::Columns;
use serde_json::{Value, json};

use super::transform::{ListMeta, metadata};
use crate::{
    custom,
    request::Query,
    storage::{encoding::Frame, encoding::Row, metadata_only},
};

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

/// How a kind is shown: built-in ones by what `kinds` says, custom ones by their definition.
pub(super) enum Shown {
    BuiltIn(&'static Columns),
    Custom(ResourceRef),
}

impl Shown {
    pub(super) fn of(resource: &ResourceRef) -> Self {
        match custom::of(resource) {
            Some(_) => Self::Custom(resource.clone()),
            None => Self::BuiltIn(kinds::columns::columns(&resource.group, &resource.kind)),
        }
    }

    fn custom(&self) -> Option<&custom::Compiled> {
        match self {
            Self::Custom(resource) => custom::of(resource).map(custom::Custom::compiled),
            Self::BuiltIn(_) => None,
        }
    }

    fn definitions(&self, options: Options) -> Vec<Value> {
        match self {
            _ if !options.headers => Vec::new(),
            Self::BuiltIn(columns) => {
                columns.definitions.iter().map(kinds::columns::Column::to_value).collect()
            }
            Self::Custom(_) => {
                self.custom().map(|custom| custom.columns.definitions().to_vec()).unwrap_or_default()
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match self {
            Self::BuiltIn(columns) => (columns.cells)(object, now),
            Self::Custom(_) => {
                self.custom().map(|custom| custom.columns.cells(object, now)).unwrap_or_default()
            }
        }
    }

    fn conditions(&self, object: &Value) -> Vec<Value> {
        match self {
            Self::BuiltIn(columns) => (columns.conditions)(object),
            Self::Custom(_) => Vec::new(),
        }
    }

    /// The order of rows where it is not that of the list.
    pub(super) fn order(&self) -> Option<fn(&Value, &Value) -> Ordering> {
        match self {
            Self::BuiltIn(columns) => columns.order,
            Self::Custom(_) => None,
        }
    }
}

/// A Table of these objects, which are in the resource's version.
pub(super) fn build(
    resource: &ResourceRef,
    version: &str,
    options: Options,
    objects: Vec<Value>,
    list: &ListMeta,
    now: Timestamp,
) -> Value {
    let shown = &Shown::of(resource);
    let mut objects = objects;
    if let Some(order) = shown.order() {
        objects.sort_by(order);
    }
    objects.iter_mut().for_each(managed_fields::unfold);
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(shown, object, version, options, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list.to_value(),
        "columnDefinitions": shown.definitions(options),
        "rows": rows,
    })
}

/// The columns' definitions as JSON.
pub(super) fn definitions(shown: &Shown, options: Options) -> String {
    Value::Array(shown.definitions(options)).to_string()
}

/// When a second look at the cells is taken, to see which of them move with time.
const LATER: SignedDuration = SignedDuration::from_hours(24 * 5000);

/// An object's row, and whether it can be kept: nothing in it moves with time but the time since the object's
/// creation, which is filled in by [`write_row`].
pub(super) fn make_row(shown: &Shown, object: &Value, now: Timestamp) -> (Row, bool) {
    let cells = shown.cells(object, now);
    let later = now.saturating_add(LATER).unwrap_or(now);
    let then = shown.cells(object, later);
    let creation = &object["metadata"]["creationTimestamp"];
    let created: Option<Timestamp> = creation.as_str().and_then(|text| text.parse().ok());
    let age = |at| kinds::columns::age(creation, at);
    let (mut row, mut keepable) = (Row { text: b"\"cells\":[".to_vec(), age: None }, true);
    for (number, (cell, then)) in cells.iter().zip(&then).enumerate() {
        if number > 0 {
            row.text.push(b',');
        }
        let moves = cell != then;
        match created {
            Some(created) if moves && row.age.is_none() && *cell == age(now) && *then == age(later) => {
                row.text.extend_from_slice(b"\"\"");
                row.age = Some((row.text.len() - 1, created.as_second()));
            }
            _ => {
                keepable &= !moves;
                row.text.extend_from_slice(cell.to_string().as_bytes());
            }
        }
    }
    row.text.push(b']');
    let conditions = shown.conditions(object);
    if !conditions.is_empty() {
        row.text.extend_from_slice(b",\"conditions\":");
        row.text.extend_from_slice(Value::Array(conditions).to_string().as_bytes());
    }
    (row, keepable)
}

/// A row with what is included of the object, whose JSON is `frame`.
pub(super) fn write_row(
    row: &Row,
    version: &str,
    include: Include,
    frame: Option<&Frame>,
    now: Timestamp,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    match row.age {
        Some((place, created)) => {
            let (before, behind) = row.text.split_at(place);
            out.extend_from_slice(before);
            out.extend_from_slice(kinds::columns::human_duration(now.as_second() - created).as_bytes());
            out.extend_from_slice(behind);
        }
        None => out.extend_from_slice(&row.text),
    }
    out.extend_from_slice(b",\"object\":");
    match (include, frame) {
        (Include::Metadata, Some(frame)) => metadata_only(frame, version, out),
        (Include::Object, Some(frame)) => out.extend_from_slice(&frame.object()),
        _ => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

fn row(shown: &Shown, object: Value, version: &str, options: Options, now: Timestamp) -> Value {
    let mut row = json!({ "cells": shown.cells(&object, now) });
    let conditions = shown.conditions(&object);
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
