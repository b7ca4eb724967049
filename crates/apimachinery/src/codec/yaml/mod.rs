//! YAML as `sigs.k8s.io/yaml` has it: another spelling of JSON.
//!
//! Reading goes through the values of JSON (`yes` and `on` are true, as in YAML 1.1); writing sorts keys and
//! quotes what another reader could take for something else.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Decoded, Error, MAX_DEPTH, normal};
use crate::schema::{Schema, TypeId};

mod write;

pub use write::to_string;

/// Reads one document of this type into normal form. A key that is given twice is listed among the
/// duplicates in upstream's words (`yaml: unmarshal errors:\n  line 3: key "a" already set in map`).
pub fn decode(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<Decoded, Error> {
    let (value, duplicate) = parse(bytes)?;
    let mut decoded = normal::conform(schema, ty, value)?;
    if let Some(text) = duplicate {
        decoded.duplicates.push(text.clone());
        decoded.strict.insert(0, text);
    }
    Ok(decoded)
}

/// Reads one document as JSON, and what is to be said of the first key that is given twice; its last value
/// counts.
pub fn parse(bytes: &[u8]) -> Result<(Value, Option<String>), Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::Syntax(format!("yaml: invalid UTF-8 at byte {}", e.valid_up_to())))?;
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok((value, None)),
        Err(error) => {
            let serde_saphyr::Error::DuplicateMappingKey { key, location } = error.without_snippet() else {
                return Err(syntax(&error));
            };
            let key = key.as_deref().unwrap_or_default();
            let line = location.line();
            let said = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
            let value = read(text, DuplicateKeyPolicy::LastWins).map_err(|e| syntax(&e))?;
            Ok((value, Some(said)))
        }
    }
}

fn read(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    // a level takes far more stack here than in JSON, more still without optimisation;
    // aliases multiply what is written once: ten thousand nodes of them serve every real manifest
    let options = serde_saphyr::options! {
        duplicate_keys: duplicates,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH / 3,
            // objects of one key weigh most: so many of them take 45 MiB
            max_nodes: 200_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
        },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn syntax(error: &serde_saphyr::Error) -> Error {
    let line = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
    let text = error.without_snippet().to_string();
    Error::Syntax(format!("yaml: {line}{}", text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
