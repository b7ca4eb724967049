//! Tables; facts from upstream's tests in `apiextensions-apiserver/pkg/apiserver/{schema,validation}`.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::*;

fn built(schema: &Value) -> Structural {
    compile(schema).unwrap_or_else(|why| panic!("{schema}: {why}"))
}

fn told(errors: &ErrorList) -> Vec<String> {
    let mut all: Vec<String> = errors.iter().map(Error::to_string).collect();
    all.sort();
    all
}

fn sorted(expect: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = expect.iter().map(|text| (*text).to_owned()).collect();
    all.sort();
    all
}

/// An object with one field of this schema.
fn one(schema: Value) -> Value {
    json!({"type": "object", "properties": {"f": schema}})
}

#[test]
fn what_is_structural() {
    let check = |schema: Value, expect: &[&str]| {
        assert_eq!(told(&rules::check(&schema, &Path::NIL)), sorted(expect), "{schema}");
    };
    check(json!({"type": "object"}), &[]);
    check(json!({}), &["type: Required value: must not be empty at the root"]);
    check(json!({"type": "string"}), &[r#"type: Invalid value: "string": must be object at the root"#]);
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        &["additionalProperties: Forbidden: must not be used at the root"],
    );
    check(
        one(json!({})),
        &["properties[f].type: Required value: must not be empty for specified object fields"],
    );
    check(one(json!({"x-kubernetes-preserve-unknown-fields": true})), &[]);
    check(
        one(json!({"type": "array", "items": {}})),
        &["properties[f].items.type: Required value: must not be empty for specified array items"],
    );
    check(one(json!({"type": "array"})), &["properties[f].items: Required value: must be specified"]);
    // An integer or a string, in both spellings.
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    check(one(json!({"x-kubernetes-int-or-string": true, "anyOf": either})), &[]);
    check(
        one(json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": either}, {"pattern": "a"}]})),
        &[],
    );
    check(
        one(json!({"type": "string", "allOf": [{"pattern": "a"}, {"anyOf": either}]})),
        &[
            "properties[f].allOf[1].anyOf[0].type: Forbidden: must be empty to be structural",
            "properties[f].allOf[1].anyOf[1].type: Forbidden: must be empty to be structural",
        ],
    );
    check(
        one(json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true})),
        &["properties[f].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if \
           x-kubernetes-int-or-string is true"],
    );
    // What limits may only limit what is specified.
    check(
        json!({"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]}),
        &["properties[a]: Required value: because it is defined in anyOf[0].properties[a]"],
    );
    check(
        json!({"type": "object", "not": {"items": {}}}),
        &["items: Required value: because it is defined in not.items"],
    );
    check(
        one(json!({"type": "string", "oneOf": [{"description": "d", "nullable": true, "default": "x",
            "x-kubernetes-validations": [{"rule": "true"}]}]})),
        &[
            "properties[f].oneOf[0].default: Forbidden: must be undefined to be structural",
            "properties[f].oneOf[0].description: Forbidden: must be empty to be structural",
            "properties[f].oneOf[0].nullable: Forbidden: must be false to be structural",
            "properties[f].oneOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural",
        ],
    );
    // Metadata.
    let metadata = |schema: Value| json!({"type": "object", "properties": {"metadata": schema}});
    check(metadata(json!({"type": "object"})), &[]);
    check(
        metadata(json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}})),
        &[],
    );
    let why = "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but \
               metadata is implicitly specified";
    check(metadata(json!({"type": "object", "properties": {"labels": {"type": "object"}}})), &[why]);
    check(metadata(json!({"type": "object", "description": "d"})), &[why]);
    check(
        metadata(json!({"type": "string"})),
        &[r#"properties[metadata].type: Invalid value: "string": must be object"#],
    );
    check(
        one(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
        &[
            "properties[f].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true \
           without x-kubernetes-preserve-unknown-fields",
        ],
    );
    check(
        one(json!({"type": "string", "pattern": "+"})),
        &[
            "properties[f].pattern: Invalid value: \"+\": must be a valid regular expression, but isn't: error \
           parsing regexp: missing argument to repetition operator: `+`",
        ],
    );
}

#[test]
fn what_cannot_be_compiled() {
    let check = |schema: Value, expect: &str| {
        assert_eq!(compile(&schema).map(|_| ()).unwrap_err().to_string(), expect, "{schema}");
    };
    check(one(json!({"$ref": "#/a"})), "OpenAPIV3Schema '$ref' is not supported");
    check(
        json!({"items": [{"type": "string"}]}),
        "OpenAPIV3Schema 'items' must be a schema, but is an array",
    );
    check(json!({"patternProperties": {"a": {}}}), "OpenAPIV3Schema 'patternProperties' is not supported");
    check(
        json!({"x-kubernetes-preserve-unknown-fields": false}),
        "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
    );
}

#[test]
fn pruning() {
    let check = |schema: Value, object: Value, expect: Value, gone: &[&str]| {
        let mut object = object;
        let paths = prune::prune(&mut object, &built(&schema));
        assert_eq!(object, expect, "{schema}");
        assert_eq!(paths, gone, "{schema}");
    };
    let text = json!({"type": "string"});
    let keeps = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"known": {"type": "object", "properties": {"a": text}}}});
    check(
        one(text.clone()),
        json!({"kind": "K", "apiVersion": "v", "metadata": {"name": "n", "x": 1}, "f": "a", "g": 1}),
        json!({"kind": "K", "apiVersion": "v", "metadata": {"name": "n", "x": 1}, "f": "a"}),
        &["g"],
    );
    check(
        one(json!({"type": "array", "items": {"type": "object", "properties": {"a": text}}})),
        json!({"f": [{"a": "x", "b": 1}, 3, {"c": {}}]}),
        json!({"f": [{"a": "x"}, 3, {}]}),
        &["f[0].b", "f[2].c"],
    );
    check(
        one(keeps.clone()),
        json!({"f": {"other": {"x": {}}, "known": {"a": "x", "b": 1}}}),
        json!({"f": {"other": {"x": {}}, "known": {"a": "x"}}}),
        &["f.known.b"],
    );
    check(
        one(json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"a": text}}})),
        json!({"f": {"k": {"a": "x", "b": 1}}}),
        json!({"f": {"k": {"a": "x"}}}),
        &["f.k.b"],
    );
    // Nothing is known of what may be anything, so nothing of it stays.
    check(
        one(json!({"type": "object", "additionalProperties": true})),
        json!({"f": {"k": {"a": 1}, "n": 2}}),
        json!({"f": {"k": {}, "n": 2}}),
        &["f.k.a"],
    );
    check(
        one(json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": text}})),
        json!({"f": {"kind": "K", "apiVersion": "v", "metadata": {"x": 1}, "spec": "s", "other": 1}}),
        json!({"f": {"kind": "K", "apiVersion": "v", "metadata": {"x": 1}, "spec": "s"}}),
        &["f.other"],
    );
}

