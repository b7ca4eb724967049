//! What cells are made of.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A time span as humans read it, in two units at most: `5m10s`, `3d4h`, `2y11d`. Spans that lie more than
/// a second in the future are `<invalid>`. The steps are those of upstream's `duration.HumanDuration`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, unit: &str, small: i64, sub: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{sub}"),
    };
    match () {
        () if seconds < -1 => "<invalid>".into(),
        () if seconds < 0 => "0s".into(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// The time since `timestamp` (RFC 3339 text), or `<unknown>` if there is none.
pub fn age(timestamp: &Value, now: Timestamp) -> Value {
    since(timestamp, now).into()
}

pub(super) fn since(timestamp: &Value, now: Timestamp) -> String {
    time(timestamp)
        .map_or_else(|| "<unknown>".into(), |then| human_duration(now.duration_since(then).as_secs()))
}

pub(super) fn time(timestamp: &Value) -> Option<Timestamp> {
    timestamp.as_str()?.parse().ok()
}

/// The time since the object was created.
pub(super) fn created(object: &Value, now: Timestamp) -> Value {
    age(&object["metadata"]["creationTimestamp"], now)
}

pub(super) fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"])
}

pub(super) fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text, empty if absent.
pub(super) fn text(value: &Value) -> Value {
    string(value).into()
}

/// A text, or another if it is absent or empty.
pub(super) fn text_or(value: &Value, other: &str) -> Value {
    Some(string(value)).filter(|t| !t.is_empty()).unwrap_or(other).into()
}

/// A text, or another if it is absent. An empty text stays.
pub(super) fn given_or(value: &Value, other: &str) -> Value {
    value.as_str().unwrap_or(other).into()
}

/// A whole number, zero if absent.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// How many elements a list or map has.
pub(super) fn count(value: &Value) -> i64 {
    let length = value.as_array().map(Vec::len).or_else(|| value.as_object().map(Map::len));
    length.unwrap_or(0) as i64
}

/// The field of each element, joined by commas.
pub(super) fn join(values: &Value, field: &str) -> String {
    list(values).iter().map(|value| string(&value[field])).collect::<Vec<_>>().join(",")
}

/// A list of texts, joined by commas.
pub(super) fn joined(values: &Value) -> String {
    list(values).iter().map(string).collect::<Vec<_>>().join(",")
}

/// Names and images of the containers of a pod template.
pub(super) fn containers(template: &Value) -> [Value; 2] {
    let containers = &template["spec"]["containers"];
    [join(containers, "name").into(), join(containers, "image").into()]
}

/// The wide cells of what makes pods from a template: containers, images, and which pods are its own.
pub(super) fn workload(spec: &Value) -> [Value; 3] {
    let [names, images] = containers(&spec["template"]);
    [names, images, selector(&spec["selector"])]
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(labels: &Value) -> Value {
    let mut pairs: Vec<String> = map(labels).map(|(key, value)| format!("{key}={}", string(value))).collect();
    pairs.sort_unstable();
    match pairs.is_empty() {
        true => "<none>".into(),
        false => pairs.join(",").into(),
    }
}

/// A label selector as text; `<none>` if it selects everything or is absent.
pub(super) fn selector(value: &Value) -> Value {
    let selector = apimachinery::labels::LabelSelector::from_value(value);
    apimachinery::labels::format(selector.as_ref()).into()
}

/// The first condition of this type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|c| c["type"] == kind)
}

pub(super) fn is_true(condition: Option<&Value>) -> bool {
    condition.is_some_and(|c| c["status"] == "True")
}

/// At most `max` of the texts, and how many more there are.
pub(super) fn with_more(all: &[String], max: usize) -> String {
    let shown = all.get(..max.min(all.len())).unwrap_or_default().join(",");
    match all.len() > max {
        true => format!("{shown} + {} more...", all.len() - max),
        false => shown,
    }
}

/// `Name.group`, or the name alone in the core group.
pub(super) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_string() } else { format!("{name}.{group}") }
}

/// Whether an annotation says `true`.
pub(super) fn annotated(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"][key] == "true"
}
