//! What differs between the sides, with everything taken away that differs between any two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::side::{Make, log_of};

const COMPONENTS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
/// Examples of one difference.
const SHOWN: usize = 160;

type Pair<T> = [T; 2];

/// The report in Markdown, of what the sides have left in `out`.
pub fn report(out: &Path) -> Result<String> {
    let mut text = String::new();
    let sides = [Make::Corten, Make::Upstream]
        .into_iter()
        .filter(|make| out.join(make.name()).join("state.json").exists());
    let sides: Vec<Make> = sides.collect();
    let [corten, upstream] = sides[..] else {
        return Ok("only one side has been run\n".into());
    };
    let both = [corten, upstream];
    figures(&mut text, &[read(out, corten, "figures.json")?, read(out, upstream, "figures.json")?])?;
    states(&mut text, &[read(out, corten, "state.json")?, read(out, upstream, "state.json")?])?;
    for component in COMPONENTS {
        let logs = [log_of(out, both[0], component)?, log_of(out, both[1], component)?];
        errors(&mut text, component, &logs)?;
    }
    Ok(text)
}

fn read(out: &Path, make: Make, name: &str) -> Result<Value> {
    let path = out.join(make.name()).join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn figures(text: &mut String, sides: &Pair<Value>) -> Result<()> {
    writeln!(text, "## Figures\n\n| process | corten | upstream |\n| --- | --- | --- |")?;
    let names: BTreeSet<&str> = sides
        .iter()
        .flat_map(|side| list(side, "processes"))
        .filter_map(|process| process["name"].as_str())
        .collect();
    for name in names {
        let cell = |side: &Value| {
            list(side, "processes").iter().find(|process| process["name"] == name).map_or(
                "–".into(),
                |process| {
                    format!(
                        "{:.1} s, {:.0} MiB ({:.0} anonymous), ended by itself: {}",
                        process["processorSeconds"].as_f64().unwrap_or(0.0),
                        process["residentMiB"].as_f64().unwrap_or(0.0),
                        process["anonymousMiB"].as_f64().unwrap_or(0.0),
                        process["ended"],
                    )
                },
            )
        };
        writeln!(text, "| {name} | {} | {} |", cell(&sides[0]), cell(&sides[1]))?;
    }
    writeln!(
        text,
        "\n| seconds | corten: median, most | upstream: median, most | times |\n| --- | --- | --- | --- |"
    )?;
    let mut order: Vec<&str> = Vec::new();
    for figure in list(&sides[1], "figures").iter().chain(list(&sides[0], "figures")) {
        let what = figure["what"].as_str().unwrap_or_default();
        if !order.contains(&what) {
            order.push(what);
        }
    }
    for what in order {
        let times = |side: &Value| {
            let mut times: Vec<f64> = list(side, "figures")
                .iter()
                .filter(|figure| figure["what"] == what)
                .filter_map(|figure| figure["seconds"].as_f64())
                .collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let cell = |times: &[f64]| match times {
            [] => "–".to_owned(),
            [one] => format!("{one:.1}"),
            [.., last] => format!("{:.1}, {last:.1}", times[times.len() / 2]),
        };
        let (corten, upstream) = (times(&sides[0]), times(&sides[1]));
        writeln!(text, "| {what} | {} | {} | {} |", cell(&corten), cell(&upstream), upstream.len())?;
    }
    let resources = |side: &Value| -> BTreeSet<String> {
        list(side, "resources").iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (corten, upstream) = (resources(&sides[0]), resources(&sides[1]));
    writeln!(
        text,
        "\nlisted only by corten: {:?}; only by upstream: {:?}",
        &corten - &upstream,
        &upstream - &corten
    )?;
    Ok(())
}

/// Objects by what names them in both runs; several, if only a random part of their names told them apart.
type Objects = BTreeMap<String, Vec<BTreeMap<String, String>>>;

fn states(text: &mut String, states: &Pair<Value>) -> Result<()> {
    let [corten, upstream] = [objects(&states[0]), objects(&states[1])];
    writeln!(text, "\n## Objects: {} and {}", count(&corten), count(&upstream))?;
    writeln!(text, "\n| object | corten | upstream |\n| --- | --- | --- |")?;
    let names: BTreeSet<&String> = corten.keys().chain(upstream.keys()).collect();
    // Kind and path, with how many objects differ there, and one of them.
    let mut paths: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    for name in names {
        let none = Vec::new();
        let (here, there) = (corten.get(name).unwrap_or(&none), upstream.get(name).unwrap_or(&none));
        if here.len() != there.len() {
            writeln!(text, "| {name} | {} | {} |", here.len(), there.len())?;
        }
        for (here, there) in here.iter().zip(there) {
            let all: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
            for path in all.into_iter().filter(|path| here.get(*path) != there.get(*path)) {
                let kind = name.split(' ').next().unwrap_or_default().to_owned();
                let entry = paths.entry((kind, path.clone())).or_default();
                entry.0 += 1;
                let show = |value: Option<&String>| {
                    value.map_or("absent".into(), |value| value.chars().take(SHOWN).collect::<String>())
                };
                if entry.1.is_empty() {
                    entry.1 = format!("{name}: {} / {}", show(here.get(path)), show(there.get(path)));
                }
            }
        }
    }
    writeln!(text, "\n| kind and path | objects | the first: corten / upstream |\n| --- | --- | --- |")?;
    for ((kind, path), (count, example)) in paths {
        writeln!(text, "| {kind} {path} | {count} | {} |", example.replace('|', "\\|"))?;
    }
    writeln!(text, "\n### Events\n\n| of, reason, by | corten | upstream |\n| --- | --- | --- |")?;
    let [here, there] = [events(&states[0]), events(&states[1])];
    let all: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    for event in all {
        let cell = |side: &BTreeMap<String, u64>| side.get(event).copied().unwrap_or(0);
        writeln!(text, "| {event} | {} | {} |", cell(&here), cell(&there))?;
    }
    Ok(())
}

fn count(objects: &Objects) -> usize {
    objects.values().map(Vec::len).sum()
}

fn objects(state: &Value) -> Objects {
    let mut objects = Objects::new();
    for item in list(state, "items") {
        let kind = item["kind"].as_str().unwrap_or_default();
        if kind == "Event" {
            continue;
        }
        let meta = &item["metadata"];
        let name = format!(
            "{kind} {}/{}",
            meta["namespace"].as_str().unwrap_or_default(),
            plain(meta["name"].as_str().unwrap_or_default())
        );
        let mut flat = BTreeMap::new();
        flatten(&mut flat, String::new(), item, kind);
        flat.retain(|path, _| !is_own_port(path, item));
        objects.entry(name).or_default().push(flat);
    }
    objects.values_mut().for_each(|same| same.sort());
    objects
}

/// What no two runs have in common, and which of two equal volumes was first.
const OWN: [&str; 12] = [
    ".metadata.uid",
    ".metadata.resourceVersion",
    ".metadata.creationTimestamp",
    ".metadata.managedFields",
    ".metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
    ".spec.extra.authentication.kubernetes.io/credential-id",
    ".spec.renewTime",
    ".spec.request",
    ".spec.volumeName",
    ".spec.claimRef.name",
    ".spec.claimRef.resourceVersion",
    ".status.certificate",
];

/// The port of the API server, in the Service `kubernetes` and what belongs to it.
fn is_own_port(path: &str, item: &Value) -> bool {
    item["metadata"]["name"] == "kubernetes" && (path.ends_with(".port") || path.ends_with(".targetPort"))
}

fn flatten(flat: &mut BTreeMap<String, String>, path: String, value: &Value, kind: &str) {
    if path == ".metadata.managedFields" {
        for entry in value.as_array().map(Vec::as_slice).unwrap_or_default() {
            let name =
                format!("{path}[{} {} {}]", entry["manager"], entry["operation"], entry["subresource"]);
            flat.insert(name, normal(&entry["fieldsV1"].to_string(), kind));
        }
    }
    if OWN.contains(&path.as_str()) {
        return;
    }
    match value {
        Value::Object(fields) => {
            if fields.is_empty() {
                flat.insert(path.clone(), "{}".into());
            }
            for (name, field) in fields {
                flatten(flat, format!("{path}.{name}"), field, kind);
            }
        }
        Value::Array(items) => {
            let mut sorted: Vec<&Value> = items.iter().collect();
            if path == ".status.conditions" || path == ".endpoints" {
                sorted.sort_by_key(|item| normal(&item.to_string(), kind));
            }
            for (index, item) in sorted.into_iter().enumerate() {
                let index = item["type"]
                    .as_str()
                    .filter(|_| path.ends_with("onditions"))
                    .map_or(index.to_string(), str::to_owned);
                flatten(flat, format!("{path}[{index}]"), item, kind);
            }
        }
        Value::String(text) => {
            flat.insert(path, normal(text, kind));
        }
        other => {
            flat.insert(path, other.to_string());
        }
    }
}

/// How often each was told, by what it is of, why, and who told it.
fn events(state: &Value) -> BTreeMap<String, u64> {
    let mut events = BTreeMap::new();
    for event in list(state, "items").iter().filter(|item| item["kind"] == "Event") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let by = [&event["source"]["component"], &event["reportingComponent"]].map(text);
        let by = by.into_iter().find(|by| !by.is_empty()).unwrap_or_default();
        let name = format!(
            "{} {} {}, {by}",
            event["involvedObject"]["kind"].as_str().unwrap_or_default(),
            text(&event["type"]),
            text(&event["reason"])
        );
        let times = event["count"].as_u64().or(event["series"]["count"].as_u64()).unwrap_or(1);
        *events.entry(name).or_default() += times;
    }
    events
}

/// A text without its uids, times, addresses, certificates, random endings and nodes.
fn normal(text: &str, kind: &str) -> String {
    if text.contains("-----BEGIN") {
        return "<pem>".into();
    }
    let mut words = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\0']) {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | ':' | '_') {
            word.push(letter);
            continue;
        }
        words.push_str(&plain_word(&word, kind));
        word.clear();
        if letter != '\0' {
            words.push(letter);
        }
    }
    words
}

