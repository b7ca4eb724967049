//! What published definitions are told, and what they take: `cargo run -p kinds --example definitions FILE.json…`, each
//! a CustomResourceDefinition in JSON. Prints the bytes of the file, of the compiled schemas, and of their rules once
//! all of them are compiled, and every fault.

use apiextensions::expressions::Rules;
use apiextensions::structural;
use apimachinery::codec::normal;
use apimachinery::field::{ErrorList, Path};
use serde_json::Value;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() {
    let strategy = kinds::strategy("apiextensions.k8s.io", "CustomResourceDefinition");
    let id = api::object_type("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("a kind");
    println!("{:>9} {:>9} {:>9} name", "bytes", "schemas", "rules");
    for file in std::env::args().skip(1) {
        let text = std::fs::read(&file).expect("a file");
        let mut object: Value = serde_json::from_slice(&text).expect("JSON");
        normal::normalize(api::schema(), id, &mut object).expect("a definition");
        kinds::defaults::apply(id, &mut object);
        (strategy.prepare_for_create)(&mut object);
        let mut errors = ErrorList::new();
        (strategy.validate)(&object, &mut errors);
        let before = MEMORY.current_usage();
        let versions = object["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let schemas: Vec<_> = versions
            .iter()
            .map(|version| {
                structural::compile(&version["schema"]["openAPIV3Schema"]).expect("a schema").as_root()
            })
            .collect();
        let of_schemas = MEMORY.current_usage() - before;
        let before = MEMORY.current_usage();
        let rules: Vec<Rules> = schemas.iter().map(Rules::compile).collect();
        for (rules, schema) in rules.iter().zip(&schemas) {
            let mut budget = Rules::BUDGET;
            rules.validate(schema, &sample(schema), None, &Path::NIL, &mut budget);
        }
        let of_rules = MEMORY.current_usage() - before;
        println!("{:>9} {of_schemas:>9} {of_rules:>9} {}", text.len(), object["metadata"]["name"]);
        for error in errors {
            println!("    {error}");
        }
    }
}

/// An object in which every node of a schema is.
fn sample(schema: &structural::Structural) -> Value {
    use structural::Kind;
    match schema.kind {
        Some(Kind::Object) => {
            let properties = schema.properties.iter();
            let mut object: serde_json::Map<String, Value> =
                properties.map(|(name, property)| (name.to_string(), sample(property))).collect();
            if let Some(schema) = schema.additional.schema() {
                object.insert("any".to_owned(), sample(schema));
            }
            object.into()
        }
        Some(Kind::Array) => schema.items.iter().map(|items| sample(items)).collect(),
        Some(Kind::Boolean) => true.into(),
        Some(Kind::Integer | Kind::Number) => 1.into(),
        Some(Kind::String) => "a".into(),
        None => Value::from(1),
    }
}
