//! Label and field selectors.

use apimachinery::labels::{LabelSelector, Selector};
use apimachinery::{fields, labels};

use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = bounded(|| Selector::parse(&text));
    let _ = bounded(|| fields::Selector::parse(&text));
    if is_large(bytes) {
        return;
    }
    by_label(&text);
    by_field(&text);
}

fn by_label(text: &str) {
    if let Ok(selector) = Selector::parse(text) {
        let written = selector.to_string();
        assert_eq!(Selector::parse(&written), Ok(selector.clone()), "{text:?} is written as {written:?}");
        let _ = selector.matches(|_| None);
        let _ = selector.matches(|_| Some("7"));
        for requirement in selector.requirements() {
            if let Some(value) = selector.requires_exact_match(requirement.key()) {
                let other = if value == "a" { "b" } else { "a" };
                assert!(!selector.matches(|_| Some(other)), "{text:?} wants {value:?} and takes {other:?}");
            }
        }
        let both = selector.clone().and(selector.clone());
        for label in [None, Some(""), Some("a"), Some("7")] {
            assert_eq!(both.matches(|_| label), selector.matches(|_| label), "{text:?} twice, on {label:?}");
        }
    }
    if let Ok(structured) = LabelSelector::parse(text) {
        let selector = structured.to_selector().expect("a selector that was read from text");
        let direct = Selector::parse(text).expect("it was read before");
        // `a=x,a=y` matches nothing, which a map of labels cannot say
        let keys: Vec<_> = direct.requirements().iter().map(labels::Requirement::key).collect();
        if keys.windows(2).all(|pair| pair[0] != pair[1]) {
            for label in [None, Some(""), Some("a"), Some("7")] {
                assert_eq!(selector.matches(|_| label), direct.matches(|_| label), "{text:?} on {label:?}");
            }
        }
        let _ = labels::format(Some(&structured));
    }
}

fn by_field(text: &str) {
    let Ok(selector) = fields::Selector::parse(text) else { return };
    let written = selector.to_string();
    let again = fields::Selector::parse(&written);
    let again = again.unwrap_or_else(|e| panic!("{text:?} is written as {written:?}: {e}"));
    assert_eq!(terms(&again), terms(&selector), "{text:?} is written as {written:?}");
    for value in ["", "a", "\\", "a,b=c"] {
        assert_eq!(again.matches(|_| Some(value)), selector.matches(|_| Some(value)), "{text:?}");
        let escaped = fields::Selector::equals("metadata.name", value).to_string();
        let read = fields::Selector::parse(&escaped).expect("an escaped value");
        assert_eq!(read.requires_exact_match("metadata.name"), Some(value));
    }
}

/// They come in the order of their text, which escaping may change.
fn terms(selector: &fields::Selector) -> Vec<(&str, bool, &str)> {
    let mut terms: Vec<_> = selector.terms().iter().map(|t| (&*t.field, t.not, &*t.value)).collect();
    terms.sort_unstable();
    terms
}
