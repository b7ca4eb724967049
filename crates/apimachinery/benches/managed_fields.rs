//! What managed fields cost: a workload of about 10 KiB, created, updated and applied.
//!
//! `cargo bench -p apimachinery --bench managed_fields`

use std::hint::black_box;

use apimachinery::codec::normal;
use apimachinery::managed_fields::{Applied, Reset, Writer, set_of};
use apimachinery::schema::{Field, List, ListType, Map, Member, Schema, Shape, Type, TypeId};
use divan::Bencher;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

fn field(name: &'static str, shape: Shape) -> Member {
    Member::Field(Field { pointer: false, ..Field::new(name, shape) })
}

fn list(element: Shape, keys: &[&'static str]) -> Shape {
    let kind = if keys.is_empty() { ListType::Atomic } else { ListType::Map };
    let keys = keys.iter().map(|key| (*key).into()).collect();
    Shape::List(Box::new(List { element, kind, keys, wrapped: false }))
}

fn texts() -> Shape {
    Shape::Map(Box::new(Map { value: Shape::String }))
}

/// The parts of a Deployment that matter here, as Go declares them.
fn schema() -> (Schema, TypeId) {
    let mut schema = Schema::new();
    let mut add =
        |name: &'static str, members: Vec<Member>| Shape::Message(schema.add(Type::new(name, members)));
    let owners = || list(Shape::RawExtension, &[]);
    let metadata = add(
        "meta",
        vec![
            field("name", Shape::String),
            field("uid", Shape::String),
            field("labels", texts()),
            field("annotations", texts()),
            field("managedFields", owners()),
        ],
    );
    let variable = add("env", vec![field("name", Shape::String), field("value", Shape::String)]);
    let protocol =
        Field { pointer: false, default: Some("\"TCP\"".into()), ..Field::new("protocol", Shape::String) };
    let port = add(
        "port",
        vec![field("name", Shape::String), field("containerPort", Shape::Int32), Member::Field(protocol)],
    );
    let resources = add("resources", vec![field("limits", texts()), field("requests", texts())]);
    let mount = add("mount", vec![field("name", Shape::String), field("mountPath", Shape::String)]);
    let container = add(
        "container",
        vec![
            field("name", Shape::String),
            field("image", Shape::String),
            field("args", list(Shape::String, &[])),
            field("env", list(variable, &["name"])),
            field("ports", list(port, &["containerPort", "protocol"])),
            field("resources", resources),
            field("volumeMounts", list(mount, &["mountPath"])),
            field("imagePullPolicy", Shape::String),
        ],
    );
    let volume = add("volume", vec![field("name", Shape::String), field("hostPath", Shape::RawExtension)]);
    let pod = add(
        "podspec",
        vec![
            field("containers", list(container, &["name"])),
            field("volumes", list(volume, &["name"])),
            field("restartPolicy", Shape::String),
            field("dnsPolicy", Shape::String),
        ],
    );
    let template = add("template", vec![field("metadata", metadata.clone()), field("spec", pod)]);
    let selector = add("selector", vec![field("matchLabels", texts())]);
    let spec = add(
        "spec",
        vec![
            field("replicas", Shape::Int32),
            field("selector", selector),
            field("template", template),
            field("strategy", Shape::RawExtension),
        ],
    );
    let status = add("status", vec![field("readyReplicas", Shape::Int32)]);
    let object = schema.add(Type::new(
        "deployment",
        vec![
            field("kind", Shape::String),
            field("apiVersion", Shape::String),
            field("metadata", metadata),
            field("spec", spec),
            field("status", status),
        ],
    ));
    (schema, object)
}

fn config() -> Value {
    let container = |c: usize| {
        let env: Vec<Value> =
            (0..25).map(|i| json!({"name": format!("VARIABLE_NUMBER_{i}"), "value": format!("the value of {i} of {c}")})).collect();
        let mounts: Vec<Value> = (0..5)
            .map(|i| json!({"name": format!("volume-{i}"), "mountPath": format!("/var/lib/data/{i}")}))
            .collect();
        json!({"name": format!("container-{c}"), "image": "registry.example.org/some/image:v1.2.3",
            "args": ["--first=1", "--second=2", "--third=3"], "env": env, "volumeMounts": mounts,
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}}})
    };
    let volumes: Vec<Value> = (0..5)
        .map(|i| json!({"name": format!("volume-{i}"), "hostPath": {"path": format!("/data/{i}")}}))
        .collect();
    let labels = json!({"app": "x", "tier": "backend", "team": "y"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": (0..5).map(container).collect::<Vec<_>>(), "volumes": volumes}}}})
}

struct World {
    schema: Schema,
    ty: TypeId,
    reset: Reset,
}

impl World {
    fn new() -> World {
        let (schema, ty) = schema();
        World { schema, ty, reset: Reset::of_fields(&[&["status"]]) }
    }

    fn writer<T>(&self, manager: &str, work: impl FnOnce(&Writer<'_>) -> T) -> T {
        let convert = |_: &Value, _: &str, _: &str| None;
        let now = jiff::Timestamp::UNIX_EPOCH;
        let (schema, ty, reset) = (&self.schema, self.ty, &self.reset);
        let api_version = "apps/v1";
        work(&Writer { schema, ty, api_version, manager, subresource: "", now, reset, convert: &convert })
    }

    fn apply(&self, live: Option<&Value>, config: &Value) -> Applied {
        self.writer("a", |w| w.apply(live, config, "Deployment", false)).expect("no conflict")
    }

    /// The object as its applier leaves it, with a status that somebody else writes.
    fn live(&self) -> Value {
        let applied = self.apply(None, &config());
        let mut live = applied.object;
        normal::normalize(&self.schema, self.ty, &mut live).expect("of the type");
        live["metadata"]["uid"] = json!("1");
        live["metadata"]["managedFields"] = applied.managed.expect("an owner");
        let mut with_status = live.clone();
        with_status["status"] = json!({"readyReplicas": 3});
        let none = Reset::of_fields(&[]);
        self.writer("controller", |w| {
            Writer { subresource: "status", reset: &none, ..*w }.update(Some(&live), &mut with_status)
        });
        with_status
    }
}

fn changed(config: &Value) -> Value {
    let mut config = config.clone();
    config["spec"]["template"]["spec"]["containers"][2]["image"] =
        json!("registry.example.org/some/image:v1.2.4");
    config
}

/// Reading the configuration, for comparison.
#[divan::bench]
fn parse(bencher: Bencher) {
    let text = config().to_string();
    assert!((10_000..13_000).contains(&text.len()), "{}", text.len());
    bencher.bench(|| apimachinery::codec::json::parse(black_box(text.as_bytes())));
}

/// Copying the object, which every change of it does.
#[divan::bench]
fn copy(bencher: Bencher) {
    let live = World::new().live();
    bencher.bench(|| black_box(&live).clone());
}

#[divan::bench]
fn set(bencher: Bencher) {
    let (world, config) = (World::new(), config());
    bencher.bench(|| set_of(&world.schema, world.ty, black_box(&config)));
}

#[divan::bench]
fn create(bencher: Bencher) {
    let (world, config) = (World::new(), config());
    bencher
        .with_inputs(|| config.clone())
        .bench_values(|mut new| world.writer("u", |w| w.update(None, &mut new)));
}

#[divan::bench]
fn update_nothing(bencher: Bencher) {
    let world = World::new();
    let live = world.live();
    bencher.with_inputs(|| live.clone()).bench_refs(|new| world.writer("u", |w| w.update(Some(&live), new)));
}

#[divan::bench]
fn update_one_field(bencher: Bencher) {
    let world = World::new();
    let live = world.live();
    let new = changed(&live);
    bencher.with_inputs(|| new.clone()).bench_refs(|new| world.writer("u", |w| w.update(Some(&live), new)));
}

#[divan::bench]
fn apply_create(bencher: Bencher) {
    let (world, config) = (World::new(), config());
    bencher.bench(|| world.apply(None, black_box(&config)));
}

#[divan::bench]
fn apply_nothing(bencher: Bencher) {
    let (world, config) = (World::new(), config());
    let live = world.live();
    assert!(!world.apply(Some(&live), &config).changed);
    bencher.bench(|| world.apply(Some(&live), black_box(&config)));
}

#[divan::bench]
fn apply_one_field(bencher: Bencher) {
    let world = World::new();
    let (live, config) = (world.live(), changed(&config()));
    assert!(world.apply(Some(&live), &config).changed);
    bencher.bench(|| world.apply(Some(&live), black_box(&config)));
}

/// One element less than before, so that something has to go.
#[divan::bench]
fn apply_less(bencher: Bencher) {
    let world = World::new();
    let (live, mut config) = (world.live(), config());
    config["spec"]["template"]["spec"]["containers"][2]["env"].as_array_mut().expect("a list").pop();
    bencher.bench(|| world.apply(Some(&live), black_box(&config)));
}
