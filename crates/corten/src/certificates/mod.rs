//! The cluster's own certificates: made at the first start, renewed long before they run out, never by restart.
//!
//! [`issue`] makes them, [`plan`] says which are due, [`Store`] keeps them as files (keys 0600), and [`rotate`]
//! renews them while the process runs and hands new ones to whoever serves or dials with them.
//!
//! Layout under `D/pki`, with kubeadm's names: `ca`, `apiserver`, `apiserver-kubelet-client`, `kubelet`, `admin`,
//! `front-proxy-ca` and `front-proxy-client`, each as `.crt` and `.key`; `sa.key` and `sa.pub` sign and verify service
//! account tokens. What the front proxy's authority signs may say who asks, so nobody else trusts it.

pub mod issue;
pub mod plan;
pub mod rotate;
pub mod store;
pub mod tls;

pub use issue::Pair;
pub use store::Store;
