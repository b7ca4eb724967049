//! Reads `tables/types.txt`: one line per type, then one per field, in Go's order.
//!
//! ```text
//! string <name> [constant,…]                   a named Go string type and its constants
//! type <OpenAPI name> [atomic] [kind=<group>/<version>/<Kind>,…] [unions=<json>]
//!  meta                                        Go's embedded TypeMeta: kind and apiVersion, not in protobuf
//!  inline <tag> <type>                         embedded in Go: its fields are ours in JSON, in protobuf it is
//!                                              the message of this tag
//!  <JSON name> <tag> <shape> [words]           a field
//! ```
//!
//! A type of the same package is written from the dot on (`.Container`). Shapes:
//!
//! | shape | meaning |
//! | --- | --- |
//! | `string` `bool` `int32` `int64` `double` `bytes` | as in protobuf |
//! | `quantity` `int-or-string` `time` `micro-time` `duration` `fields` `raw` `json` | the special scalars |
//! | `or-bool:T` `or-list:T` `or-strings:T` | apiextensions' schema, or a bool, a list of it, a list of strings |
//! | `T` | a message |
//! | `[]S` `{}S` | a list of S, a map from string to S |
//! | `[w]S` | a list of S that is a message with one field `items` in protobuf |
//!
//! Words of a field:
//!
//! | word | meaning |
//! | --- | --- |
//! | `*` | a pointer in Go |
//! | `e`, `z` | `omitempty`, `omitzero` |
//! | `req` | required in the OpenAPI schema |
//! | `go=N` | its named string type |
//! | `list=set`, `list=map:a,b` | list type and map keys; absent: atomic |
//! | `map=atomic`, `map=granular` | map type on the field |
//! | `patch=merge`, `patch=retainKeys`, `patch=merge,retainKeys`, `key=k` | strategic merge |
//! | `default=<json>` | OpenAPI default |

use std::collections::HashMap;

use apimachinery::schema::{
    Field, List, ListType, Map, Member, Name, Named, NamedId, Omit, Schema, Shape, Type, TypeId,
};

type Gvk = (&'static str, &'static str, &'static str);

/// The lines of one type, not yet understood.
struct Raw {
    id: TypeId,
    header: &'static str,
    lines: Vec<&'static str>,
}

struct Reader {
    schema: Schema,
    raw: HashMap<&'static str, Raw>,
    named: HashMap<&'static str, NamedId>,
}

/// The schema, and which kind is which type. Errors name the line that cannot be read.
pub(super) fn parse(text: &'static str) -> Result<(Schema, Vec<(Gvk, TypeId)>), String> {
    let mut reader = Reader { schema: Schema::new(), raw: HashMap::new(), named: HashMap::new() };
    let mut order = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix(' ') {
            let raw = order.last().and_then(|name| reader.raw.get_mut(name));
            raw.ok_or_else(|| bad(line))?.lines.push(rest);
        } else if let Some(rest) = line.strip_prefix("type ") {
            let name = rest.split(' ').next().unwrap_or_default();
            let raw = Raw { id: reader.schema.reserve(name), header: rest, lines: Vec::new() };
            reader.raw.insert(name, raw);
            order.push(name);
        } else if let Some(rest) = line.strip_prefix("string ") {
            let (name, values) = rest.split_once(' ').unwrap_or((rest, ""));
            let values = values.split(',').filter(|v| !v.is_empty()).map(Name::Borrowed).collect();
            let id = reader.schema.add_named(Named { name: Name::Borrowed(name), values });
            reader.named.insert(name, id.ok_or_else(|| bad(line))?);
        } else {
            return Err(bad(line));
        }
    }
    let mut kinds = Vec::new();
    for name in order {
        let (id, ty) = reader.build(name, &mut kinds)?;
        reader.schema.set(id, ty);
    }
    kinds.sort();
    Ok((reader.schema, kinds))
}

fn bad(line: &str) -> String {
    format!("cannot read {line:?}")
}

impl Reader {
    fn build(&self, name: &'static str, kinds: &mut Vec<(Gvk, TypeId)>) -> Result<(TypeId, Type), String> {
        let raw = self.raw.get(name).ok_or_else(|| bad(name))?;
        let mut ty = Type::new(name, self.members(name, raw, "", 0)?);
        for word in raw.header.split(' ').skip(1) {
            match word.split_once('=') {
                None if word == "atomic" => ty.atomic = true,
                Some(("unions", json)) => ty.unions = Some(Name::Borrowed(json)),
                Some(("kind", list)) => {
                    for kind in list.split(',') {
                        let mut parts = kind.splitn(3, '/');
                        let (Some(g), Some(v), Some(k)) = (parts.next(), parts.next(), parts.next()) else {
                            return Err(bad(kind));
                        };
                        ty.kinds.push((g.into(), v.into(), k.into()));
                        kinds.push(((g, v, k), raw.id));
                    }
                }
                _ => return Err(bad(raw.header)),
            }
        }
        Ok((raw.id, ty))
    }

