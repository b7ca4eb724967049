//! Objects that nobody would write, the same for the same seed.

use apimachinery::schema::{Field, ListType, Schema, Shape, TypeId};
use serde_json::{Map, Value, json};

/// A small generator of random numbers (splitmix64).
pub struct Random {
    state: u64,
    /// How many more fields there may be.
    budget: u32,
    /// Nulls where a client may write them.
    pub nulls: bool,
    /// Lists and maps without anything in them, zero times.
    pub empties: bool,
}

impl Random {
    pub fn new(seed: u64, name: &str) -> Random {
        let mixed = name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Random { state: mixed, budget: 0, nulls: true, empties: true }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or_default()
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// An object of the type with about `size` fields.
    pub fn object(&mut self, schema: &Schema, ty: TypeId, size: u32) -> Value {
        self.budget = size;
        self.message(schema, ty, 0)
    }

    fn message(&mut self, schema: &Schema, ty: TypeId, depth: usize) -> Value {
        let mut object = Map::new();
        let fields = &schema[ty].fields;
        let percent = if depth < 2 { 70 } else { (500 / fields.len().max(1)).clamp(15, 60) };
        // from any field on, so that the last get their share
        let start = self.below(fields.len());
        for at in 0..fields.len() {
            let field = &fields[(at + start) % fields.len()];
            let typed = field.tag == 0 && (field.name == "kind" || field.name == "apiVersion");
            if typed
                || field.name == "managedFields"
                || self.budget == 0
                || depth > 16
                || !self.chance(percent)
            {
                continue;
            }
            self.budget -= 1;
            let value = self.field(schema, field, depth);
            object.insert(field.name.to_string(), value);
        }
        Value::Object(object)
    }

    fn field(&mut self, schema: &Schema, field: &Field, depth: usize) -> Value {
        if self.nulls && self.chance(3) {
            return Value::Null;
        }
        let named = field.named.and_then(|id| schema.named(id)).filter(|named| !named.values.is_empty());
        if let Some(named) = named
            && self.chance(80)
        {
            return json!(self.pick(&named.values));
        }
        match &field.shape {
            Shape::List(list) => {
                let length = self.length(&[0, 1, 1, 2, 3]);
                let keys: Vec<String> = match (&field.patch.key, list.kind) {
                    (_, ListType::Map) => list.keys.iter().map(|key| key.to_string()).collect(),
                    (Some(key), _) => vec![key.to_string()],
                    _ => Vec::new(),
                };
                let mut items = Vec::new();
                for n in 0..length {
                    let mut item = self.value(schema, &list.element, depth + 1);
                    if let (Some(object), Some(id)) = (item.as_object_mut(), list.element.message()) {
                        for key in &keys {
                            let shape =
                                schema[id].fields.iter().find(|f| f.name == key.as_str()).map(|f| &f.shape);
                            let value = match shape {
                                Some(Shape::Int32 | Shape::Int64) => json!(80 + self.below(3)),
                                Some(Shape::String) => json!(self.pick(&["a", "b", "c"])),
                                _ => continue,
                            };
                            object.insert(key.clone(), value);
                        }
                    } else if list.kind == ListType::Set && item.is_string() {
                        item = json!(["x", "y", "z"][n % 3]);
                    }
                    items.push(item);
                }
                Value::Array(items)
            }
            shape => self.value(schema, shape, depth),
        }
    }

    fn length(&mut self, of: &[usize]) -> usize {
        let length = *self.pick(of);
        if self.empties { length } else { length.max(1) }
    }

    fn value(&mut self, schema: &Schema, shape: &Shape, depth: usize) -> Value {
        match shape {
            Shape::String => json!(self.pick(&[
                "",
                "a",
                "b",
                "some",
                "<&>\u{2028}\u{e4}",
                "10.0.0.1",
                "true",
                "1e3",
                "a: b",
                " x",
                "two\nlines",
                "\t"
            ])),
            Shape::Bool => json!(self.chance(50)),
            Shape::Int32 => json!(self.pick(&[0, 1, 2, 30, -7, i32::MAX, i32::MIN])),
            Shape::Int64 => json!(self.pick(&[0, 1, 2, 30, -7, i64::MAX, i64::MIN])),
            Shape::Double => {
                self.pick(&[json!(0), json!(0.25), json!(-1.5e-9), json!(1e21), json!(3)]).clone()
            }
            Shape::Bytes => json!(self.pick(&["", "AAEC/w==", "eA=="])),
            Shape::Quantity => self
                .pick(&[
                    json!("0"),
                    json!(0),
                    json!(1.5),
                    json!("1500m"),
                    json!("1.5Gi"),
                    json!("1000Ki"),
                    json!("1e3"),
                    json!("12E"),
                    json!("0.0001"),
                    json!("1024"),
                    json!(2),
                    json!("-5"),
                    json!("100n"),
                    json!("1.0"),
                    json!("3000000000000000000000"),
                    json!("0.5"),
                    json!("+1k"),
                    json!("1E2"),
                    json!("9223372036854775807"),
                    json!("1.00001"),
                    json!("5Mi"),
                ])
                .clone(),
            Shape::IntOrString => {
                self.pick(&[json!(0), json!(8080), json!(""), json!("50%"), json!("http"), json!(-1)]).clone()
            }
            Shape::Time => {
                let zero = if self.empties { "0001-01-01T00:00:00Z" } else { "2026-11-21T18:00:01Z" };
                json!(self.pick(&[
                    "2026-11-21T18:00:00Z",
                    "2026-11-21T18:00:00+02:00",
                    "2026-11-21T18:00:00.5Z",
                    zero,
                    "1969-12-31T23:59:59Z",
                    "9999-12-31T23:59:59Z"
                ]))
            }
            Shape::MicroTime => json!(self.pick(&[
                "2026-11-21T18:00:00.000123Z",
                "2026-11-21T18:00:00.000000Z",
                "2026-11-21T18:00:00.100000+02:00",
                "1969-12-31T23:59:59.999999Z"
            ])),
            Shape::Duration => {
                json!(self.pick(&["0s", "1h30m0.5s", "90m", "1.5h", "-3s", "100ns", "1us", "0", "1h"]))
            }
            Shape::FieldsV1 => self.pick(&[json!({}), json!({"f:metadata": {"f:name": {}}})]).clone(),
            Shape::RawExtension | Shape::Json => self
                .pick(&[
                    json!({}),
                    json!({"a": [1, 2.5, null, "x"], "b": {}}),
                    json!("text"),
                    json!(1),
                    json!(false),
                    json!([]),
                    json!({"apiVersion": "v1", "kind": "Pod"}),
                ])
                .clone(),
            Shape::SchemaOrBool(_) if self.chance(50) => json!(self.chance(50)),
            Shape::SchemaOrStrings(_) if self.chance(50) => json!(["a", "b"]),
            Shape::SchemaOrArray(id) if self.chance(50) => {
                let one = self.message(schema, *id, depth + 1);
                json!([one])
            }
            Shape::Message(id)
            | Shape::SchemaOrBool(id)
            | Shape::SchemaOrStrings(id)
            | Shape::SchemaOrArray(id) => self.message(schema, *id, depth + 1),
            Shape::List(list) => {
                let length = self.length(&[0, 1, 2]);
                Value::Array((0..length).map(|_| self.value(schema, &list.element, depth + 1)).collect())
            }
            Shape::Map(map) => {
                let all: [&[&str]; 4] = [&[], &["a"], &["b.example/x", "a"], &["cpu", "memory", "c"]];
                let keys = if self.empties { *self.pick(&all) } else { *self.pick(&all[1..]) };
                let mut object = Map::new();
                for key in keys {
                    object.insert((*key).into(), self.value(schema, &map.value, depth + 1));
                }
                Value::Object(object)
            }
        }
    }
}
