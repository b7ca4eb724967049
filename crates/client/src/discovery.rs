//! Which resources a server has.

use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{JSON, failure};
use crate::{Client, Error, Gvr, Result, TransportError};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                          application/json";

/// One resource as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiResource {
    /// Where it is served.
    pub gvr: Gvr,
    /// Its kind's name.
    pub kind: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// `create`, `delete`, `get`, `list`, `watch`, …
    pub verbs: Vec<String>,
    /// Names of its subresources, such as `status`.
    pub subresources: Vec<String>,
    /// Whether this is the version of its group that the server prefers.
    pub preferred: bool,
}

impl ApiResource {
    /// Whether it has a verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

impl Client {
    /// Every resource of every served version, ordered as the server orders groups and versions. Groups that
    /// an aggregated server cannot describe at the moment are left out.
    pub async fn discover(&self) -> Result<Vec<ApiResource>> {
        let mut found = Vec::new();
        for root in ["/api", "/apis"] {
            let request = Request::get(root).header(header::ACCEPT, AGGREGATED);
            let response = self.raw(request.body(Default::default()).map_err(Error::request)?).await?;
            let code = response.status();
            let bytes = response.into_body().collect().await.map_err(TransportError::body)?.to_bytes();
            if !code.is_success() {
                return Err(failure(code, &bytes));
            }
            let answer: Value = serde_json::from_slice(&bytes).map_err(Error::decode)?;
            match answer.get("kind").and_then(Value::as_str) {
                Some("APIGroupDiscoveryList") => aggregated(read(answer)?, &mut found),
                _ => self.legacy(root, read(answer)?, &mut found).await?,
            }
        }
        Ok(found)
    }

    async fn legacy(&self, root: &str, groups: Groups, found: &mut Vec<ApiResource>) -> Result<()> {
        let mut group_versions: Vec<(String, bool)> =
            groups.versions.into_iter().enumerate().map(|(i, v)| (v, i == 0)).collect();
        for group in groups.groups {
            for version in &group.versions {
                let preferred = version.group_version == group.preferred_version.group_version;
                group_versions.push((version.group_version.clone(), preferred));
            }
        }
        for (group_version, preferred) in group_versions {
            let uri = format!("{root}/{group_version}");
            let list: Resources = match self
                .call_accepting(Method::GET, uri, "", JSON, Default::default())
                .await
            {
                Ok(list) => list,
                Err(Error::Status(status)) => {
                    tracing::debug!(%group_version, message = %status.message, "discovery left a group out");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (group, version) = group_version.rsplit_once('/').unwrap_or(("", &group_version));
            let start = found.len();
            for resource in list.resources {
                if let Some((parent, subresource)) = resource.name.split_once('/') {
                    if let Some(parent) = found[start..].iter_mut().find(|r| r.gvr.resource == parent) {
                        parent.subresources.push(subresource.to_owned());
                    }
                    continue;
                }
                found.push(ApiResource {
                    gvr: Gvr::new(group.to_owned(), version.to_owned(), resource.name),
                    kind: resource.kind,
                    namespaced: resource.namespaced,
                    verbs: resource.verbs,
                    subresources: Vec::new(),
                    preferred,
                });
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(Error::decode)
}

fn aggregated(list: GroupDiscoveryList, found: &mut Vec<ApiResource>) {
    for group in list.items {
        for (place, version) in group.versions.into_iter().enumerate() {
            for resource in version.resources {
                found.push(ApiResource {
                    gvr: Gvr::new(group.metadata.name.clone(), version.version.clone(), resource.resource),
                    kind: resource.response_kind.kind,
                    namespaced: resource.scope == "Namespaced",
                    verbs: resource.verbs,
                    subresources: resource.subresources.into_iter().map(|s| s.subresource).collect(),
                    preferred: place == 0,
                });
            }
        }
    }
}

#[derive(Deserialize)]
struct GroupDiscoveryList {
    #[serde(default)]
    items: Vec<GroupDiscovery>,
}

#[derive(Deserialize)]
struct GroupDiscovery {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<VersionDiscovery>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct VersionDiscovery {
    version: String,
    #[serde(default)]
    resources: Vec<ResourceDiscovery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery {
    resource: String,
    #[serde(default)]
    response_kind: KindDiscovery,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<SubresourceDiscovery>,
}

#[derive(Default, Deserialize)]
struct KindDiscovery {
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
struct SubresourceDiscovery {
    subresource: String,
}

/// `APIVersions` (of `/api`) and `APIGroupList` (of `/apis`) at once.
#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    versions: Vec<GroupVersion>,
    #[serde(default)]
    preferred_version: GroupVersion,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    #[serde(default)]
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}
