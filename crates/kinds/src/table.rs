//! For tests: one table per kind, of patches to a good object and the faults that they bring.

use apimachinery::field::ErrorList;
use apimachinery::patch::merge;
use serde_json::Value;

/// A good object of a kind, in which patches make faults.
pub struct Table {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    good: Value,
}

impl Table {
    /// Checks that the object is good, new and unchanged.
    pub fn new(group: &'static str, version: &'static str, kind: &'static str, good: Value) -> Table {
        let table = Table { group, version, kind, good };
        table.create(&[(serde_json::json!({}), &[])]);
        table
    }

    /// The good object with a merge patch, in normal form and with defaults, as it comes in with a request.
    pub fn object(&self, patch: &Value) -> Value {
        let id = api::object_type(self.group, self.version, self.kind).expect("a built-in kind");
        let mut object = merge::apply(self.good.clone(), patch.clone()).expect("a merge patch");
        apimachinery::codec::normal::normalize(api::schema(), id, &mut object).expect("a good shape");
        crate::defaults::apply(id, &mut object);
        object
    }

    fn strategy(&self) -> &'static crate::strategy::Strategy {
        crate::strategy(self.group, self.kind)
    }

    /// Patches and the faults (`path: type`) of a new object.
    #[track_caller]
    pub fn create(&self, rows: &[(Value, &[&str])]) {
        for (patch, expect) in rows {
            let object = self.object(patch);
            let mut errors = ErrorList::new();
            (self.strategy().validate)(&object, &mut errors);
            assert_eq!(shown(&errors), *expect, "{patch}: {errors:?}");
        }
    }

    /// Patches and the faults of the good object's change.
    #[track_caller]
    pub fn update(&self, rows: &[(Value, &[&str])]) {
        for (patch, expect) in rows {
            self.change(&serde_json::json!({}), patch, "", expect);
        }
    }

    /// One change through a subresource, from one patched object to another; `prepare_for_update` comes first.
    #[track_caller]
    pub fn change(&self, old: &Value, new: &Value, subresource: &str, expect: &[&str]) {
        let (old, mut prepared) = (self.object(old), self.object(new));
        (self.strategy().prepare_for_update)(&mut prepared, &old, subresource);
        let mut errors = ErrorList::new();
        (self.strategy().validate_update)(&prepared, &old, subresource, &mut errors);
        assert_eq!(shown(&errors), *expect, "{new}: {errors:?}");
    }

    /// What the client is warned of when it creates the patched object.
    #[track_caller]
    pub fn warnings(&self, patch: Value, expect: &[&str]) {
        assert_eq!((self.strategy().warnings)(&self.object(&patch), None, ""), *expect, "{patch}");
    }
}

fn shown(errors: &ErrorList) -> Vec<String> {
    errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect()
}