    fn members(&self, name: &'static str, raw: &Raw, via: &str, depth: usize) -> Result<Vec<Member>, String> {
        if depth > 4 {
            return Err(format!("{name} is inlined too deep"));
        }
        let package = package(name);
        let mut members = Vec::with_capacity(raw.lines.len() + 1);
        for line in &raw.lines {
            let mut words = line.split(' ');
            match words.next() {
                Some("meta") => {
                    for name in ["kind", "apiVersion"] {
                        let via = Name::Borrowed("TypeMeta");
                        let field = Field { pointer: false, via, ..Field::new(name, Shape::String) };
                        members.push(Member::Field(field));
                    }
                }
                Some("inline") => {
                    let (Some(tag), Some(inner)) = (words.next(), words.next()) else {
                        return Err(bad(line));
                    };
                    let inner = self.find(inner, package)?;
                    let short = inner.rsplit('.').next().unwrap_or_default();
                    let via = if via.is_empty() { short.to_owned() } else { format!("{via}.{short}") };
                    let raw = self.raw.get(inner).ok_or_else(|| bad(line))?;
                    let tag = tag.parse().map_err(|_| bad(line))?;
                    let members_of = self.members(inner, raw, &via, depth + 1)?;
                    members.push(Member::Inline { tag, members: members_of });
                }
                Some(name) => {
                    let field = self.field(name, words, package).ok_or_else(|| bad(line))?;
                    members.push(Member::Field(Field { via: via.to_owned().into(), ..field }));
                }
                None => return Err(bad(line)),
            }
        }
        Ok(members)
    }

    fn field(
        &self,
        name: &'static str,
        mut words: impl Iterator<Item = &'static str>,
        package: &str,
    ) -> Option<Field> {
        let tag = words.next()?.parse().ok()?;
        let mut field = Field {
            tag,
            pointer: false,
            omit: Omit::Never,
            ..Field::new(name, self.shape(words.next()?, package)?)
        };
        for word in words {
            match word.split_once('=') {
                None => match word {
                    "*" => field.pointer = true,
                    "e" => field.omit = Omit::Empty,
                    "z" => field.omit = Omit::Zero,
                    "req" => field.required = true,
                    _ => return None,
                },
                Some(("go", named)) => field.named = Some(*self.named.get(&*self.absolute(named, package))?),
                Some(("list", kind)) => {
                    let Shape::List(list) = &mut field.shape else { return None };
                    match kind.split_once(':') {
                        None if kind == "set" => list.kind = ListType::Set,
                        Some(("map", keys)) => {
                            list.kind = ListType::Map;
                            list.keys = keys.split(',').map(Name::Borrowed).collect();
                        }
                        _ => return None,
                    }
                }
                Some(("map", "atomic")) => field.atomic = Some(true),
                Some(("map", "granular")) => field.atomic = Some(false),
                Some(("patch", strategies)) => {
                    for strategy in strategies.split(',') {
                        match strategy {
                            "merge" => field.patch.merge = true,
                            "replace" => field.patch.replace = true,
                            "retainKeys" => field.patch.retain_keys = true,
                            _ => return None,
                        }
                    }
                }
                Some(("key", key)) => field.patch.key = Some(Name::Borrowed(key)),
                Some(("default", json)) => field.default = Some(Name::Borrowed(json)),
                Some(_) => return None,
            }
        }
        Some(field)
    }

    fn shape(&self, text: &'static str, package: &str) -> Option<Shape> {
        let id = |name| self.find(name, package).ok().and_then(|name| self.raw.get(name)).map(|raw| raw.id);
        let list = |element, wrapped| {
            let element = self.shape(element, package)?;
            Some(Shape::List(Box::new(List { element, kind: ListType::Atomic, keys: Vec::new(), wrapped })))
        };
        Some(match text {
            "string" => Shape::String,
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int64" => Shape::Int64,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "quantity" => Shape::Quantity,
            "int-or-string" => Shape::IntOrString,
            "time" => Shape::Time,
            "micro-time" => Shape::MicroTime,
            "duration" => Shape::Duration,
            "fields" => Shape::FieldsV1,
            "raw" => Shape::RawExtension,
            "json" => Shape::Json,
            _ => {
                if let Some(element) = text.strip_prefix("[]") {
                    return list(element, false);
                }
                if let Some(element) = text.strip_prefix("[w]") {
                    return list(element, true);
                }
                if let Some(value) = text.strip_prefix("{}") {
                    return Some(Shape::Map(Box::new(Map { value: self.shape(value, package)? })));
                }
                match text.split_once(':') {
                    Some(("or-bool", ty)) => Shape::SchemaOrBool(id(ty)?),
                    Some(("or-list", ty)) => Shape::SchemaOrArray(id(ty)?),
                    Some(("or-strings", ty)) => Shape::SchemaOrStrings(id(ty)?),
                    _ => Shape::Message(id(text)?),
                }
            }
        })
    }

    fn absolute(&self, name: &'static str, package: &str) -> Name {
        if name.starts_with('.') { format!("{package}{name}").into() } else { name.into() }
    }

    /// The full name of a type, as the key of `raw` (borrowed from the text).
    fn find(&self, name: &'static str, package: &str) -> Result<&'static str, String> {
        let full = self.absolute(name, package);
        self.raw.get_key_value(&*full).map(|(key, _)| *key).ok_or_else(|| bad(&full))
    }
}

fn package(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(package, _)| package)
}
