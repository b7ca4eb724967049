//! Inputs that are made rather than found: as large as a body may be, and each with one bad intention.

use apimachinery::codec::protobuf::envelope;

use crate::Target;

/// Upstream's limit of a request's body.
pub const LARGEST: usize = 3 << 20;

/// For this target, with names.
pub fn inputs(target: &Target) -> Vec<(&'static str, Vec<u8>)> {
    let objects = || [json(), [("empty", Vec::new())].into()].concat();
    match target.name {
        "protobuf" => protobuf(),
        "json" => objects(),
        "yaml" => [objects(), yaml()].concat(),
        "selectors" => selectors(),
        "patch" => patches(),
        "apply" => after_line(b"", [objects(), yaml()].concat()),
        "fields_v1" => [objects(), sets()].concat(),
        "tokens" => tokens(),
        "query" | "headers" | "kubelet" => lines(),
        "scalars" => scalars(),
        "spdy" => spdy(),
        "rules" => [objects(), protobuf()].concat(),
        "request" => requests(),
        _ => Vec::new(),
    }
}

fn repeated(before: &str, part: &str, after: &str) -> Vec<u8> {
    let count = (LARGEST - before.len() - after.len()) / part.len();
    [before.as_bytes(), part.repeat(count).as_bytes(), after.as_bytes()].concat()
}

