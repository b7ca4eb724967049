use serde_json::json;

use super::*;

#[test]
fn yaml_is_read_as_json() {
    let check = |text: &str, expect: Value| {
        assert_eq!(parse(text.as_bytes()).unwrap(), (expect, None), "{text}");
    };
    check(
        "a: 1\nb: [x, 'y', 1.5]\nc:\n- d: true\n  e: null\n",
        json!({"a": 1, "b": ["x", "y", 1.5], "c": [{"d": true, "e": null}]}),
    );
    check("{\"a\": \"1\"}", json!({"a": "1"}));
    check("1: a\ntrue: b\n", json!({"1": "a", "true": "b"}));
    check("a: yes\nb: \"yes\"\n", json!({"a": true, "b": "yes"}));
    check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", json!({"a": "x\ny\n", "b": "x y"}));
    check("x: &x {a: 1}\ny: *x\n", json!({"x": {"a": 1}, "y": {"a": 1}}));
    check("d: 2026-11-21\n", json!({"d": "2026-11-21"}));
}

#[test]
fn what_is_wrong_is_said() {
    let (value, said) = parse(b"a: 1\nb: 2\na: 3\n").unwrap();
    assert_eq!(value, json!({"a": 3, "b": 2}));
    assert_eq!(said.as_deref(), Some("yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"));
    let wrong = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    assert!(wrong("a: [1\n").starts_with("yaml: "), "{}", wrong("a: [1\n"));
    assert!(wrong("a: b: c\n").starts_with("yaml: line 1: "), "{}", wrong("a: b: c\n"));
    let bomb = (0..12).fold("a0: &a0 [x]\n".to_owned(), |mut text, n| {
        let refs = vec![format!("*a{n}"); 9].join(", ");
        text.push_str(&format!("a{}: &a{} [{refs}]\n", n + 1, n + 1));
        text
    });
    assert!(wrong(&bomb).starts_with("yaml: "));
    assert!(parse("[".repeat(10_000).as_bytes()).is_err());
    assert!(parse(b"a: \xff").is_err());
}

#[test]
fn yaml_is_written_as_go_writes_it() {
    let check = |value: Value, expect: &str| {
        let text = to_string(&value);
        assert_eq!(text, expect);
        assert_eq!(parse(text.as_bytes()).unwrap().0, value, "{text}");
    };
    check(
        json!({"kind": "Pod", "spec": {"list": [{"b": 1, "a": [[1, 2], []]}, "x"], "none": null, "m": {}}}),
        "kind: Pod\nspec:\n  list:\n  - a:\n    - - 1\n      - 2\n    - []\n    b: 1\n  - x\n  m: {}\n  none: null\n",
    );
    check(
        json!({"k": ["", "true", "yes", "Null", "1", "0x1f", "1.5e3", "1:30", "2026-11-21", "a b", "v1", "on-off", "~"]}),
        "k:\n- \"\"\n- \"true\"\n- \"yes\"\n- \"Null\"\n- \"1\"\n- \"0x1f\"\n- \"1.5e3\"\n- \"1:30\"\n- \"2026-11-21\"\n- a b\n- v1\n- on-off\n- \"~\"\n",
    );
    check(
        json!({"k": ["a: b", "- a", "#x", "a #b", " lead", "it's", "'q'", "*", "a:b", "{x", "%"]}),
        "k:\n- 'a: b'\n- '- a'\n- '#x'\n- 'a #b'\n- ' lead'\n- it's\n- '''q'''\n- '*'\n- a:b\n- '{x'\n- '%'\n",
    );
    check(
        json!({"a": "x\ny\n", "b": "x\ny", "c": "x\n\n", "d": " x\ny", "e": "x \ny", "f": "tab\there", "g": "\u{1f600}"}),
        "a: |\n  x\n  y\nb: |-\n  x\n  y\nc: |+\n  x\n\nd: |2-\n   x\n  y\ne: \"x \\ny\"\nf: \"tab\\there\"\ng: \"\\U0001F600\"\n",
    );
    check(json!({"a10": 1, "a9": 2, "b.c": 3, "b": 4}), "a9: 2\na10: 1\nb: 4\nb.c: 3\n");
    check(json!([]), "[]\n");
    check(json!({}), "{}\n");
    check(json!("x"), "x\n");
    let long = "word ".repeat(30).trim_end().to_owned();
    let text = to_string(&json!({"m": long}));
    assert!(text.lines().all(|line| line.len() <= 88), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap().0, json!({"m": long}));
}
