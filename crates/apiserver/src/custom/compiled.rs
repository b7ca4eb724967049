//! What is worked out of a version's part of a definition when the version is first used.

use std::fmt;

use apiextensions::{
    expressions::Rules,
    structural::{Compiler, Structural},
};
use apimachinery::jsonpath::JsonPath;
use serde_json::Value;

use super::{columns::Columns, scale::Paths};

/// A version, ready for use.
pub struct Compiled {
    /// The schema, as that of an object without its metadata.
    pub structural: Structural,
    pub rules: Rules,
    pub columns: Columns,
    /// `selectableFields`: the names that field selectors use, and where the values are.
    pub selectable: Vec<(Box<str>, JsonPath)>,
    pub scale: Option<Paths>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Compiled {
    /// Reads one of `spec.versions`.
    pub(super) fn new(version: &Value, compiler: &mut Compiler) -> Compiled {
        let schema = version["schema"].get("openAPIV3Schema");
        // A schema from before schemas had to be structural says nothing that could be relied on.
        let structural = schema
            .and_then(|schema| compiler.compile(schema).ok())
            .unwrap_or_else(|| Structural { preserve_unknown: true, ..Structural::default() });
        let paths = version["selectableFields"].as_array().into_iter().flatten();
        let selectable = paths.filter_map(|field| {
            let path = field["jsonPath"].as_str()?;
            Some((path.trim_start_matches('.').into(), JsonPath::parse(path).ok()?))
        });
        Compiled {
            rules: Rules::compile(&structural),
            structural,
            columns: Columns::new(&version["additionalPrinterColumns"]),
            selectable: selectable.collect(),
            scale: Paths::new(&version["subresources"]["scale"]),
        }
    }
}
