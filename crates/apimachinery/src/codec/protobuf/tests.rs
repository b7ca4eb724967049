use serde_json::json;

use super::*;

#[test]
fn an_envelope_comes_back() {
    let bytes = envelope::wrap("apps/v1", "Deployment", b"raw");
    assert!(bytes.starts_with(b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12\x03raw\x1a\x00\x22\x00"));
    let got = envelope::unwrap(&bytes).unwrap();
    assert_eq!((got.api_version, got.kind, got.raw), ("apps/v1", "Deployment", &b"raw"[..]));
    assert_eq!(envelope::unwrap(b"k8s"), Err(Error::Envelope));
    assert!(envelope::unwrap(b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f").is_err());
    assert!(!envelope::is_envelope(b"{}"));
    let _ = json!({});
}
