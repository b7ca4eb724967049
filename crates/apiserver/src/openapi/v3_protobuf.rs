//! v3 in gnostic's protobuf (`openapiv3/OpenAPIv3.proto`): one table says where each JSON field goes.

use serde_json::Value;

use super::v2::Message;

/// JSON fields of a message: name, tag, and how they are written.
type Record = &'static [(&'static str, usize, Kind)];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    /// A list of values in YAML.
    Values,
    /// A number, a boolean or a text; anything else is an empty message, as upstream writes it.
    Default,
    One(&'static Form),
    Many(&'static Form),
    /// A map: a message of repeated `{name, value}` with this tag.
    Map(usize, &'static Form),
    /// A list of one, as `items` are.
    Items,
    /// A schema or a boolean.
    Additional,
}

/// What a message holds.
struct Form {
    fields: Record,
    /// `x-…` go here; 0: nowhere.
    extensions: usize,
    /// It stands as itself (1) or as a reference (2).
    or_reference: bool,
}

static SCHEMA: Form = Form {
    fields: &[
        ("required", 23, Kind::Texts),
        ("enum", 24, Kind::Values),
        ("type", 25, Kind::Text),
        ("allOf", 26, Kind::Many(&SCHEMA)),
        ("oneOf", 27, Kind::Many(&SCHEMA)),
        ("items", 30, Kind::Items),
        ("properties", 31, Kind::Map(1, &SCHEMA)),
        ("additionalProperties", 32, Kind::Additional),
        ("default", 33, Kind::Default),
        ("description", 34, Kind::Text),
        ("format", 35, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 36,
    or_reference: true,
};
static MEDIA_TYPE: Form =
    Form { fields: &[("schema", 1, Kind::One(&SCHEMA))], extensions: 5, or_reference: false };
static PARAMETER: Form = Form {
    fields: &[
        ("name", 1, Kind::Text),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 10, Kind::One(&SCHEMA)),
    ],
    extensions: 14,
    or_reference: true,
};
static REQUEST_BODY: Form = Form {
    fields: &[("content", 2, Kind::Map(1, &MEDIA_TYPE)), ("required", 3, Kind::Flag)],
    extensions: 4,
    or_reference: true,
};
static RESPONSE: Form = Form {
    fields: &[("description", 1, Kind::Text), ("content", 3, Kind::Map(1, &MEDIA_TYPE))],
    extensions: 5,
    or_reference: true,
};
static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("parameters", 6, Kind::Many(&PARAMETER)),
        ("requestBody", 7, Kind::One(&REQUEST_BODY)),
        ("responses", 8, Kind::Map(2, &RESPONSE)),
    ],
    extensions: 13,
    or_reference: false,
};
static PATH_ITEM: Form = Form {
    fields: &[
        ("get", 4, Kind::One(&OPERATION)),
        ("put", 5, Kind::One(&OPERATION)),
        ("post", 6, Kind::One(&OPERATION)),
        ("delete", 7, Kind::One(&OPERATION)),
        ("options", 8, Kind::One(&OPERATION)),
        ("head", 9, Kind::One(&OPERATION)),
        ("patch", 10, Kind::One(&OPERATION)),
        ("parameters", 13, Kind::Many(&PARAMETER)),
    ],
    extensions: 14,
    or_reference: false,
};
static SECURITY_SCHEME: Form = Form {
    fields: &[
        ("type", 1, Kind::Text),
        ("description", 2, Kind::Text),
        ("name", 3, Kind::Text),
        ("in", 4, Kind::Text),
    ],
    extensions: 9,
    or_reference: true,
};

fn message(value: &Value, kind: &Form) -> Message {
    if kind.or_reference {
        let mut out = Message::default();
        match value["$ref"].as_str() {
            Some(to) => {
                let mut reference = Message::default();
                reference.text(1, to);
                out.message(2, &reference);
            }
            None => drop(out.message(1, &plain(value, kind))),
        }
        return out;
    }
    plain(value, kind)
}

fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.text(1, name).message(2, value);
    out
}

fn texts(out: &mut Message, tag: usize, list: &Value) {
    for text in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.text(tag, text);
    }
}

