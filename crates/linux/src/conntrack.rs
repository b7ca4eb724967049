//! The kernel's table of connections: forgetting flows whose translation is out of date.
//!
//! A UDP "connection" has no end, so a client that keeps sending holds on to an old translation for ever;
//! when the target is gone, its entries must be deleted. This uses the `conntrack` program.

use crate::{Error, Result};
use std::io;
use std::net::IpAddr;

/// Flows to forget; each field that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flows {
    /// Where the client sent its packets.
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    /// Where they were translated to.
    pub translated_to: Option<IpAddr>,
}

/// Forgets the UDP flows that match, and says whether there were any.
pub async fn forget_udp(flows: &Flows) -> Result<bool> {
    let doing = || format!("forgetting the UDP flows {flows:?}");
    let family = flows
        .destination
        .or(flows.translated_to)
        .map_or("ipv4", |a| if a.is_ipv4() { "ipv4" } else { "ipv6" });
    let mut command = tokio::process::Command::new("conntrack");
    command.args(["-D", "-f", family, "-p", "udp"]).kill_on_drop(true);
    if let Some(address) = flows.destination {
        command.args(["--orig-dst", &address.to_string()]);
    }
    if let Some(port) = flows.destination_port {
        command.args(["--orig-port-dst", &port.to_string()]);
    }
    if let Some(address) = flows.translated_to {
        command.args(["--dst-nat", &address.to_string()]);
    }
    let output = command.output().await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::new(
            doing(),
            io::Error::new(
                io::ErrorKind::NotFound,
                "the program conntrack is missing (Debian package conntrack)",
            ),
        ),
        _ => Error::new(doing(), e),
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It counts "nothing matched" as failure.
    match (output.status.success(), said.contains(" 0 flow entries")) {
        (_, true) => Ok(false),
        (true, _) => Ok(true),
        (false, _) => Err(Error::new(doing(), io::Error::other(said.trim().to_owned()))),
    }
}