fn plain_word(word: &str, kind: &str) -> String {
    let (start, core) = word.split_at(word.len() - word.trim_start_matches([':', '.', '-']).len());
    let core = core.trim_end_matches([':', '.']);
    let end = &word[start.len() + core.len()..];
    let named = word_kind(core).map_or_else(
        || match core.strip_prefix("hollow-") {
            Some(number) if !["Node", "Lease"].contains(&kind) && digits(number) => "<node>".into(),
            _ => plain(core),
        },
        str::to_owned,
    );
    format!("{start}{named}{end}")
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn word_kind(word: &str) -> Option<&'static str> {
    let parts: Vec<&str> = word.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let [a, b, c, d, e] = parts[..]
        && [a.len(), b.len(), c.len(), d.len()] == [8, 4, 4, 4]
        && e.len() == 12
        && parts.iter().all(hex)
    {
        return Some("<uid>");
    }
    if word.split('.').count() == 4 && word.split('.').all(digits) {
        return Some("<address>");
    }
    let time = word.strip_suffix('Z').unwrap_or(word);
    if time.len() >= 19 && time.as_bytes().get(10) == Some(&b'T') && time.as_bytes().get(4) == Some(&b'-') {
        return Some("<time>");
    }
    // The identity of a leader: host, then a uid.
    if let Some((_, uid)) = word.rsplit_once('_')
        && word_kind(uid) == Some("<uid>")
    {
        return Some("<identity>");
    }
    None
}

