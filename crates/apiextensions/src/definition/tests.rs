//! Tables; facts from upstream's `apiextensions/validation/validation_test.go` and `schema/cel/validation_test.go`.

use serde_json::json;

use super::*;

fn check(schema: Value, has_status: bool, strictness: Strictness, expect: &[&str]) {
    let mut meta = Schema::new();
    let id = meta.add(apimachinery::schema::Type::new("Meta", Vec::new()));
    let mut errors = ErrorList::new();
    let accept = |_: &Value, _: &Path<'_>, _: &mut ErrorList| {};
    super::check(&schema, has_status, strictness, (&meta, id), &accept, &Path::new("schema"), &mut errors);
    let mut told: Vec<String> = errors.iter().map(Error::to_string).collect();
    let mut expect: Vec<String> = expect.iter().map(|text| format!("schema{text}")).collect();
    told.sort();
    expect.sort();
    assert_eq!(told, expect, "{schema}");
}

fn one(schema: Value) -> Value {
    json!({"type": "object", "properties": {"f": schema}})
}

#[test]
fn schemas() {
    let full = |schema: Value, expect: &[&str]| check(schema, false, Strictness::FULL, expect);
    full(one(json!({"type": "string", "default": "x"})), &[]);
    full(
        json!({"type": "object", "nullable": true}),
        &[".nullable: Forbidden: nullable cannot be true at the root"],
    );
    full(
        one(json!({"type": "string", "default": 3})),
        &[r#".properties[f].default: Invalid value: "integer":  in body must be of type string: "integer""#],
    );
}

#[test]
fn rules_of_fields() {
    let full = |schema: Value, expect: &[&str]| check(one(schema), false, Strictness::FULL, expect);
    let text = json!({"type": "string"});
    full(
        json!({"type": "object", "properties": {"a": text}, "additionalProperties": text}),
        &[
            ".properties[f].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ],
    );
    full(
        json!({"type": "array", "items": text, "uniqueItems": true}),
        &[
            ".properties[f].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity \
           becomes quadratic",
        ],
    );
    full(
        json!({"type": "string", "x-kubernetes-list-type": "set"}),
        &[
            r#".properties[f].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
        ],
    );
    full(
        json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
        &[
            ".properties[f].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with \
           x-kubernetes-list-type=set",
        ],
    );
    let keyed = |items: Value| {
        json!({"type": "array", "items": items, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"]})
    };
    full(keyed(json!({"type": "object", "required": ["k"], "properties": {"k": text}})), &[]);
    full(
        keyed(json!({"type": "object", "properties": {"k": text}})),
        &[".properties[f].items.properties[k].default: Required value: this property is in \
           x-kubernetes-list-map-keys, so it must have a default or be a required property"],
    );
    full(
        keyed(json!({"type": "object"})),
        &[
            r#".properties[f].x-kubernetes-list-map-keys: Invalid value: ["k"]: entries must all be names of item properties"#,
        ],
    );
    full(
        keyed(text.clone()),
        &[
            r#".properties[f].items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#,
        ],
    );
    full(
        json!({"type": "object", "x-kubernetes-map-type": "other"}),
        &[
            r#".properties[f].x-kubernetes-map-type: Unsupported value: "other": supported values: "atomic", "granular""#,
        ],
    );
    let rules = |rule: Value| json!({"type": "object", "properties": {"a": text}, "x-kubernetes-validations": [rule]});
    full(rules(json!({"rule": "true", "fieldPath": ".a", "reason": "FieldValueRequired"})), &[]);
    let at = ".properties[f].x-kubernetes-validations[0]";
    full(
        rules(json!({"rule": " ", "fieldPath": ".b", "reason": "Other"})),
        &[
            &format!("{at}.rule: Required value: rule is not specified"),
            &format!(r#"{at}.fieldPath: Invalid value: ".b": must be a valid path"#),
            &format!(
                r#"{at}.reason: Unsupported value: "Other": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#
            ),
        ],
    );
    full(
        rules(json!({"rule": "a\n&& b"})),
        &[&format!("{at}.message: Required value: message must be specified if rule contains line breaks")],
    );
}

#[test]
fn statuses_at_the_root() {
    let schema = json!({"type": "object", "allOf": [{"required": ["a"]}]});
    let mut errors = ErrorList::new();
    root_with_status(schema.as_object().expect("an object"), &schema, &Path::new("s"), &mut errors);
    assert!(errors[0].detail.starts_with("only [Description Type Format"), "{errors:?}");
    check(json!({"type": "object", "required": ["a"]}), true, Strictness::FULL, &[]);
}

#[test]
fn paths_of_fields() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "object", "properties": {"b": {"type": "string"}, "it's": {"type": "string"}}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "l": {"type": "array", "items": {"type": "string"}}}});
    let schema = compile(&schema).expect("a schema");
    let check = |path: &str, expect: Result<&[&str], &str>| {
        let found = field_path(path, &schema, true).map(|found| found.steps);
        let expect = expect.map(|steps| steps.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(found, expect.map_err(str::to_owned), "{path}");
    };
    check(".a.b", Ok(&["a", "b"]));
    check(".m.any", Ok(&["m", "any"]));
    check(".m['x.y']", Ok(&["m", "x.y"]));
    check(r".a['it\'s']", Ok(&["a", "it's"]));
    check(".a.c", Err("does not refer to a valid field"));
    check(".l[0]", Err("expected single quoted string but got 0"));
    check(".a[", Err("unexpected end of JSON path"));
    check("a.b", Err("expected [ or . but got: a"));
    check(".a['b'", Err("unexpected end of JSON path"));
    check(".a['b'.", Err("expected ] but got ."));
    check(r".a['\q']", Err(r"invalid string literal: invalid escape char \q"));
    let selectable = |path: &str, expect: &str| {
        let mut errors = ErrorList::new();
        let fields = [json!({ "jsonPath": path })];
        selectable_fields(&fields, &schema, false, &Path::new("s"), &mut errors);
        let told: Vec<String> = errors.iter().map(Error::to_string).collect();
        assert_eq!(told.join("|"), expect, "{path}");
    };
    selectable(".a.b", "");
    selectable(
        ".m['a']",
        r#"s[0].jsonPath: Invalid value: ".m['a']": is an invalid path: array notation is not allowed"#,
    );
    selectable(
        ".l",
        r#"s[0].jsonPath: Invalid value: ".l": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
    );
}
