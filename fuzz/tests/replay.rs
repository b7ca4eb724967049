//! One test a target, so that they run beside each other and a hang has a name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fuzz::{Target, hostile};

/// Memory is counted for the whole process: one input at a time.
static TURN: Mutex<()> = Mutex::new(());

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let target = fuzz::target(name).expect("a target");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = files(&here.join("corpus").join(name));
    assert!(!corpus.is_empty(), "corpus/{name} is empty");
    let mut faults = Vec::new();
    let mut check = |what: String, bytes: &[u8]| {
        // where it hangs or overflows its stack, this is the last line
        println!("{what}");
        if let Err(why) = target.replay(bytes) {
            faults.push(format!("{what}: {why}"));
        }
    };
    let vectors = files(&here.join("../../shared/spec/v1.36/vectors"));
    for path in corpus.iter().chain(vectors.iter().filter(|path| is_for(target, path))) {
        check(path.display().to_string(), &std::fs::read(path).expect("a file"));
    }
    for (what, bytes) in hostile::inputs(target) {
        check(format!("hostile: {what}"), &bytes);
    }
    assert!(faults.is_empty(), "{} of {name}:\n{}", faults.len(), faults.join("\n"));
}

/// The reference data holds an object of each kind in JSON and in protobuf.
fn is_for(target: &Target, path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match target.name {
        "protobuf" => extension == Some("pb"),
        "json" | "yaml" => extension == Some("json"),
        "rules" => extension == Some("pb"),
        _ => false,
    }
}

macro_rules! replay {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn all_targets_are_replayed() {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

replay! {
    protobuf json yaml selectors patch apply fields_v1 tokens query headers scalars rules kubelet spdy request cel
    json_path
}
