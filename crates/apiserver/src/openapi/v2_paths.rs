//! Paths and operations of v3 as v2 says them, in JSON and in gnostic's protobuf. kubectl up to 1.26 looks here
//! whether a kind's writes take `dryRun`.

use serde_json::{Map, Value, json};

use super::v2::{Message, encode, older};

/// The parameters, bodies and answers of a path, in v2's places.
pub fn item(v3: Value) -> Value {
    let Value::Object(fields) = v3 else { return v3 };
    let each = fields.into_iter().map(|(key, value)| {
        let value = match (key.as_str(), value) {
            ("parameters", list) => parameters(list),
            (_, operation) => self::operation(operation),
        };
        (key, value)
    });
    Value::Object(each.collect())
}

fn parameters(v3: Value) -> Value {
    let Value::Array(list) = v3 else { return v3 };
    let one = |mut parameter: Value| {
        let schema = parameter["schema"].take();
        if let (Some(out), Value::Object(schema)) = (parameter.as_object_mut(), schema) {
            out.remove("schema");
            out.extend(schema);
        }
        parameter
    };
    list.into_iter().map(one).collect()
}

fn media_types(content: &Value) -> Value {
    content.as_object().into_iter().flatten().map(|(name, _)| Value::from(name.as_str())).collect()
}

/// The schema of a body: the same in all its media types.
fn schema(content: &mut Value) -> Option<Value> {
    let (_, first) = content.as_object_mut()?.iter_mut().next()?;
    Some(older(first["schema"].take()))
}

fn operation(v3: Value) -> Value {
    let Value::Object(mut out) = v3 else { return v3 };
    let mut list = match out.remove("parameters").map(parameters) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if let Some(mut body) = out.remove("requestBody") {
        out.insert("consumes".into(), media_types(&body["content"]));
        let mut parameter = json!({"in": "body", "name": "body"});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        if let Some(schema) = schema(&mut body["content"]) {
            parameter["schema"] = schema;
        }
        list.insert(0, parameter);
    }
    if !list.is_empty() {
        out.insert("parameters".into(), list.into());
    }
    let mut produces = Value::Null;
    for (_, response) in out.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(mut content) = response.as_object_mut().and_then(|response| response.remove("content"))
        else {
            continue;
        };
        produces = media_types(&content);
        if let Some(schema) = schema(&mut content) {
            response["schema"] = schema;
        }
    }
    if !produces.is_null() {
        out.insert("produces".into(), produces);
    }
    out.insert("schemes".into(), json!(["https"]));
    Value::Object(out)
}

/// gnostic's `NamedPathItem`.
pub fn named_item(path: &str, item: &Value) -> Message {
    let mut value = Message::default();
    for (key, part) in item.as_object().into_iter().flatten() {
        let tag = match key.as_str() {
            "get" => 2,
            "put" => 3,
            "post" => 4,
            "delete" => 5,
            "options" => 6,
            "head" => 7,
            "patch" => 8,
            "parameters" => {
                for parameter in part.as_array().into_iter().flatten() {
                    value.message(9, &encode_parameter(parameter));
                }
                continue;
            }
            _ => continue,
        };
        value.message(tag, &encode_operation(part));
    }
    let mut out = Message::default();
    out.text(1, path).message(2, &value);
    out
}

fn texts(out: &mut Message, tag: usize, list: &Value) {
    for text in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.text(tag, text);
    }
}

fn encode_operation(operation: &Value) -> Message {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    let mut out = Message::default();
    texts(&mut out, 1, &operation["tags"]);
    out.text(3, text("description")).text(5, text("operationId"));
    texts(&mut out, 6, &operation["produces"]);
    texts(&mut out, 7, &operation["consumes"]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        out.message(8, &encode_parameter(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut one = Message::default();
        one.text(1, response["description"].as_str().unwrap_or_default());
        if let Some(schema) = response.get("schema") {
            let mut item = Message::default();
            item.message(1, &encode(schema));
            one.message(2, &item);
        }
        let (mut value, mut named) = (Message::default(), Message::default());
        value.message(1, &one);
        named.text(1, code).message(2, &value);
        responses.message(1, &named);
    }
    out.message(9, &responses);
    texts(&mut out, 10, &operation["schemes"]);
    for (key, value) in operation.as_object().unwrap_or(&Map::new()) {
        if key.starts_with("x-") {
            let mut item = Message::default();
            item.text(1, key).any(2, value);
            out.message(13, &item);
        }
    }
    out
}

/// gnostic's `ParametersItem`: of a body, of the query or of the path.
fn encode_parameter(parameter: &Value) -> Message {
    let text = |key: &str| parameter[key].as_str().unwrap_or_default();
    let required = parameter["required"] == true;
    let (mut one, mut kind, mut out) = (Message::default(), Message::default(), Message::default());
    match text("in") {
        "body" => {
            one.text(2, text("name")).text(3, "body").flag(4, required);
            if let Some(schema) = parameter.get("schema") {
                one.message(5, &encode(schema));
            }
            kind.message(1, &one);
        }
        place => {
            one.flag(1, required).text(2, place);
            if !text("description").is_empty() {
                one.text(3, text("description"));
            }
            one.text(4, text("name"));
            let (tag, type_tag) = if place == "path" { (4, 5) } else { (3, 6) };
            one.text(type_tag, text("type"));
            let mut other = Message::default();
            other.message(tag, &one);
            kind.message(2, &other);
        }
    }
    out.message(1, &kind);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_of_v2() {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/a.B"}}});
        let v3 = json!({"put": {"operationId": "replace", "parameters":
            [{"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
            "requestBody": {"required": true, "content": content},
            "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "no"}}}});
        let v2 = item(v3);
        assert_eq!(
            v2["put"],
            json!({"operationId": "replace", "consumes": ["application/json"], "produces": ["application/json"],
                "schemes": ["https"],
                "parameters": [
                    {"in": "body", "name": "body", "required": true, "schema": {"$ref": "#/definitions/a.B"}},
                    {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/a.B"}},
                    "401": {"description": "no"}}})
        );
        // ParametersItem 1 { Parameter 2 { NonBodyParameter 3 { in 2, name 4, type 6 } } }
        let query = &v2["put"]["parameters"][1];
        assert_eq!(
            encode_parameter(query).0,
            b"\x0a\x1b\x12\x19\x1a\x17\x12\x05query\x22\x06dryRun\x32\x06string"
        );
        // NamedPathItem { name 1, value 2 { put 3 { .. } } }
        assert!(named_item("/x", &v2).0.starts_with(b"\x0a\x02/x\x12"));
    }
}
