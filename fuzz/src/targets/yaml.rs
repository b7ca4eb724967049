//! YAML: of no type, and of the type that it names.

use apimachinery::codec::{json, yaml};

use super::Kind;

pub fn run(bytes: &[u8]) {
    let Ok((value, _)) = yaml::parse(bytes) else { return };
    let text = yaml::to_string(&value);
    let again = yaml::parse(text.as_bytes()).map(|(value, duplicate)| (value, duplicate.is_some()));
    assert_eq!(again, Ok((value.clone(), false)), "written as\n{text}");

    let schema = api::schema();
    let ty = Kind::of_value(&value).ty;
    let Ok(decoded) = yaml::decode(schema, ty, bytes) else { return };
    let written = json::to_vec(schema, ty, &decoded.value);
    let read = json::decode(schema, ty, &written).expect("JSON that was written is read");
    assert_eq!(read.value, decoded.value, "as JSON");
    let written = yaml::to_string(&decoded.value);
    let read = yaml::decode(schema, ty, written.as_bytes()).expect("YAML that was written is read");
    assert_eq!(read.value, decoded.value, "as YAML\n{written}");
}
