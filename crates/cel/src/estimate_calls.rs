//! The estimates of calls of the extensions' and Kubernetes' functions.

use crate::ast::Literal;
use crate::cost::{LIST, OBJECT, REGEX, TRAVERSAL};
use crate::estimate::{ASKING, Argument, Coster, Range};
use crate::types::Type;

/// Characters of the longest regular expression of a named format.
const FORMAT_REGEX: f64 = 128.0;
/// Bytes of an address.
const ADDRESS: Range = Range::new(4, 16);
const ONE: Range = Range::fixed(1);

pub(crate) struct Call<'a, 'c> {
    pub coster: &'a Coster<'c>,
    pub function: &'a str,
    pub overload: &'a str,
    pub target: Option<&'a Argument<'c>>,
    pub args: &'a [Argument<'c>],
}

/// A cost, and the size of the result if it is known.
type Found = Option<(Range, Option<Range>)>;

fn cost(cost: Range) -> Found {
    Some((cost, None))
}

impl Call<'_, '_> {
    fn size(&self, index: usize) -> Option<Range> {
        self.args.get(index).map(|it| self.coster.size_of(it))
    }

    fn target_size(&self) -> Option<Range> {
        self.target.map(|it| self.coster.size_of(it))
    }

    /// None where the language's own rules apply.
    pub fn estimate(&self) -> Found {
        self.extension().or_else(|| self.kubernetes())
    }

    /// The sets and lists extensions.
    fn extension(&self) -> Found {
        let whole = |it: Range, factor: f64| {
            let made = it.scaled(factor).plus(Range::fixed(1 + LIST));
            Some((made, Some(it)))
        };
        match self.overload {
            "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list" => {
                let factor = if self.overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
                cost(self.size(0)?.times(self.size(1)?).scaled(factor).plus(ONE))
            }
            "list_slice" => {
                let start = self.number(0, 0);
                let end = self.number(1, self.target_size()?.max);
                whole(Range::fixed(end.wrapping_sub(start)), 1.0)
            }
            "lists_range" => whole(Range::fixed(self.number(0, u64::MAX)), 1.0),
            "list_reverse" => whole(self.target_size()?, 1.0),
            "list_flatten" => whole(self.target_size()?, 1.0),
            "list_flatten_int" => whole(self.target_size()?, self.number(0, u64::MAX) as f64),
            "list_distinct" => {
                let size = self.target_size()?;
                whole(size.times(size), 2.0)
            }
            it if it.starts_with("list_") && it.ends_with("_sort") => {
                let size = self.target_size()?;
                whole(size.times(size), sort_factor(it))
            }
            it if it.starts_with("list_") && it.ends_with("_sortByAssociatedKeys") => {
                let size = self.size(0)?;
                whole(size.times(size), sort_factor(it))
            }
            _ => None,
        }
    }

    /// An integer that is written out.
    fn number(&self, index: usize, otherwise: u64) -> u64 {
        match self.args.get(index).and_then(|it| self.coster.literal(it.id)) {
            Some(Literal::Int(it)) => (*it).max(0) as u64,
            _ => otherwise,
        }
    }

    fn kubernetes(&self) -> Found {
        match self.function {
            "check" => cost(ASKING),
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => cost(ONE),
            "fieldSelector" | "labelSelector" => {
                let length = self.size(0)?;
                let requirements = length.scaled(0.5).scaled((LIST + OBJECT) as f64);
                cost(Range::fixed(LIST).plus(length.scaled(TRAVERSAL)).plus(requirements))
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => self.walk(),
            "url" | "jsonpatch.escapeKey" if self.args.len() == 1 => {
                let size = self.size(0)?;
                Some((size.scaled(TRAVERSAL), Some(size)))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.target_size()?;
                Some((size.scaled(TRAVERSAL), Some(size)))
            }
            "replace" => self.replace(),
            "split" => {
                let size = self.target_size()?;
                let max = match self.args.get(1).and_then(|it| self.coster.literal(it.id)) {
                    Some(Literal::Int(most)) => *most as u64,
                    _ => size.max,
                };
                Some((size.scaled(2.0 * TRAVERSAL), Some(Range::new(0, max))))
            }
            "join" => self.join(),
            "find" | "findAll" => {
                let size = self.target_size()?;
                let through = size.plus(ONE).scaled(TRAVERSAL);
                Some((through.times(self.size(0)?.scaled(REGEX)), Some(Range::new(0, size.max))))
            }
            "ip" if self.overload == "cidr_ip" => cost(ONE),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                cost(self.size(0)?.scaled(TRAVERSAL))
            }
            "ip.isCanonical" => cost(self.size(0)?.scaled(2.0 * TRAVERSAL)),
            "containsIP" | "containsCIDR" => self.contains(),
            "validate" => cost(self.size(0)?.scaled(TRAVERSAL).scaled(FORMAT_REGEX * REGEX)),
            "_==_" => self.equal(),
            _ => None,
        }
    }