/// A name without its random ending: five letters of those that names are made of, or the minutes of a CronJob.
fn plain(name: &str) -> String {
    const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
    match name.rsplit_once('-') {
        Some((rest, end)) if end.len() == 5 && end.chars().all(|letter| LETTERS.contains(letter)) => {
            format!("{}-*", plain(rest))
        }
        Some((rest, end)) if end.len() >= 8 && digits(end) => format!("{rest}-*"),
        _ => name.to_owned(),
    }
}

/// Lines of warning and error, by where they come from.
fn errors(text: &mut String, component: &str, logs: &Pair<String>) -> Result<()> {
    let [here, there] = [lines(&logs[0]), lines(&logs[1])];
    let all: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    writeln!(text, "\n## {component}: lines of warning and error\n")?;
    writeln!(text, "| where | corten | upstream | the first |\n| --- | --- | --- | --- |")?;
    for place in all {
        let cell = |side: &BTreeMap<String, (usize, String)>| side.get(place).map_or(0, |found| found.0);
        let example = here.get(place).or(there.get(place)).map(|found| found.1.as_str()).unwrap_or_default();
        let example: String = example.chars().take(2 * SHOWN).collect();
        writeln!(text, "| {place} | {} | {} | {} |", cell(&here), cell(&there), example.replace('|', "\\|"))?;
    }
    let panics = logs.each_ref().map(|log| log.lines().filter(|line| line.contains("panic")).count());
    let lost = logs.each_ref().map(|log| {
        log.lines().filter(|line| line.contains("lost lease") || line.contains("leaderelection lost")).count()
    });
    writeln!(
        text,
        "\npanics: {} and {}; leader elections lost: {} and {}",
        panics[0], panics[1], lost[0], lost[1]
    )?;
    Ok(())
}

