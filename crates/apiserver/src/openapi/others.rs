//! Documents of what is not a resource: the lists of versions and groups, the server's version, the issuer's keys.

use serde_json::{Value, json};

use super::operations::{MEDIA_TYPES, content};
use super::paths::plain;
use super::schemas::VERSION;
use super::{camel_group, lower, reference};
use crate::server::Served;

/// One document: its path and operation, and the type that it answers with.
pub struct Other {
    pub path: String,
    pub item: Value,
    pub answer: Option<&'static str>,
}

const VERSIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions";
const GROUPS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList";
const GROUP: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup";

/// Name, tag, operation, what it is about, media type (`None`: the API's) and type (`None`: text).
type Row =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

const ROWS: [Row; 5] = [
    (
        ".well-known/openid-configuration",
        "WellKnown",
        "getServiceAccountIssuerOpenIDConfiguration",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        Some("application/json"),
        None,
    ),
    ("api", "core", "getCoreAPIVersions", "get available API versions", None, Some(VERSIONS)),
    ("apis", "apis", "getAPIVersions", "get available API versions", None, Some(GROUPS)),
    (
        "openid/v1/jwks",
        "openid",
        "getServiceAccountIssuerOpenIDKeyset",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        Some("application/jwk-set+json"),
        None,
    ),
    (
        "version",
        "version",
        "getCodeVersion",
        "get the version information for this server",
        Some("application/json"),
        Some(VERSION),
    ),
];

/// Every such document by its name, sorted.
pub fn all(served: &Served) -> Vec<(String, Other)> {
    let rows = ROWS.iter().map(|(name, tag, id, about, media, answer)| {
        let schema = answer.map_or_else(|| json!({"type": "string"}), reference);
        let content = match media {
            Some(media) => content(&[media], &schema),
            None => content(&MEDIA_TYPES, &schema),
        };
        let item = plain(tag, id, about, content);
        ((*name).to_owned(), Other { path: format!("/{name}/"), item, answer: *answer })
    });
    let mut groups: Vec<&str> = served.iter().map(|r| &*r.group).filter(|group| !group.is_empty()).collect();
    groups.sort_unstable();
    groups.dedup();
    let groups = groups.into_iter().map(|group| {
        let camel = camel_group(group);
        let id = format!("get{camel}APIGroup");
        let content = content(&MEDIA_TYPES, &reference(GROUP));
        let item = plain(&lower(&camel), &id, "get information of a group", content);
        (format!("apis/{group}"), Other { path: format!("/apis/{group}/"), item, answer: Some(GROUP) })
    });
    let mut out: Vec<(String, Other)> = rows.chain(groups).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}