/// A list of as many of these as fit.
fn list(before: &str, item: &str, after: &str) -> Vec<u8> {
    repeated(before, &format!("{item},"), &format!("{item}{after}"))
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":["#;
const ROLE: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","rules":[{"verbs":["#;
const REVISION: &str = r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","data":"#;
const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"#;

fn json() -> Vec<(&'static str, Vec<u8>)> {
    let keys: String = (0..).map(|n| format!("\"{n}\":\"\",")).take(220_000).collect();
    let long = "k".repeat(1000);
    let pairs = format!("\"{long}\":\"\",");
    vec![
        ("lists in lists", repeated("", "[", "")),
        ("objects in objects", repeated("", r#"{"a":"#, "")),
        ("metadata in metadata", repeated("", r#"{"metadata":"#, "")),
        ("numbers", list("[", "0", "]")),
        ("empty lists", list("[", "[]", "]")),
        ("lists of one", list("[", "[0]", "]")),
        ("empty objects", list("[", "{}", "]")),
        ("objects of one", list("[", r#"{"a":0}"#, "]")),
        ("empty containers", list(POD, "{}", "]}}")),
        ("containers that are null", list(POD, "null", "]}}")),
        ("verbs", list(ROLE, r#""""#, "]}]}")),
        ("free content", list(&format!("{REVISION}["), r#"{"a":0}"#, "]}")),
        ("one key again and again", repeated(MAP, &pairs, r#""z":""}}"#)),
        ("many keys", format!("{MAP}{keys}\"z\":\"\"}}}}").into_bytes()),
        ("unknown keys", format!(r#"{{"apiVersion":"v1","kind":"Pod",{keys}"z":0}}"#).into_bytes()),
        ("one long string", repeated("\"", "\\u0001", "\"")),
        ("a string that never ends", repeated("\"", "a", "")),
        ("one long number", repeated("", "9", "")),
        ("a long fraction", repeated("0.", "1", "")),
        ("a long exponent", repeated("1e", "9", "")),
        ("blanks", repeated("", " ", "0")),
    ]
}

fn yaml() -> Vec<(&'static str, Vec<u8>)> {
    let laughs: String =
        (1..10).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    vec![
        ("a billion laughs", format!("a0: &a0 [lol]\n{laughs}").into_bytes()),
        ("aliases of a long text", {
            let text = "x".repeat(1 << 20);
            format!("a: &a {text}\nb: [{}]", vec!["*a"; 9000].join(",")).into_bytes()
        }),
        ("merges of merges", {
            let merges: String =
                (1..200).map(|n| format!("a{n}: &a{n} {{<<: [*a{0}, *a{0}], k{n}: v}}\n", n - 1)).collect();
            format!("a0: &a0 {{k: v}}\n{merges}").into_bytes()
        }),
        ("anchors", (0..200_000).map(|n| format!("- &a{n} x\n")).collect::<String>().into_bytes()),
        ("a small list", repeated("", "- \n", "")),
        ("a list in a list", repeated("", "- ", "")),
        ("questions", repeated("", "? ", "")),
        ("objects of one, in blocks", repeated("", "- a: 0\n", "")),
        (
            "indented ever deeper",
            (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes(),
        ),
        ("documents", repeated("", "--- 0\n", "")),
        ("directives", repeated("", "%a b\n", "--- 0")),
        ("a quoted text", repeated("'", "''", "'")),
        ("a folded text", repeated("a: >\n", "  b\n", "")),
        ("comments", repeated("", "#\n", "")),
    ]
}

/// A message within its envelope.
fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    envelope::wrap(api_version, kind, message)
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A field with these bytes in it.
fn field(tag: usize, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len()), bytes.to_vec()].concat()
}

fn protobuf() -> Vec<(&'static str, Vec<u8>)> {
    let room = LARGEST - 100;
    let pod = |spec: &[u8]| enveloped("v1", "Pod", &field(2, spec));
    let nested = |tag: usize| {
        let mut message = Vec::new();
        for _ in 0..2000 {
            message = field(tag, &message);
        }
        message
    };
    vec![
        ("a length that lies", enveloped("v1", "Pod", &[0x12, 0xff, 0xff, 0xff, 0xff, 0x07])),
        ("a length beyond all", enveloped("v1", "Pod", &[[0x12].as_slice(), &[0xff; 9], &[1]].concat())),
        ("a number that never ends", enveloped("v1", "Pod", &[0xff; 100])),
        ("groups in groups", enveloped("v1", "Pod", &vec![0x0b; room])),
        ("empty containers", pod(&[0x12, 0].repeat(room / 2))),
        ("empty volumes", pod(&[0x0a, 0].repeat(room / 2))),
        ("empty finalizers", enveloped("v1", "Pod", &field(1, &[0x72, 0].repeat(room / 2)))),
        ("metadata again and again", enveloped("v1", "Pod", &[0x0a, 0].repeat(room / 2))),
        ("empty owners", enveloped("v1", "ConfigMap", &field(1, &[0x6a, 0].repeat(room / 2)))),
        ("empty pods", enveloped("v1", "PodList", &[0x12, 0].repeat(room / 2))),
        ("many keys", {
            let entry = |n: usize| field(2, &field(1, format!("{n:x}").as_bytes()));
            enveloped("v1", "ConfigMap", &(0..300_000).flat_map(entry).collect::<Vec<u8>>())
        }),
        ("one key again and again", {
            enveloped("v1", "ConfigMap", &field(2, &field(1, b"k")).repeat(room / 5))
        }),
        (
            "text that is not UTF-8",
            enveloped("v1", "ConfigMap", &field(1, &field(1, &vec![0xff; room - 50]))),
        ),
        ("schemas in schemas", {
            let schema = nested(12);
            let version = [field(1, b"v1"), field(4, &field(1, &schema))].concat();
            let kind = "CustomResourceDefinition";
            enveloped("apiextensions.k8s.io/v1", kind, &field(2, &field(7, &version)))
        }),
        ("free content", {
            let data = list("[", r#"{"a":0}"#, "]");
            let data = &data[..data.len().min(room)];
            enveloped("apps/v1", "ControllerRevision", &field(2, &field(1, data)))
        }),
        ("free content that nests", {
            enveloped("apps/v1", "ControllerRevision", &field(2, &field(1, &vec![b'['; room - 100])))
        }),
        ("no envelope", vec![0; LARGEST]),
    ]
}

/// Selectors come in a request's target, which is at most so long.
const LONGEST_TARGET: usize = (64 << 10) + 1;

fn selectors() -> Vec<(&'static str, Vec<u8>)> {
    let mut inputs = vec![
        ("commas", repeated("", ",", "")),
        ("requirements", repeated("", "a,", "a")),
        ("values", repeated("a in (", "a,", "a)")),
        ("open", repeated("a in ", "(", "")),
        ("fields", repeated("", "a=b,", "a=b")),
        ("escapes", repeated("a=", "\\\\", "")),
        ("one long key", repeated("", "a", "")),
        ("exclamation marks", repeated("", "!", "a")),
        ("equal signs", repeated("a", "=", "")),
    ];
    inputs.iter_mut().for_each(|(_, input)| input.truncate(LONGEST_TARGET));
    inputs
}

/// With this line before each.
fn after_line(line: &[u8], inputs: Vec<(&'static str, Vec<u8>)>) -> Vec<(&'static str, Vec<u8>)> {
    inputs.into_iter().map(|(name, input)| (name, [line, b"\n", &input].concat())).collect()
}

fn patches() -> Vec<(&'static str, Vec<u8>)> {
    let object = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"b"}}"#;
    let deep = |levels: usize| format!("{}0{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let path = |levels: usize| "/a".repeat(levels);
    // each copy puts the whole below itself, which doubles how deep it is
    let doubling: Vec<String> =
        (0..12).map(|n| format!(r#"{{"op":"copy","from":"/a","path":"{}"}}"#, path(101 << n))).collect();
    let moving: Vec<String> = (1..2000)
        .map(|n| {
            format!(
                r#"{{"op":"add","path":"/b","value":{}}},{{"op":"move","from":"/a","path":"/b{}"}},{{"op":"move","from":"/b","path":"/a"}}"#,
                deep(100),
                path(if n % 2 == 0 { 99 } else { 100 }),
            )
        })
        .collect();
    let operations = |list: String| format!("[{list}]").into_bytes();
    let made = vec![
        (
            "doubling",
            operations(
                [format!(r#"{{"op":"add","path":"/a","value":{}}}"#, deep(100)), doubling.join(",")]
                    .join(","),
            ),
        ),
        (
            "moving",
            operations(
                [format!(r#"{{"op":"add","path":"/a","value":{}}}"#, deep(100)), moving.join(",")].join(","),
            ),
        ),
        ("copies", {
            let copy = r#"{"op":"copy","from":"/data","path":"/data/x"}"#;
            operations(vec![copy; 9000].join(","))
        }),
        ("operations", list("[", r#"{"op":"test"}"#, "]")),
        ("operations that are null", list("[", "null", "]")),
        ("a long path", repeated(r#"[{"op":"add","value":0,"path":""#, "/a", r#""}]"#)),
        ("insertions in front", {
            let add = r#"{"op":"add","path":"/metadata/finalizers/0","value":""}"#;
            operations(format!(
                r#"{{"op":"add","path":"/metadata/finalizers","value":[]}},{}"#,
                vec![add; 9000].join(",")
            ))
        }),
        ("finalizers to be ordered", {
            let names: Vec<String> = (0..60_000).map(|n| format!("\"x/{n}\"")).collect();
            let names = names.join(",");
            format!(r#"{{"metadata":{{"finalizers":[{names}],"$setElementOrder/finalizers":[{names}]}}}}"#)
                .into_bytes()
        }),
        ("owners to be merged", {
            let owners: Vec<String> = (0..30_000).map(|n| format!(r#"{{"uid":"{n}"}}"#)).collect();
            format!(r#"{{"metadata":{{"ownerReferences":[{}]}}}}"#, owners.join(",")).into_bytes()
        }),
    ];
    after_line(object, [made, json()].concat())
}

fn sets() -> Vec<(&'static str, Vec<u8>)> {
    let many: Vec<String> = (0..150_000).map(|n| format!("\"f:{n}\":{{}}")).collect();
    let keys: Vec<String> = (0..60_000).map(|n| format!(r#""k:{{\"name\":\"{n}\"}}":{{}}"#)).collect();
    vec![
        ("many fields", format!("{{{}}}", many.join(",")).into_bytes()),
        ("many items", format!("{{{}}}", keys.join(",")).into_bytes()),
        ("sets in sets", repeated("", r#"{"f:a":"#, "")),
        ("a key that nests", repeated(r#"{"k:{\"a\":"#, "[", "")),
    ]
}

fn tokens() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("dots", repeated("", ".", "")),
        ("padding", repeated("", "=", "")),
        ("zeros", repeated("", "A", "")),
        ("three parts", repeated("e30.e30.", "A", "")),
        ("lists in lists", repeated("", "W1tb", "")),
        ("lines", repeated("", "a,b,c\n", "")),
    ]
}

fn lines() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("clauses", repeated("accept: ", "*/*;q=0.1,", "*/*")),
        ("parameters", repeated("accept: application/json", ";a=b", "")),
        ("headers", repeated("", "impersonate-extra-a: b\n", "")),
        ("slashes", repeated("GET ", "/", "")),
        ("pairs", (0..9000).fold("GET /?a".to_owned(), |all, n| all + &format!("&{n}=b")).into_bytes()),
        ("escapes", format!("GET /{}?{}", "%61".repeat(9000), "a=%zz&".repeat(3000)).into_bytes()),
        ("a line of a log that never ends", repeated("\n2024-01-01T00:00:00Z stdout F ", "x", "")),
        ("lines of a log", repeated("timestamps=1\n", "2024-01-01T00:00:00Z stdout P x\n", "")),
        ("empty lines", repeated("\n", "\n", "")),
    ]
}

fn spdy() -> Vec<(&'static str, Vec<u8>)> {
    let control = |kind: u8, payload: &[u8]| {
        [&[0x80, 3, 0, kind, 0][..], &(payload.len() as u32).to_be_bytes()[1..], payload].concat()
    };
    // a block of stored zeros, whose number of headers lies
    let stored = |length: u16| {
        let head = [0x78, 0x01, 0x00];
        let block =
            [&length.to_le_bytes()[..], &(!length).to_le_bytes(), &vec![0xff; length.into()]].concat();
        [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &head, &block].concat()
    };
    vec![
        ("pings", control(6, &[0, 0, 0, 1]).repeat(LARGEST / 12)),
        ("empty data", [0, 0, 0, 1, 0, 0, 0, 0].repeat(LARGEST / 8)),
        ("settings", control(4, &[]).repeat(LARGEST / 8)),
        ("a length that lies", [0, 0, 0, 1, 0, 0xff, 0xff, 0xff].to_vec()),
        ("a control frame too long", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("headers that lie", control(1, &stored(60_000))),
        ("zeros", vec![0; LARGEST]),
    ]
}

fn scalars() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nines", repeated("", "9", "")),
        ("a fraction", repeated("0.", "0", "1")),
        ("zeros before it", repeated("", "0", "1Ki")),
        ("an exponent", repeated("1e", "9", "")),
        ("a duration", repeated("", "1h", "")),
        ("minutes", repeated("", "1,", "1 * * * *")),
        ("fields", repeated("", "* ", "*")),
        ("a zone", repeated("TZ=", "A/", " * * * * *")),
        ("dots", repeated("", "a.", "a")),
        ("dashes", repeated("a", "-", "a")),
        ("percent", repeated("", "1", "%")),
        ("a fraction of a second", repeated("2020-01-01T00:00:00.", "9", "Z")),
    ]
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let post = |path: &str, kind: &str, body: &[u8]| {
        [format!("POST {path}\ncontent-type: application/{kind}\n\n").as_bytes(), body].concat()
    };
    let patch = |kind: &str, body: &[u8]| {
        let head = "PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=a\ncontent-type: application/";
        [head.as_bytes(), kind.as_bytes(), b"\n\n", body].concat()
    };
    let pods = "/api/v1/namespaces/default/pods";
    let mut out = Vec::new();
    for (name, body) in json() {
        out.push((name, post(pods, "json", &body)));
    }
    out.extend(yaml().into_iter().map(|(name, body)| (name, patch("apply-patch+yaml", &body))));
    out.extend(
        protobuf().into_iter().map(|(name, body)| (name, post(pods, "vnd.kubernetes.protobuf", &body))),
    );
    out.extend(patches().into_iter().filter_map(|(name, body)| {
        let at = body.iter().position(|b| *b == b'\n')?;
        Some((name, patch("json-patch+json", &body[at + 1..])))
    }));
    out
}
