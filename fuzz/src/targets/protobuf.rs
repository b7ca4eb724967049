//! An object in upstream's envelope, as bodies and stored values are.

use apimachinery::codec::protobuf::envelope;
use apimachinery::codec::{json, normal, protobuf};
use apiserver::storage::splice;

use super::Kind;

pub fn run(bytes: &[u8]) {
    let Ok(opened) = envelope::unwrap(bytes) else { return };
    let again = envelope::wrap(opened.api_version, opened.kind, opened.raw);
    assert_eq!(envelope::unwrap(&again), Ok(opened));

    let schema = api::schema();
    let ty = Kind::of(opened.api_version, opened.kind).ty;
    // what goes past the value, from bytes to bytes
    let mut text = Vec::new();
    let transcoded = protobuf::to_json(schema, ty, opened.raw, &protobuf::Head::default(), &mut text);
    let mut spliced = Vec::new();
    splice::Message::new(opened.raw, 7).write(&mut spliced);

    let decoded = protobuf::decode(schema, ty, opened.raw);
    assert_eq!(transcoded.is_ok(), decoded.is_ok(), "{transcoded:?} and {:?}", decoded.as_ref().err());
    let Ok(value) = decoded else { return };
    assert_eq!(
        show(&text),
        show(&json::to_vec(schema, ty, &value)),
        "transcoded, and written from the value"
    );

    let message = protobuf::encode(schema, ty, &value).expect("what was decoded is encoded");
    assert_eq!(protobuf::decode(schema, ty, &message).as_ref(), Ok(&value), "protobuf and back");
    let mut normalized = value.clone();
    normal::normalize(schema, ty, &mut normalized).expect("what was decoded has the types of its fields");
    assert_eq!(normalized, value, "decoded is normal");
    let read = json::decode(schema, ty, &text).expect("JSON that was written is read");
    assert_eq!(read.strict_error(), None);
    assert_eq!(read.value, value, "JSON and back");

    if value["metadata"].get("creationTimestamp").is_some() || value["metadata"]["name"].is_string() {
        let mut expect = value.clone();
        expect["metadata"]["resourceVersion"] = "7".into();
        spliced.clear();
        splice::Message::new(&message, 7).write(&mut spliced);
        assert_eq!(protobuf::decode(schema, ty, &spliced), Ok(expect), "with its version put in");
    }
}

fn show(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}