fn lines(log: &str) -> BTreeMap<String, (usize, String)> {
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for line in log.lines() {
        if let Some((place, rest)) = klog(line) {
            // What differs within one place by kind is told apart by the reflector's kind.
            let entry = found.entry(place).or_insert_with(|| (0, normal(rest, "")));
            entry.0 += 1;
        }
    }
    found
}

/// Severity and place of a line that warns or worse, and what it says.
fn klog(line: &str) -> Option<(String, &str)> {
    let severity = line.chars().next().filter(|letter| "EWF".contains(*letter))?;
    if !digits(line.get(1..5)?) {
        return None;
    }
    let (head, rest) = line.split_once("] ")?;
    let place = head.split_whitespace().last()?;
    Some((format!("{severity} {place}"), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts() {
        for (text, expect) in [
            ("web-6b7f64d8bf-x2kqz", "web-6b7f64d8bf-*"),
            ("web-6b7f64d8bf", "web-6b7f64d8bf"),
            ("tick-29391234-bcdfg", "tick-*-*"),
            (
                "pod uid 0a1b2c3d-0000-1111-2222-0123456789ab at 2026-11-21T10:00:00Z",
                "pod uid <uid> at <time>",
            ),
            ("{\"k:{\\\"ip\\\":\\\"10.244.1.7\\\"}\":{}}", "{\"k:{\\\"ip\\\":\\\"<address>\\\"}\":{}}"),
            ("on hollow-3.", "on <node>."),
            ("host_0a1b2c3d-0000-1111-2222-0123456789ab", "<identity>"),
        ] {
            assert_eq!(normal(text, "Pod"), expect, "{text}");
        }
    }

    #[test]
    fn klog_lines() {
        let line = "E1121 23:38:14.123456   12345 reflector.go:204] \"Failed to watch\" err=\"gone\"";
        assert_eq!(klog(line), Some(("E reflector.go:204".into(), "\"Failed to watch\" err=\"gone\"")));
        assert_eq!(klog("I1121 23:38:14.123456   1 x.go:1] fine"), None);
        assert_eq!(klog("Error: no log line"), None);
    }
}
