//! What relying parties need to verify service account tokens by themselves: `/.well-known/openid-configuration`
//! and `/openid/v1/jwks`.

use serde_json::{Value, json};

use super::jwt::Algorithm;
use super::service_account::Verifier;

pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
pub const JWKS_PATH: &str = "/openid/v1/jwks";
pub const JWKS_MEDIA_TYPE: &str = "application/jwk-set+json";
/// How long relying parties may keep the answers.
pub const CACHE_CONTROL: &str = "public, max-age=3600";

/// The discovery document of the first issuer. `jwks_uri` is where [`jwks`] is reached from outside.
pub fn configuration(verifier: &Verifier, jwks_uri: &str) -> Value {
    let mut algorithms: Vec<&str> = Vec::new();
    for key in verifier.keys() {
        let name = match key.algorithm {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        };
        if !algorithms.contains(&name) {
            algorithms.push(name);
        }
    }
    algorithms.sort_unstable();
    json!({
        "issuer": verifier.issuers().first(),
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// The public keys.
pub fn jwks(verifier: &Verifier) -> Value {
    let mut keys: Vec<Value> = Vec::new();
    for key in verifier.keys() {
        let key = key.to_jwk();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    json!({ "keys": keys })
}