fn plain(value: &Value, kind: &Form) -> Message {
    let mut out = Message::default();
    for (name, tag, how) in kind.fields {
        let Some(field) = value.get(name) else { continue };
        let (tag, list) = (*tag, || field.as_array().into_iter().flatten());
        let mut inner = Message::default();
        match how {
            Kind::Text => drop(out.text(tag, field.as_str().unwrap_or_default())),
            Kind::Texts => texts(&mut out, tag, field),
            Kind::Flag => drop(out.flag(tag, field == &Value::Bool(true))),
            Kind::Values => {
                for one in list() {
                    out.any(tag, one);
                }
            }
            Kind::Default => {
                match field {
                    Value::Number(number) => drop(inner.double(1, number.as_f64().unwrap_or_default())),
                    Value::Bool(on) => drop(inner.number(2, usize::from(*on))),
                    Value::String(text) => drop(inner.text(3, text)),
                    _ => {}
                }
                out.message(tag, &inner);
            }
            Kind::One(kind) => drop(out.message(tag, &message(field, kind))),
            Kind::Many(kind) => {
                for one in list() {
                    out.message(tag, &message(one, kind));
                }
            }
            Kind::Map(each, kind) => {
                for (name, value) in field.as_object().into_iter().flatten() {
                    inner.message(*each, &named(name, &message(value, kind)));
                }
                out.message(tag, &inner);
            }
            Kind::Items => {
                inner.message(1, &message(field, &SCHEMA));
                out.message(tag, &inner);
            }
            Kind::Additional => {
                match field {
                    Value::Bool(on) => drop(inner.number(2, usize::from(*on))),
                    schema => drop(inner.message(1, &message(schema, &SCHEMA))),
                }
                out.message(tag, &inner);
            }
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if name.starts_with("x-") {
            let mut one = Message::default();
            one.text(1, name).any(2, value);
            out.message(kind.extensions, &one);
        }
    }
    out
}

/// The beginning of a document.
pub fn head(version: &str) -> Vec<u8> {
    let mut info = Message::default();
    info.text(1, "Kubernetes").text(6, version);
    let mut out = Message::default();
    out.text(1, "3.0.0").message(2, &info).message(4, &Message::default());
    out.0
}

/// A piece of a document: one path. Pieces of one message are put together by whoever reads it.
pub fn path(name: &str, item: &Value) -> Vec<u8> {
    let (mut paths, mut out) = (Message::default(), Message::default());
    paths.message(1, &named(name, &plain(item, &PATH_ITEM)));
    out.message(4, &paths);
    out.0
}

/// A piece of a document: one type.
pub fn schema(name: &str, schema: &Value) -> Vec<u8> {
    component(1, name, schema, &SCHEMA)
}

/// A piece of a document: how clients say who they are.
pub fn security(name: &str, scheme: &Value) -> Vec<u8> {
    component(7, name, scheme, &SECURITY_SCHEME)
}

fn component(tag: usize, name: &str, value: &Value, kind: &Form) -> Vec<u8> {
    let (mut all, mut components, mut out) = (Message::default(), Message::default(), Message::default());
    all.message(1, &named(name, &message(value, kind)));
    components.message(tag, &all);
    out.message(5, &components);
    out.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Bytes that upstream v1.36 answers with for the same.
    #[test]
    fn as_gnostic_writes_it() {
        let port = json!({"default": 0, "description": "d", "format": "int32", "type": "integer"});
        let table: [(Value, &[u8]); 5] = [
            (port, b"\xca\x01\x07integer\x8a\x02\x09\x09\0\0\0\0\0\0\0\0\x92\x02\x01d\x9a\x02\x05int32"),
            (
                json!({"type": "string", "enum": ["TCP"], "default": "TCP"}),
                b"\xc2\x01\x07\x12\x05\"TCP\"\xca\x01\x06string\x8a\x02\x05\x1a\x03TCP",
            ),
            (json!({"default": {}, "allOf": [{"$ref": "#/a"}]}), b"\xd2\x01\x07\x12\x05\n\x03#/a\x8a\x02\0"),
            (json!({"items": {"type": "string"}}), b"\xf2\x01\x0d\n\x0b\n\x09\xca\x01\x06string"),
            (json!({"x-y": true}), b"\xa2\x02\x0d\n\x03x-y\x12\x06\x12\x04true"),
        ];
        for (schema, expect) in table {
            assert_eq!(plain(&schema, &SCHEMA).0, expect, "{schema}");
        }
        let scheme = json!({"type": "apiKey", "description": "Bearer Token authentication", "in": "header",
            "name": "authorization"});
        assert_eq!(
            security("BearerToken", &scheme),
            b"\x2aQ:O\nM\n\x0bBearerToken\x12>\n<\n\x06apiKey\x12\x1bBearer Token authentication\x1a\x0dauthorization\"\
              \x06header"
        );
    }
}
