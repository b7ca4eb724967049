//! The way to the API server within one process: through its whole chain, under a typed identity.

use std::sync::Arc;

use apiserver::request::UserInfo;
use apiserver::server::{ApiServer, Peer, body};
use bytes::Bytes;
use client::{Body, Client, Transport, TransportError};
use futures::future::BoxFuture;

/// Requests of one component. Authentication takes the identity as given; authorization, admission and
/// everything behind them treat it as anybody.
pub struct InProcess {
    server: Arc<ApiServer>,
    user: UserInfo,
}

impl Transport for InProcess {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>> {
        let (server, peer) = (self.server.clone(), Peer::Identity(self.user.clone()));
        Box::pin(async move { Ok(server.handle(peer, request.map(body)).await) })
    }
}

/// A client of the server in this process, as this user.
pub fn client(server: &Arc<ApiServer>, user: &str, groups: &[&str], agent: &str) -> Client {
    let mut all = groups.to_vec();
    all.push("system:authenticated");
    let transport = InProcess { server: server.clone(), user: UserInfo::new(user, &all) };
    Client::new(Arc::new(transport), agent)
}
