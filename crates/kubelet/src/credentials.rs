//! Which credentials of pull secrets are for an image: upstream's docker keyring.

use std::sync::Arc;

use api::core::v1::Secret;
use cri::v1;

/// Where Docker's configuration keeps what is for `docker.io`.
const DOCKER_HUB: &str = "index.docker.io";

/// The credentials in pull secrets that fit an image, those of the longest address first.
pub fn credentials(image: &str, secrets: &[Arc<Secret>]) -> Vec<v1::AuthConfig> {
    let image = location(image);
    let mut found: Vec<(String, v1::AuthConfig)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let parse = |key: &str| {
            data.and_then(|d| d.get(key)).and_then(|b| serde_json::from_slice::<serde_json::Value>(&b.0).ok())
        };
        let auths = match (parse(".dockerconfigjson"), parse(".dockercfg")) {
            (Some(config), _) => config.get("auths").cloned().unwrap_or_default(),
            (None, Some(auths)) => auths,
            (None, None) => continue,
        };
        for (address, entry) in auths.as_object().into_iter().flatten() {
            let address = normal(address);
            if !fits(&address, &image) {
                continue;
            }
            let text = |key: &str| entry.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            // Without an address: the runtime would compare it with the registry's host, as a URL, and leave the
            // credentials away where it is none.
            let auth = v1::AuthConfig {
                username: text("username"),
                password: text("password"),
                auth: text("auth"),
                server_address: String::new(),
                identity_token: text("identitytoken"),
                registry_token: text("registrytoken"),
            };
            found.push((address, auth));
        }
    }
    // Stable: secrets keep their order among equals.
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// An image's registry and repository: `index.docker.io/library/busybox` for `busybox`.
fn location(image: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    let name = match image[slash..].rfind(':') {
        Some(colon) => &image[..slash + colon],
        None => image,
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => (DOCKER_HUB, name),
    };
    match hub(host) {
        DOCKER_HUB if !path.contains('/') => format!("{DOCKER_HUB}/library/{path}"),
        host => format!("{host}/{path}"),
    }
}

/// All names of Docker's own registry are one.
fn hub(host: &str) -> &str {
    if matches!(host, "docker.io" | "registry-1.docker.io") { DOCKER_HUB } else { host }
}

/// A registry's address as people write it, without scheme and the API's version.
fn normal(address: &str) -> String {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let path = ["v1", "v2"].iter().find_map(|version| {
        let rest = path.strip_prefix(version)?;
        rest.is_empty().then_some(rest).or_else(|| rest.strip_prefix('/'))
    });
    let path =
        path.unwrap_or_else(|| bare.split_once('/').map_or("", |(_, path)| path.trim_end_matches('/')));
    if path.is_empty() { hub(host).to_owned() } else { format!("{}/{path}", hub(host)) }
}

/// Whether an address, with `*` for parts of its host, is where an image lies.
fn fits(address: &str, image: &str) -> bool {
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((pattern, port, path), (host, image_port, image_path)) = (split(address), split(image));
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    port == image_port
        && image_path.starts_with(&path)
        && patterns.len() == parts.len()
        && patterns.iter().zip(&parts).all(|(pattern, part)| glob(pattern, part))
}

fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(before) = last.replace(piece) {
            let Some(at) = rest.find(before) else { return false };
            rest = &rest[at + before.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(key: &str, config: &serde_json::Value) -> Arc<Secret> {
        let data = [(key.to_owned(), api::ByteString(config.to_string().into_bytes()))].into();
        Arc::new(Secret { data: Some(data), ..Secret::default() })
    }

    #[test]
    fn addresses_and_images() {
        let entry = |name: &str| serde_json::json!({"username": name, "password": "p"});
        let auths = serde_json::json!({
            "https://r.example/v1/": entry("r"),
            "r.example/team": entry("team"),
            "r.example:5000": entry("port"),
            "*.cloud.example": entry("cloud"),
            "https://index.docker.io/v1/": entry("hub"),
        });
        let config = serde_json::json!({"auths": auths});
        for secrets in [[secret(".dockerconfigjson", &config)], [secret(".dockercfg", &auths)]] {
            for (image, expect) in [
                ("r.example/a:1", "r"),
                ("r.example/team/a@sha256:00", "team r"),
                ("r.example:5000/a", "port"),
                ("r.example:5001/a", ""),
                ("eu.cloud.example/a", "cloud"),
                ("cloud.example/a", ""),
                ("a.b.cloud.example/a", ""),
                ("busybox", "hub"),
                ("docker.io/library/busybox:1", "hub"),
                ("localhost/a", ""),
            ] {
                let got = credentials(image, &secrets);
                let names: Vec<&str> = got.iter().map(|a| a.username.as_str()).collect();
                assert_eq!(names.join(" "), expect, "{image}");
                assert!(got.iter().all(|a| a.server_address.is_empty()));
            }
        }
    }

    #[test]
    fn globs() {
        for (pattern, text, expect) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("*b*d", "abcd", true),
            ("*b*d", "adcb", false),
        ] {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
    }
}
