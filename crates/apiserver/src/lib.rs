//! The API server: one resource engine for all kinds, over the store.
//!
//! Start at `server::ApiServer::handle`: a request goes through plain calls in a visible order. `request` says
//! what a request asks for, `handlers` has one file per verb, `registry` the rules that need storage, `storage`
//! the keys, bytes and encodings.
//!
//! Not here: rules of a kind that need no storage (crate `kinds`), the store itself (crate `etcd`).
//!
//! # What the pipeline calls
//!
//! The modules below are called by `server::pipeline` with exactly these signatures; every one gets the
//! `ApiServer`, whose `storage`, `clock`, `entropy` and `config` it may use:
//!
//! ```text
//! authentication::Authenticator::authenticate(&self, &ApiServer, &Peer, &HeaderMap)
//!         -> Result<UserInfo, Status>          (async; Status: 401)
//! authorization::Authorizer::authorize(&self, &ApiServer, &UserInfo, &RequestInfo)
//!         -> Result<(), Status>                (sync, hot; Status: 403 in upstream's words)
//! admission::Chain::mutate(&self, &ApiServer, &AdmissionAttributes<'_>, &mut Value) -> Result<(), Status>
//! admission::Chain::validate(&self, &ApiServer, &AdmissionAttributes<'_>, &Value) -> Result<(), Status>
//!                                              (async; on delete and connect the object is Null)
//! discovery::handle, openapi::handle, health::handle, metrics::handle
//!         (&ApiServer, &RequestInfo, &Query, &Request<Body>) -> Option<Response<Body>>
//!                                              (sync; None: not mine; after authorization)
//! registry::authentication::create, registry::authorization::create
//!         (&ApiServer, &registry::Create<'_>, Value) -> Result<Value, Status>
//!                                              (async; virtual kinds and serviceaccounts/token; the value comes
//!                                               defaulted and admitted, the answer goes out with 201)
//! bootstrap::run(&Arc<ApiServer>)              (async; once, before ready)
//! ```

pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod conversion;
pub mod discovery;
mod handlers;
pub mod health;
pub mod metrics;
pub mod negotiation;
pub mod openapi;
pub mod proxy;
pub mod registry;
pub mod request;
pub mod response;
pub mod server;
pub mod storage;
