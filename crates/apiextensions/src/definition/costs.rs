//! What rules cost at most, all together.

use apimachinery::field::{Error, ErrorList, Path};

/// What one rule may cost.
pub(super) const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost.
const TOTAL_LIMIT: u64 = 100_000_000;
/// How many rules are named if all are too expensive together.
const NAMED: usize = 4;

/// The cost of rules so far.
#[derive(Default)]
pub(super) struct Costs {
    total: u64,
    /// The most expensive ones with where they stand, the greatest first.
    most: Vec<(String, u64)>,
}

impl Costs {
    pub fn observe(&mut self, path: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost < TOTAL_LIMIT / 100 {
            return;
        }
        let at = self.most.partition_point(|(_, known)| *known >= cost);
        if at < NAMED {
            self.most.insert(at, (path.text(), cost));
            self.most.truncate(NAMED);
        }
    }

    /// Whether all together are too expensive; `path` is where the schema stands.
    pub fn check(&self, path: &Path<'_>, errors: &mut ErrorList) {
        if self.total <= TOTAL_LIMIT {
            return;
        }
        for (at, _) in &self.most {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(&Path::new(at), why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(path, message(what, self.total, TOTAL_LIMIT)));
    }
}

/// By how much something is too expensive.
pub(super) fn message(what: &str, cost: u64, limit: u64) -> String {
    let exceeded = cost as f64 / limit as f64;
    let factor = match exceeded {
        _ if exceeded > 100.0 => "more than 100x".to_owned(),
        _ if exceeded < 1.5 => format!("{exceeded:.6}x"),
        _ => format!("{exceeded:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