#[test]
fn defaulting() {
    let check = |schema: Value, object: Value, expect: Value| {
        let (schema, mut object) = (built(&schema), object);
        defaults::prune_nulls(&mut object, Some(&schema));
        defaults::default(&mut object, &schema).unwrap();
        assert_eq!(object, expect, "{schema:?}");
    };
    let text = json!({"type": "string", "default": "D"});
    check(one(text.clone()), json!({}), json!({"f": "D"}));
    check(one(text.clone()), json!({"f": "x"}), json!({"f": "x"}));
    check(one(text.clone()), json!({"f": null}), json!({"f": "D"}));
    let nullable = json!({"type": "string", "default": "D", "nullable": true});
    check(one(nullable), json!({"f": null}), json!({"f": null}));
    check(one(json!({"type": "string"})), json!({"f": null}), json!({}));
    // Defaults are set within what is there, and within defaults.
    let outer = json!({"type": "object", "properties": {"f": text}});
    check(one(outer.clone()), json!({}), json!({}));
    check(one(outer.clone()), json!({"f": {}}), json!({"f": {"f": "D"}}));
    let filled = json!({"type": "object", "default": {}, "properties": {"f": text}});
    check(one(filled), json!({}), json!({"f": {"f": "D"}}));
    let list = json!({"type": "array", "items": {"type": "object", "properties": {"f": text}}});
    check(one(list), json!({"f": [{}, {"f": "x"}]}), json!({"f": [{"f": "D"}, {"f": "x"}]}));
    let map = json!({"type": "object", "additionalProperties": text});
    check(one(map), json!({"f": {"a": null, "b": "x"}}), json!({"f": {"a": "D", "b": "x"}}));
}

