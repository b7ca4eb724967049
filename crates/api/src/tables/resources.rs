//! Reads `tables/resources.txt`: versions in the order of preference, their resources, and those' subresources.
//!
//! ```text
//! version <group>/<version>                    core: `version v1`
//!  resource <plural> <Kind> namespaced|cluster [singular=s] [short=a,b] [in=category,…] verbs=v,…
//!           object=<type> [list=<type>] [at=<storage prefix> as=<stored type> hash=<storageVersionHash>] [shared]
//!   sub <name> <Kind> <group>/<version> verbs=v,… object=<type>
//! ```
//!
//! Without `at` nothing is stored. `shared`: another version or group serves the same stored objects.

use apimachinery::gvk::{self, GroupVersionKind};
use apimachinery::schema::{Name, Resource, Resources, Schema, Storage, Subresource, TypeId};

/// Errors name the line that cannot be read.
pub(super) fn parse(text: &'static str, schema: &Schema) -> Result<Resources, String> {
    let mut all: Vec<Resource> = Vec::new();
    let mut gv = ("", "");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words = Words { words: line.trim_start().split(' ').collect(), schema };
        let read = match words.words.first().copied() {
            Some("version") => words.word(1).and_then(|text| gvk::split(text).ok()).map(|found| gv = found),
            Some("resource") => words.resource(gv).map(|resource| all.push(resource)),
            Some("sub") => {
                words.subresource().zip(all.last_mut()).map(|(sub, resource)| resource.subresources.push(sub))
            }
            _ => None,
        };
        read.ok_or_else(|| format!("cannot read {line:?}"))?;
    }
    Ok(Resources::new(all))
}

struct Words<'a> {
    words: Vec<&'static str>,
    schema: &'a Schema,
}

impl Words<'_> {
    fn word(&self, at: usize) -> Option<&'static str> {
        self.words.get(at).copied()
    }

    fn value(&self, key: &str) -> Option<&'static str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn list(&self, key: &str) -> Vec<Name> {
        self.value(key).into_iter().flat_map(|list| list.split(',')).map(Name::Borrowed).collect()
    }

    /// `None`: the word is there and names no type.
    fn type_at(&self, key: &str) -> Option<Option<TypeId>> {
        match self.value(key) {
            None => Some(None),
            Some(name) => self.schema.find(name).map(Some),
        }
    }

    fn resource(&self, (group, version): (&'static str, &'static str)) -> Option<Resource> {
        let namespaced = match self.word(3)? {
            "namespaced" => true,
            "cluster" => false,
            _ => return None,
        };
        let object = self.type_at("object")??;
        let storage = match self.value("at") {
            None => None,
            Some(prefix) => {
                let stored = self.type_at("as")??;
                let (group, version, _) = self.schema[stored].kinds.first()?.clone();
                let converts = stored != object || self.words.contains(&"shared");
                let hash = Name::Borrowed(self.value("hash")?);
                Some(Storage { prefix: prefix.into(), group, version, object: stored, converts, hash })
            }
        };
        Some(Resource {
            group: group.into(),
            version: version.into(),
            plural: self.word(1)?.into(),
            singular: self.value("singular").unwrap_or_default().into(),
            kind: self.word(2)?.into(),
            namespaced,
            short_names: self.list("short"),
            categories: self.list("in"),
            verbs: self.list("verbs"),
            default_on: version.strip_prefix('v')?.bytes().all(|b| b.is_ascii_digit()),
            object,
            list: self.type_at("list")?,
            subresources: Vec::new(),
            storage,
            custom: None,
        })
    }

    fn subresource(&self) -> Option<Subresource> {
        Some(Subresource {
            name: self.word(1)?.into(),
            kind: GroupVersionKind::parse(self.word(3)?, self.word(2)?).ok()?,
            verbs: self.list("verbs"),
            object: self.type_at("object")?,
        })
    }
}
