use serde_json::json;

use super::*;

#[test]
fn parse_and_print() {
    let check = |text: &str, expect: Result<&str, &str>| {
        let got = Selector::parse(text).map(|s| s.to_string()).map_err(|e| e.to_string());
        assert_eq!(got, expect.map(str::to_string).map_err(str::to_string), "{text:?}");
    };
    check("", Ok(""));
    check("  ", Ok(""));
    check("a", Ok("a"));
    check("!a", Ok("!a"));
    check("a=b", Ok("a=b"));
    check("a==b", Ok("a==b"));
    check("a = b , c != d", Ok("a=b,c!=d"));
    check("z,a", Ok("a,z"));
    check("a in (c,b,b)", Ok("a in (b,c)"));
    check("a notin (b)", Ok("a notin (b)"));
    check("a in ()", Ok("a in ()"));
    check("a in (,b)", Ok("a in (,b)"));
    check("a in (b,,c)", Ok("a in (,b,c)"));
    check("a=", Ok("a="));
    check("a=,b", Ok("a=,b"));
    check("a!=", Ok("a!="));
    check("a>1,b<2", Ok("a>1,b<2"));
    check("in=notin", Ok("in=notin"));
    check("in in (in)", Ok("in in (in)"));
    check("x.io/a notin (b,c)", Ok("x.io/a notin (b,c)"));
    check(",", Err("found ',', expected: !, identifier, or 'end of string'"));
    check("a,", Err("found '', expected: identifier after ','"));
    check("a b", Err("unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"));
    check("!a=b", Err("found '=', expected: ',' or 'end of string'"));
    check("a in b", Err("unable to parse requirement: found 'b' expected: '('"));
    check("a in (b", Err("unable to parse requirement: found '', expected: ',' or ')'"));
    check("a=b c", Err("found 'c', expected: ',' or 'end of string'"));
    check("a==(b)", Err("unable to parse requirement: found '(', expected: identifier"));
    check(
        "a>x",
        Err(
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value \
             must be an integer",
        ),
    );
    let bad = Selector::parse("a=b%").unwrap_err().to_string();
    assert!(
        bad.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"b%\": a valid label"),
        "{bad}"
    );
    let bad = Selector::parse("-a=b").unwrap_err().to_string();
    assert!(
        bad.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"),
        "{bad}"
    );
}

#[test]
fn matching() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "x", "e": ""}}});
    for (text, expect) in [
        ("", true),
        ("a", true),
        ("z", false),
        ("!z", true),
        ("!a", false),
        ("a=1", true),
        ("a==2", false),
        ("a!=2", true),
        ("z!=2", true),
        ("b in (x,y)", true),
        ("b in (y)", false),
        ("z in (y)", false),
        ("z notin (y)", true),
        ("b notin (x)", false),
        ("a>0", true),
        ("a>1", false),
        ("a<2", true),
        ("b>0", false),
        ("e=", true),
        ("e", true),
        ("a=1,b=x,!z", true),
        ("a=1,b=y", false),
    ] {
        assert_eq!(Selector::parse(text).unwrap().matches_object(&object), expect, "{text}");
    }
    assert!(!Selector::nothing().matches_object(&object));
    assert!(Selector::from_set([("a", "1")]).matches_object(&object));
    assert!(!Selector::from_set([("a", "1")]).matches_object(&json!({})));
    assert_eq!(Selector::parse("a in (x),b").unwrap().requires_exact_match("a"), Some("x"));
}

#[test]
fn structured() {
    let check = |value: serde_json::Value, expect: Result<&str, &str>| {
        let got = Selector::of_value(&value).map(|s| s.to_string()).map_err(|e| e.to_string());
        assert_eq!(got, expect.map(str::to_string).map_err(str::to_string), "{value}");
    };
    check(json!({}), Ok(""));
    check(json!({"matchLabels": {"b": "c", "a": "1"}}), Ok("a=1,b=c"));
    check(
        json!({"matchLabels": {"b": "c"}, "matchExpressions": [
            {"key": "a", "operator": "NotIn", "values": ["z", "y"]}, {"key": "d", "operator": "Exists"}]}),
        Ok("a notin (y,z),b=c,d"),
    );
    check(
        json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        Err("\"Like\" is not a valid label selector operator"),
    );
    check(
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
    );
    assert!(Selector::of_value(&serde_json::Value::Null).unwrap().is_nothing());
    assert_eq!(format(Some(&LabelSelector::default())), "<none>");
    let back = LabelSelector::parse("a=b,c in (d)").unwrap();
    assert_eq!(back.to_selector().unwrap().to_string(), "a=b,c in (d)");
}

#[test]
fn validation() {
    let check = |value: serde_json::Value, expect: &[&str]| {
        let selector = LabelSelector::from_value(&value).unwrap();
        let spec = Path::new("spec");
        let errors = selector.validate(Validation::default(), &spec.child("selector"));
        let got: Vec<String> = errors.iter().map(|e| e.to_string()).collect();
        assert_eq!(got, expect);
    };
    check(json!({"matchLabels": {"a": "b"}}), &[]);
    check(
        json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "a", "operator": "Exists", "values": ["x"]},
            {"key": "a", "operator": "Near"}]}),
        &[
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or \
             'NotIn'",
            "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or \
             'DoesNotExist'",
            "spec.selector.matchExpressions[2].operator: Invalid value: \"Near\": not a valid selector operator",
        ],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in r"[-a-z!=,()<> \t/.é]{0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            let again = Selector::parse(&selector.to_string()).unwrap();
            proptest::prop_assert_eq!(again, selector);
        }
        let _ = crate::fields::Selector::parse(&text);
    }
}