    fn walk(&self) -> Found {
        let target = self.target?;
        let size = self.coster.size_of(target);
        let Some(element) = parameter(target.kind) else { return cost(size.scaled(TRAVERSAL)) };
        let mut each = ONE;
        if matches!(element, Type::String | Type::Bytes) {
            each = each.plus(self.coster.item_size(target).scaled(TRAVERSAL));
        }
        cost(size.times(each))
    }

    fn replace(&self) -> Found {
        let size = self.target_size()?;
        let (old, new) = (self.size(0)?, self.size(1)?);
        let (mut count, mut kept) = (Range::default(), Range::default());
        let divide = |one: u64, other: u64| (one as f64 / other as f64).ceil() as u64;
        if old.min == 0 {
            count.max = size.max.saturating_add(1);
            kept.max = size.max;
        } else if new.max <= old.min {
            kept.max = size.max;
        } else {
            count.max = divide(size.max, old.min);
        }
        if old.max == 0 {
            count.min = size.min.saturating_add(1);
            kept.min = size.min;
        } else if old.max <= new.min {
            kept.min = size.min;
        } else {
            count.min = divide(size.min, old.max);
        }
        Some((size.scaled(2.0 * TRAVERSAL), Some(count.times(new).plus(kept))))
    }

    fn join(&self) -> Found {
        let target = self.target?;
        let count = self.coster.size_of(target);
        let mut size = Range::default();
        if parameter(target.kind).is_some() {
            size = count.times(self.coster.item_size(target));
        }
        if let Some(separator) = self.size(0) {
            let between = Range::new(count.min.saturating_sub(1), count.max.saturating_sub(1));
            size = size.plus(separator.times(between));
        }
        Some((size.scaled(TRAVERSAL), Some(size)))
    }

    fn contains(&self) -> Found {
        let mut sum = ADDRESS.plus(ADDRESS).scaled(TRAVERSAL);
        if self.function == "containsCIDR" {
            sum = sum.plus(ADDRESS.scaled(TRAVERSAL)).plus(ONE);
        }
        if matches!(self.overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
            sum = sum.plus(self.size(0)?.scaled(TRAVERSAL));
        }
        cost(sum)
    }

    fn equal(&self) -> Found {
        let [one, other] = self.args else { return None };
        if one.kind != other.kind {
            return None;
        }
        match one.kind {
            Type::Opaque(name, _) if matches!(&**name, "net.IP" | "net.CIDR") => cost(ONE),
            Type::Struct(name) => match &**name {
                "kubernetes.Quantity" | "kubernetes.Semver" => cost(ONE),
                "kubernetes.NamedFormat" => cost(Range::new(1, 64).scaled(TRAVERSAL)),
                "kubernetes.URL" => {
                    let size = self.coster.computed(other).unwrap_or(ONE);
                    cost(Range::new(1, size.max).scaled(TRAVERSAL))
                }
                it if it.starts_with("kubernetes.authorization.") => cost(ONE),
                _ => None,
            },
            _ => None,
        }
    }
}

fn sort_factor(overload: &str) -> f64 {
    let text = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
    if text { 2.0 + TRAVERSAL } else { 2.0 }
}

/// The first parameter of a type that has some.
fn parameter(kind: &Type) -> Option<&Type> {
    match kind {
        Type::List(element) => Some(element),
        Type::Map(pair) => Some(&pair.0),
        Type::Opaque(_, inner) => inner.as_deref(),
        _ => None,
    }
}
