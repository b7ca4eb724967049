//! Custom objects as they are read, stored and written: JSON, in what upstream calls the unstructured form, kept to
//! its schema (`schemaCoercingDecoder` of upstream's `customresource_handler.go`).

use apiextensions::structural::{defaults, metadata, prune};
use apimachinery::{
    codec::{json, normal},
    field::Path,
    gvk, managed_fields,
    status::Status,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Custom, metadata_type};

impl Custom {
    /// Keeps an object to the version's schema: metadata in normal form, unknown fields gone, nulls that may not be
    /// gone. Returns what strict reading says of it (`unknown field "spec.x"`).
    ///
    /// # Errors
    /// Metadata, or that of a resource inside, of the wrong shape, in words.
    pub fn coerce(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let schema = &self.compiled().structural;
        let mut unknown = coerce_metadata(object)?;
        unknown.extend(prune::prune(object, schema));
        defaults::prune_nulls(object, Some(schema));
        let inside = metadata::coerce(object, schema, metadata_type(), &Path::NIL);
        unknown.extend(inside.map_err(|error| error.to_string())?);
        Ok(unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect())
    }

    /// Fills in what the schema has defaults for.
    ///
    /// # Errors
    /// 413 if that is far too much.
    pub fn default(&self, object: &mut Value) -> Result<(), Status> {
        defaults::default(object, &self.compiled().structural).map_err(Status::request_entity_too_large)
    }

    /// A stored object in this version, without a resourceVersion.
    ///
    /// # Errors
    /// What is stored is no object.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, Status> {
        let broken = |why: &dyn std::fmt::Display| {
            Status::internal(format_args!("unable to decode a stored object: {why}"))
        };
        let (mut object, _) = json::parse(bytes).map_err(|why| broken(&why))?;
        if !object.is_object() {
            return Err(broken(&"not an object"));
        }
        let schema = &self.compiled().structural;
        metadata::drop_malformed(&mut object, &resource(), metadata_type());
        object["apiVersion"] = self.api_version().into();
        prune::prune(&mut object, schema);
        defaults::prune_nulls(&mut object, Some(schema));
        metadata::drop_malformed(&mut object, schema, metadata_type());
        if object["metadata"]["generation"].as_i64().unwrap_or(0) == 0 {
            object["metadata"]["generation"] = json!(1);
        }
        self.default(&mut object)?;
        managed_fields::fold(&mut object);
        Ok(object)
    }

    /// An object as it is stored: in the definition's storage version, without a resourceVersion.
    ///
    /// # Errors
    /// It does not fit that version.
    pub fn encode(&self, object: &Value) -> Result<Bytes, Status> {
        let stored = self.definition.storage;
        let mut out = Vec::with_capacity(512);
        if stored == self.version {
            write(object, &mut out);
            return Ok(out.into());
        }
        let mut object = object.clone();
        let other = Custom { definition: self.definition.clone(), version: stored, tag: 0 };
        object["apiVersion"] = other.api_version().into();
        other.coerce(&mut object).map_err(Status::internal)?;
        write(&object, &mut out);
        Ok(out.into())
    }

    /// Whether bytes are stored in this version.
    pub fn is_stored_as(&self, bytes: &[u8]) -> bool {
        let stored = json::type_meta(bytes).ok();
        let stored = stored.as_ref().and_then(|(api_version, _)| gvk::split(api_version).ok());
        stored.is_some_and(|(_, version)| *version == *self.facts().name)
    }
}

/// A schema that says no more than that it is a resource.
fn resource() -> apiextensions::structural::Structural {
    apiextensions::structural::Structural { preserve_unknown: true, ..Default::default() }.as_root()
}

/// Brings the object's own metadata into normal form; the paths of what is unknown in it.
fn coerce_metadata(object: &mut Value) -> Result<Vec<String>, String> {
    let Some(fields) = object.as_object_mut() else { return Err("not an object".into()) };
    for field in ["apiVersion", "kind"] {
        if fields.get(field).is_some_and(|value| !value.is_string()) {
            return Err(format!(".{field} accessor error: not a string"));
        }
    }
    let given = match fields.remove("metadata") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(metadata) => metadata,
    };
    let (schema, ty) = metadata_type();
    let decoded = normal::conform(schema, ty, given).map_err(|why| why.to_string())?;
    let mut metadata = decoded.value;
    if metadata["creationTimestamp"].is_null()
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.remove("creationTimestamp");
    }
    fields.insert("metadata".into(), metadata);
    let path = |said: &String| format!("metadata.{}", said.split('"').nth(1).unwrap_or_default());
    Ok(decoded.unknown.iter().map(path).collect())
}

/// An object as JSON: apiVersion and kind first, so that they are found without reading on; then by name.
pub fn write(object: &Value, out: &mut Vec<u8>) {
    let object = &*managed_fields::unfolded(object);
    let none = Map::new();
    let fields = object.as_object().unwrap_or(&none);
    let first = ["apiVersion", "kind"];
    out.push(b'{');
    let known = first.iter().filter_map(|name| Some((*name, fields.get(*name)?)));
    let others = fields.iter().map(|(name, value)| (name.as_str(), value));
    for (at, (name, value)) in known.chain(others.filter(|(name, _)| !first.contains(name))).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(name, out);
        out.push(b':');
        json::write_value(value, out);
    }
    out.push(b'}');
}
