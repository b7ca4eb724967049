//! A structural schema as expressions see it.

use cel::{ListType, Schema};

use crate::structural::{Kind, Limits, Structural};

impl Structural {
    fn limit(&self, which: impl Fn(&Limits) -> Option<i64>) -> Option<u64> {
        self.limits.as_deref().and_then(which).map(|limit| limit.max(0) as u64)
    }
}

impl Schema for Structural {
    fn kind(&self) -> &str {
        self.kind.map_or("", Kind::name)
    }

    fn nullable(&self) -> bool {
        self.nullable
    }

    fn int_or_string(&self) -> bool {
        self.int_or_string
    }

    fn embedded(&self) -> bool {
        self.embedded
    }

    fn has_default(&self) -> bool {
        self.default.is_some()
    }

    fn format(&self) -> &str {
        self.limits.as_deref().map_or("", |limits| &limits.format)
    }

    fn max_length(&self) -> Option<u64> {
        self.limit(|limits| limits.max_length)
    }

    fn max_items(&self) -> Option<u64> {
        self.limit(|limits| limits.max_items)
    }

    fn max_properties(&self) -> Option<u64> {
        self.limit(|limits| limits.max_properties)
    }

    fn longest_choice(&self) -> Option<u64> {
        let values = &self.limits.as_deref()?.one_of_values;
        values.iter().map(|value| value.as_str().map_or(0, str::len) as u64).max()
    }

    fn list_type(&self) -> ListType {
        match self.list_type {
            Some(apimachinery::schema::ListType::Set) => ListType::Set,
            Some(apimachinery::schema::ListType::Map) => {
                ListType::Map(self.list_keys.iter().map(ToString::to_string).collect())
            }
            _ => ListType::Atomic,
        }
    }

    fn items(&self) -> Option<&Structural> {
        self.items.as_deref()
    }

    fn additional(&self) -> Option<&Structural> {
        self.additional.schema()
    }

    fn properties(&self) -> impl Iterator<Item = (&str, &Structural)> {
        self.properties.iter().map(|(name, property)| (&**name, property))
    }

    fn required(&self) -> Vec<&str> {
        self.limits.iter().flat_map(|limits| limits.required.iter().map(|name| &**name)).collect()
    }
}

/// Whether values of a schema have a type that expressions know; those of others are left out of validation.
pub(super) fn is_declared(schema: &Structural) -> bool {
    let below = |schema: &Structural| is_declared(schema);
    match schema.kind {
        _ if schema.int_or_string => true,
        Some(Kind::Array) => schema.items.as_deref().is_some_and(below),
        Some(Kind::Object) => schema.additional.schema().is_none_or(below),
        Some(_) => true,
        None => schema.embedded && !schema.properties.is_empty(),
    }
}
