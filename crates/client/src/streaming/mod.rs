//! Streams over upgraded connections: exec, attach, port-forward, and whatever a WebSocket is asked for.
//!
//! Container runtimes and kubelets speak SPDY/3.1, newer clients WebSocket. [`websocket`] is the server's side of
//! one, [`spdy`] frames the other (pure: bytes in, frames out), and in between stand [`remote_command`], which
//! translates `v5.channel.k8s.io` of exec and attach (KEP-4006), and [`tunnel`], which carries a whole SPDY
//! connection of a port-forward inside a WebSocket. Older protocols need neither: an upgraded connection is passed
//! on byte by byte. The API server and the kubelet both use this, as upstream's do.
//!
//! Everything here works on any pair of byte streams. Nothing grows without limit: every direction waits for its
//! slowest part.

mod header_block;
pub mod remote_command;
pub mod spdy;
pub mod tunnel;
pub mod websocket;

/// The header in which SPDY clients and servers agree on what they speak inside.
pub const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
/// What `Upgrade` asks for.
pub const SPDY: &str = "SPDY/3.1";
/// A node whose `status.declaredFeatures` has this speaks WebSocket as the API server does (KEP-4006), so that
/// requests are passed on to it as they are.
pub const NODE_SPEAKS_WEBSOCKET: &str = "ExtendWebSocketsToKubelet";

/// A connection upgraded to SPDY/3.1, and the protocol agreed on.
#[derive(Debug)]
pub struct Upgraded<S> {
    pub io: S,
    /// `x-stream-protocol-version` of the answer; `None`: the server knows only the oldest.
    pub protocol: Option<String>,
}

/// What a failed upgrade's body says: the message of a Status or the like, else the text.
/// Upstream's `upgradeErrorMessage`.
pub fn upgrade_error(body: &[u8]) -> String {
    let parsed: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| parsed[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    if let Some(message) = field("message").or_else(|| field("error")) {
        return message.to_owned();
    }
    match String::from_utf8_lossy(body).trim() {
        "" => "empty server response".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn why_an_upgrade_failed() {
        for (body, expect) in [
            ("container not found (\"c\")\n", "container not found (\"c\")"),
            (r#"{"kind":"Status","message":" no such pod "}"#, "no such pod"),
            (r#"{"error":"broken"}"#, "broken"),
            (r#"{"message":""}"#, r#"{"message":""}"#),
            (" ", "empty server response"),
        ] {
            assert_eq!(super::upgrade_error(body.as_bytes()), expect, "{body}");
        }
    }
}
