//! An object in upstream's envelope, as bodies and stored values are.

use apimachinery::codec::protobuf::envelope;
use apimachinery::codec::{json, normal, protobuf};
use apiserver::storage::splice;

use super::{Kind, same};
use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let Ok(opened) = envelope::unwrap(bytes) else { return };
    let again = envelope::wrap(opened.api_version, opened.kind, opened.raw);
    assert_eq!(envelope::unwrap(&again), Ok(opened));

    let schema = api::schema();
    let ty = Kind::of(opened.api_version, opened.kind).ty;
    let decoded = bounded(|| protobuf::decode(schema, ty, opened.raw));
    if is_large(bytes) {
        return;
    }
    // what goes past the value, from bytes to bytes
    let mut text = Vec::new();
    let transcoded = protobuf::to_json(schema, ty, opened.raw, &protobuf::Head::default(), &mut text);
    let mut spliced = Vec::new();
    splice::Message::new(opened.raw, 7).write(&mut spliced);

    let Ok(value) = decoded else { return };
    assert_eq!(transcoded, Ok(()), "what is decoded is transcoded");

    let message = protobuf::encode(schema, ty, &value).expect("what was decoded is encoded");
    text.clear();
    protobuf::to_json(schema, ty, &message, &protobuf::Head::default(), &mut text).expect("just encoded");
    // JSON inside is passed on as it is, and not as it would be written
    let (transcoded, _) = json::parse(&text).expect("JSON that was transcoded");
    let (written, _) = json::parse(&json::to_vec(schema, ty, &value)).expect("JSON that was written");
    assert!(same(&transcoded, &written), "transcoded {transcoded} and written {written}");

    let again = protobuf::decode(schema, ty, &message).expect("protobuf that was written is read");
    assert!(same(&again, &value), "{value} is in protobuf and back {again}");
    let mut normalized = value.clone();
    normal::normalize(schema, ty, &mut normalized).expect("what was decoded has the types of its fields");
    assert_eq!(normalized, value, "decoded is normal");
    let read = json::decode(schema, ty, &text).expect("JSON that was written is read");
    assert_eq!(read.strict_error(), None);
    assert!(same(&read.value, &value), "{value} is in JSON and back {}", read.value);

    if value["metadata"].get("creationTimestamp").is_some() || value["metadata"]["name"].is_string() {
        let mut expect = value.clone();
        expect["metadata"]["resourceVersion"] = "7".into();
        spliced.clear();
        splice::Message::new(&message, 7).write(&mut spliced);
        let read = protobuf::decode(schema, ty, &spliced).expect("protobuf that was spliced is read");
        assert!(same(&read, &expect), "{expect} is spliced into {read}");
    }
}