#[test]
fn lists_without_twins() {
    let check = |schema: Value, list: Value, expect: &[&str]| {
        let mut errors = ErrorList::new();
        lists::check(&json!({ "f": list }), &built(&one(schema)), &Path::NIL, &mut errors);
        assert_eq!(told(&errors), sorted(expect), "{list}");
    };
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    check(set.clone(), json!(["a", "b"]), &[]);
    check(set.clone(), json!(["a", "b", "a", "a"]), &[r#"f[2]: Duplicate value: "a""#]);
    check(
        set,
        json!([1, 1.5, 1.5, null, null]),
        &["f[2]: Duplicate value: 1.5", "f[4]: Duplicate value: null"],
    );
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
        "items": {"type": "object"}});
    check(map.clone(), json!([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}]), &[]);
    check(
        map.clone(),
        json!([{"a": 1, "b": 2, "c": 1}, {"b": 2, "a": 1, "c": 2}]),
        &[r#"f[1]: Duplicate value: {"a":1,"b":2}"#],
    );
    check(map, json!([{}, 3]), &["f[1]: Invalid value: 3: must be an object for an array of list-type map"]);
}

/// Values of a field `f` against its schema.
#[test]
fn validation() {
    let check = |schema: Value, value: Value, expect: &[&str]| {
        let errors =
            validate::validate(&json!({ "f": value }), &built(&one(schema.clone())), None, &Path::NIL);
        assert_eq!(told(&errors), sorted(expect), "{schema} {value}");
    };
    let text = json!({"type": "string"});
    check(text.clone(), json!("x"), &[]);
    check(
        text.clone(),
        json!(1),
        &[r#"f: Invalid value: "integer": f in body must be of type string: "integer""#],
    );
    check(text, json!(null), &[r#"f: Invalid value: "null": f in body must be of type string: "null""#]);
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(json!({"type": "integer"}), json!(2.0), &[]);
    check(
        json!({"type": "integer"}),
        json!(2.5),
        &[
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in f"#,
            r#"f: Invalid value: "number": f in body must be of type integer: "number""#,
        ],
    );
    check(json!({"type": "number"}), json!(2), &[]);
    let int32 = json!({"type": "integer", "format": "int32"});
    check(int32.clone(), json!(-2_147_483_648_i64), &[]);
    check(
        int32,
        json!(2_147_483_648_i64),
        &[r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in f"#],
    );
    check(
        json!({"type": "integer", "format": "int64"}),
        json!(1.0e19),
        &[
            r#"f: Invalid value: "float64": f in body must be of type int64: "float64""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int64 in f"#,
        ],
    );
    check(
        json!({"type": "number", "format": "float"}),
        json!(1.0e39),
        &[r#"<nil>: Invalid value: "": Checked value must be of type number with format float in f"#],
    );
    // An integer or a string.
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let all = json!({"x-kubernetes-int-or-string": true, "nullable": true, "allOf": [{"anyOf": either}]});
    for good in [json!(null), json!(42), json!("foo")] {
        check(all.clone(), good, &[]);
    }
    check(
        all.clone(),
        json!(true),
        &[
            r#"<nil>: Invalid value: "": "f" must validate all the schemas (allOf). None validated"#,
            r#"<nil>: Invalid value: "": "f" must validate at least one schema (anyOf)"#,
            r#"f: Invalid value: "boolean": f in body must be of type integer,string: "boolean""#,
            r#"f: Invalid value: "boolean": f in body must be of type integer: "boolean""#,
        ],
    );
    check(
        all,
        json!(1.2),
        &[
            r#"<nil>: Invalid value: "": "f" must validate all the schemas (allOf). None validated"#,
            r#"<nil>: Invalid value: "": "f" must validate at least one schema (anyOf)"#,
            r#"f: Invalid value: "number": f in body must be of type integer,string: "number""#,
            r#"f: Invalid value: "number": f in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in f"#,
        ],
    );
    // Limits.
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &[r#"f: Invalid value: "b": f in body should match '^a+$'"#],
    );
    check(
        json!({"type": "string", "pattern": "+"}),
        json!("foo"),
        &[
            "f: Invalid value: \"foo\": f in body should match '+, but pattern is invalid: error parsing regexp: \
           missing argument to repetition operator: `+`'",
        ],
    );
    check(
        json!({"type": "string", "maxLength": 2}),
        json!("äöü"),
        &["f: Too long: may not be more than 2 bytes"],
    );
    check(
        json!({"type": "string", "minLength": 2}),
        json!("a"),
        &[r#"f: Invalid value: "a": f in body should be at least 2 chars long"#],
    );
    check(
        json!({"type": "integer", "maximum": 3, "minimum": 3, "exclusiveMinimum": true}),
        json!(3),
        &["f: Invalid value: 3: f in body should be greater than 3"],
    );
    check(
        json!({"type": "number", "maximum": 2.5, "multipleOf": 0.5}),
        json!(2.75),
        &[
            "f: Invalid value: 2.75: f in body should be less than or equal to 2.5",
            "f: Invalid value: 2.75: f in body should be a multiple of 0.5",
        ],
    );
    check(
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 2}),
        json!(["a", 1, "c"]),
        &[
            "f: Too many: 3: must have at most 2 items",
            r#"f[1]: Invalid value: "integer": f[1] in body must be of type string: "integer""#,
        ],
    );
    check(
        json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "boolean"}}),
        json!({"a": true, "b.c": 1}),
        &[
            "f: Too many: 2: must have at most 1 item",
            r#"f.b.c: Invalid value: "integer": f.b.c in body must be of type boolean: "integer""#,
        ],
    );
    check(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({}),
        &["f.a: Required value"],
    );
    check(json!({"type": "integer", "enum": [1, 2]}), json!(2), &[]);
    check(
        json!({"type": "integer", "enum": [1, 2]}),
        json!("x"),
        &[
            r#"f: Invalid value: "string": f in body must be of type integer: "string""#,
            r#"f: Unsupported value: "x": supported values: "1", "2""#,
        ],
    );
    check(
        json!({"type": "string", "enum": ["a"]}),
        json!(true),
        &[
            r#"f: Invalid value: "boolean": f in body must be of type string: "boolean""#,
            r#"f: Unsupported value: true: supported values: "a""#,
        ],
    );
    // Alternatives: of those that failed, the one that came furthest tells why.
    let needs = |name: &str| json!({"required": [name]});
    let parts = json!({"a": {"type": "string"}, "b": {"type": "string"}});
    let one_of = json!({"type": "object", "properties": parts, "oneOf": [needs("a"), needs("b")]});
    check(one_of.clone(), json!({"a": "x"}), &[]);
    check(
        one_of.clone(),
        json!({}),
        &[
            r#"<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found none valid"#,
            "f.a: Required value",
        ],
    );
    check(
        one_of,
        json!({"a": "x", "b": "y"}),
        &[
            r#"<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    check(
        json!({"type": "string", "not": {"enum": ["no"]}}),
        json!("no"),
        &[r#"<nil>: Invalid value: "": "f" must not validate the schema (not)"#],
    );
    check(
        json!({"type": "string", "format": "k8s-long-name"}),
        json!("a.-"),
        &[r#"f: Invalid value: "a.-": f in body must be of type k8s-long-name: "a.-""#],
    );
    check(json!({"type": "string", "format": "unheard-of"}), json!("x"), &[]);
    check(
        json!({"type": "string", "format": "date"}),
        json!(3),
        &[r#"f: Invalid value: "int64": f in body must be of type date: "int64""#],
    );
}

/// What was wrong before and is as it was is no fault (KEP-4008).
#[test]
fn ratcheting() {
    let short = json!({"type": "string", "maxLength": 2});
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": short}}});
    let check = |schema: &Value, old: Value, new: Value, expect: &[&str]| {
        let (old, new) = (json!({ "f": old }), json!({ "f": new }));
        let errors = validate::validate(&new, &built(&one(schema.clone())), Some(&old), &Path::NIL);
        assert_eq!(told(&errors), sorted(expect), "{old} {new}");
    };
    let why = "f: Too long: may not be more than 2 bytes";
    check(&short, json!("long"), json!("long"), &[]);
    check(&short, json!("long"), json!("longer"), &[why]);
    let object = json!({"type": "object", "properties": {"a": short, "b": short}});
    check(
        &object,
        json!({"a": "long", "b": "b"}),
        json!({"a": "long", "b": "long"}),
        &["f.b: Too long: may not be more than 2 bytes"],
    );
    // Elements are told apart by their keys; without keys a list is one value.
    check(
        &map,
        json!([{"k": "a", "v": "long"}]),
        json!([{"k": "b", "v": "x"}, {"k": "a", "v": "long"}]),
        &[],
    );
    let list = json!({"type": "array", "items": short});
    check(&list, json!(["long"]), json!(["long"]), &[]);
    check(&list, json!(["long"]), json!(["long", "b"]), &["f[0]: Too long: may not be more than 2 bytes"]);
    // What was missing is still missing.
    let needs = json!({"type": "object", "required": ["a"], "properties": {"a": short, "b": short}});
    check(&needs, json!({}), json!({}), &[]);
    check(&needs, json!({}), json!({"b": "x"}), &["f.a: Required value"]);
}

#[test]
fn formats_of_strings() {
    let check = |format: &str, good: &[&str], bad: &[&str]| {
        assert!(formats::is_known(Some(Kind::String), format), "{format}");
        for (texts, expect) in [(good, true), (bad, false)] {
            for text in texts {
                assert_eq!(formats::is_valid(format, text), expect, "{format} {text}");
            }
        }
    };
    check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f", "507f1f77bcf86cd79943901z"]);
    check(
        "uri",
        &["http://a.b/c?d", "/a", "mailto:a@b", "https://[::1]:80/"],
        &["a b", "a", "", "http://a:b/", "1:x"],
    );
    check("email", &["a@b.c", "A B <a@b>"], &["a", "@b", "a@", "a b@c"]);
    check("hostname", &["a.bc", "localhost", "1a.com"], &["a..b", "-a", "a.b-"]);
    check("ipv4", &["1.2.3.4", "01.002.3.4"], &["1.2.3", "1.2.3.256", "::1"]);
    check("ipv6", &["::1", "2001:db8::1", "::ffff:1.2.3.4"], &["1.2.3.4", ":::"]);
    check("cidr", &["10.0.0.0/8", "2001:db8::/32", "010.0.0.0/8"], &["10.0.0.0", "10.0.0.0/33", "a/8"]);
    check(
        "mac",
        &["01:23:45:67:89:ab", "01-23-45-67-89-ab-cd-ef", "0123.4567.89ab"],
        &["01:23", "01:23:45:67:89:ag"],
    );
    check(
        "uuid",
        &["a8098c1a-f86e-11da-bd1a-00112444be1e", "A8098C1AF86E11DABD1A00112444BE1E"],
        &["a8098c1a"],
    );
    check("uuid3", &["bcd02e22-68f0-3046-a512-327cca9def8f"], &["bcd02e22-68f0-4046-a512-327cca9def8f"]);
    check("uuid4", &["025b0d74-00a2-4048-bf57-227c5111bb34"], &["025b0d74-00a2-4048-cf57-227c5111bb34"]);
    check("uuid5", &["886313e1-3b8a-5372-9b90-0c9aee199e5d"], &["886313e1-3b8a-3372-9b90-0c9aee199e5d"]);
    check("isbn", &["0321751043", "978-0321751041"], &["0321751042", "x"]);
    check("isbn10", &["0321751043", "080442957X"], &["978-0321751041"]);
    check("isbn13", &["978-0321751041"], &["9780321751042"]);
    check("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112"]);
    check("ssn", &["111-11-1111", "111 11 1111"], &["111111111", "99 999 999"]);
    check("hexcolor", &["#FFF", "FFFFFF"], &["#FFFF", "#GGG"]);
    check("rgbcolor", &["rgb(100,100,100)", "rgb( 0, 1 ,255)"], &["rgb(300,0,0)", "rgb(1,2)"]);
    check("byte", &["YQ==", "YWJj", ""][..2], &["YQ=", "Y*=="]);
    check("password", &["", "x"], &[]);
    check("date", &["2014-12-15"], &["2014-13-01", "2014-1-1", "2014-02-30"]);
    check("duration", &["22 ns", "1h5m", "3 days", "2w"], &["x", "5"]);
    check(
        "date-time",
        &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
        &["2014-12-15", "2014-12-15T24:00:00Z"],
    );
    check("k8s-short-name", &["a", "a-b1"], &["a-", "A", "", "a.b"]);
    check("k8s-long-name", &["a.b", "a"], &["a.-", "a..b"]);
}
