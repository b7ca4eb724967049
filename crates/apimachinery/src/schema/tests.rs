use super::*;

fn scalar(name: &'static str, tag: u16) -> Member {
    Member::Field(Field { tag, ..Field::new(name, Shape::String) })
}

#[test]
fn inlined_structs_are_flat_in_json_and_nested_in_protobuf() {
    let inner = Member::Inline { tag: 2, members: vec![scalar("b", 2), scalar("a", 1)] };
    let ty = Type::new("io.x.v1.T", vec![scalar("kind", 0), inner, scalar("name", 1)]);
    let names: Vec<_> = ty.fields.iter().map(|f| &*f.name).collect();
    assert_eq!(names, ["kind", "b", "a", "name"]);
    assert_eq!(ty.position("name"), Some(3));
    assert_eq!(ty.position("Name"), None);
    assert!(matches!(ty.wire().find(1), Some(Wire::Field { at: 3, .. })));
    let Some(Wire::Inline { plan, .. }) = ty.wire().find(2) else { panic!("tag 2 is the inlined message") };
    assert!(matches!(plan.find(1), Some(Wire::Field { at: 2, .. })));
    assert!(ty.wire().find(3).is_none() && ty.wire().find(u32::MAX).is_none());
    assert_eq!((ty.short_name(), ty.go_name()), ("T", "v1.T"));
}

#[test]
fn a_schema_extends_another() {
    let base: &'static Schema = Box::leak(Box::new({
        let mut schema = Schema::new();
        schema.add(Type::new("meta", vec![scalar("name", 1)]));
        schema
    }));
    let meta = base.find("meta").unwrap();
    let mut schema = Schema::extending(base);
    let own = schema.add(Type::new("own", vec![]));
    assert_eq!(schema.find("meta"), Some(meta));
    assert_eq!(&*schema[meta].name, "meta");
    assert_eq!(&*schema[own].name, "own");
    assert_eq!(schema.types().count(), 1);
}
