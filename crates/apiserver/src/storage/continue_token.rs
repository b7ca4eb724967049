//! The `continue` token of lists, in upstream's format (`apiserver/pkg/storage/continue.go`): base64url without
//! padding of `{"v":"meta.k8s.io/v1","rv":…,"start":"…"}`.

use apimachinery::status::Status;
use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD},
    },
};
use serde::{Deserialize, Serialize};

/// Go does not look at the bits that are left over at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

/// Where to go on: the first key not yet given, below the list's prefix, and the revision of the list
/// (-1: whatever is newest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continue {
    pub start: String,
    pub revision: i64,
}

/// A token for the keys after `last`, which is relative to the list's prefix.
pub fn encode_after(last: &str, revision: i64) -> String {
    encode(&format!("{last}\0"), revision)
}

/// A token that goes on at `start`.
pub fn encode(start: &str, revision: i64) -> String {
    let token = Token { v: "meta.k8s.io/v1".into(), rv: revision, start: start.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// # Errors
/// 400 in upstream's words.
pub fn decode(text: &str) -> Result<Continue, Status> {
    let bad =
        |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
    let bytes = LENIENT.decode(text).map_err(|e| bad(&format!(": {e}")))?;
    let (value, _) = apimachinery::codec::json::parse(&bytes).map_err(|e| bad(&format!(": {e}")))?;
    let token: Token = serde_json::from_value(value).map_err(|e| bad(&format!(": {e}")))?;
    if token.v != "meta.k8s.io/v1" {
        return Err(bad(&format!(": server does not recognize this encoded version {}", token.v)));
    }
    if token.rv == 0 {
        return Err(bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    if token.start.is_empty() {
        return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
    }
    // A cleaned path stays below the prefix: no way up.
    let relative = token.start.strip_prefix('/').unwrap_or(&token.start);
    let clean = !relative.is_empty()
        && relative.split('/').all(|part| !matches!(part, "." | ".."))
        && !relative.contains("//")
        && !relative.ends_with('/');
    if !clean {
        return Err(bad(&format!(": {}", token.start)));
    }
    Ok(Continue { start: relative.to_owned(), revision: token.rv })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = encode_after("ns/a", 7);
        let decoded = decode(&token).unwrap();
        assert_eq!(decoded, Continue { start: "ns/a\0".into(), revision: 7 });
        let raw = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for bad in [
            "!".to_owned(),
            raw("x"),
            raw(r#"{"v":"v2","rv":1,"start":"a"}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../../secrets"}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//b"}"#),
        ] {
            assert_eq!(decode(&bad).unwrap_err().code, 400, "{bad}");
        }
    }
}
