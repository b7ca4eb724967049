//! `additionalPrinterColumns`: the columns of a custom resource's table (upstream's
//! `registry/customresource/tableconvertor`).

use apimachinery::jsonpath::JsonPath;
use jiff::Timestamp;
use kinds::columns::human_duration;
use serde_json::{Value, json};

/// How objects of a custom resource are shown.
#[derive(Debug)]
pub struct Columns {
    definitions: Vec<Value>,
    rest: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    kind: Box<str>,
    path: Option<JsonPath>,
}

impl Columns {
    /// Reads the columns; without any, an object is shown by its age.
    pub(super) fn new(columns: &Value) -> Columns {
        let mut definitions = vec![json!({"name": "Name", "type": "string", "format": "name",
            "description": "Name of the object, unique within its namespace.", "priority": 0})];
        let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since the object was created."}]);
        let given = columns.as_array().filter(|list| !list.is_empty());
        let mut rest = Vec::new();
        for column in given.or(age.as_array()).into_iter().flatten() {
            let text = |field: &str| column[field].as_str().unwrap_or_default();
            let path = text("jsonPath");
            let description = match text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                own => own.to_owned(),
            };
            definitions.push(json!({"name": text("name"), "type": text("type"), "format": text("format"),
                "description": description, "priority": column["priority"].as_i64().unwrap_or(0)}));
            rest.push(Column { kind: text("type").into(), path: JsonPath::parse(path).ok() });
        }
        Columns { definitions, rest }
    }

    /// As `meta/v1.TableColumnDefinition`.
    pub fn definitions(&self) -> &[Value] {
        &self.definitions
    }

    /// The cells of one object, one per definition.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(self.rest.iter().map(|column| {
            let found = column.path.as_ref().and_then(|path| path.find(object).first().copied());
            found.map_or(Value::Null, |value| cell(&column.kind, value, now))
        }));
        cells
    }
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|f| f as i64)).into()
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => human_duration(now.as_second() - time.as_second()).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_by_type() {
        let columns = json!([
            {"name": "S", "type": "string", "jsonPath": ".spec.s"},
            {"name": "O", "type": "string", "jsonPath": ".spec.o"},
            {"name": "I", "type": "integer", "jsonPath": ".spec.i", "priority": 1},
            {"name": "B", "type": "boolean", "jsonPath": ".spec.b"},
            {"name": "Bad", "type": "boolean", "jsonPath": ".spec.s"},
            {"name": "D", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "None", "type": "date", "jsonPath": ".status.no"},
            {"name": "X", "type": "date", "jsonPath": ".spec.s"},
        ]);
        let columns = Columns::new(&columns);
        let now: Timestamp = "2024-01-01T00:01:00Z".parse().unwrap();
        let object = json!({"metadata": {"name": "n", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"s": "text", "o": {"a": 1}, "i": 7, "b": true}});
        let cells = columns.cells(&object, now);
        assert_eq!(
            cells,
            [
                json!("n"),
                json!("text"),
                json!("{\"a\":1}"),
                json!(7),
                json!(true),
                Value::Null,
                json!("60s"),
                Value::Null,
                json!("<invalid>"),
            ]
        );
        assert_eq!(columns.definitions()[3]["priority"], 1);
        assert_eq!(Columns::new(&Value::Null).cells(&object, now), [json!("n"), json!("60s")]);
    }
}
