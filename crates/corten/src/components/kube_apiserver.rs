//! `corten kube-apiserver`: the API server over a store of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Common, execute, read};
use crate::certificates::Pair;
use crate::certificates::tls::Identity;
use crate::wiring::{World, api_server, store};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    /// The directory of the built-in store
    #[arg(long, value_name = "D", default_value = "/var/lib/corten/store")]
    data_dir: PathBuf,
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    #[arg(long, value_name = "P", default_value_t = 6443)]
    secure_port: u16,
    /// Where others reach this server [default: the bind address]
    #[arg(long, value_name = "ADDRESS")]
    advertise_address: Option<IpAddr>,
    #[arg(long, value_name = "FILE")]
    tls_cert_file: PathBuf,
    #[arg(long, value_name = "FILE")]
    tls_private_key_file: PathBuf,
    /// Who signs clients' certificates
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_bootstrap_token_auth: bool,
    /// Node,RBAC is the only order served
    #[arg(long, value_name = "MODES", default_value = "Node,RBAC")]
    authorization_mode: String,
    #[arg(long, value_name = "URL", default_value = api_server::ISSUER)]
    service_account_issuer: String,
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: PathBuf,
    /// Keys that verify tokens; may be repeated [default: the signing key]
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    #[arg(long, value_name = "RANGE", default_value = "10.96.0.0/12")]
    service_cluster_ip_range: String,
    #[arg(long, value_name = "FILE")]
    kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    kubelet_client_certificate: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    kubelet_client_key: Option<PathBuf>,
    /// Under which of a node's addresses its kubelet is reached, the best first
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"])]
    kubelet_preferred_address_types: Vec<String>,
    /// true is the only value built
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allow_privileged: bool,
    /// Plugins that must be on; those that are built are
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(apiserver::admission::names()))]
    enable_admission_plugins: Vec<String>,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let options = options(&flags)?;
        let pair = Pair { certificate: read(&flags.tls_cert_file)?, key: read(&flags.tls_private_key_file)? };
        let identity = Identity::new(&pair)?;
        let opened = store::open(&flags.data_dir, &world)?;
        let served = serve(&flags, options, &opened, identity, &world, &shutdown).await;
        opened.close();
        served
    })
}

async fn serve(
    flags: &Flags,
    options: api_server::Options,
    opened: &store::Opened,
    identity: Arc<Identity>,
    world: &World,
    shutdown: &tokio_util::sync::CancellationToken,
) -> Result<()> {
    let server = api_server::build(options, opened.store.clone(), world)?;
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let serving = api_server::start(server, address, identity).await?;
    tracing::info!(address = %serving.address, "serving");
    shutdown.cancelled().await;
    serving.stop().await;
    Ok(())
}

fn options(flags: &Flags) -> Result<api_server::Options> {
    if flags.authorization_mode != "Node,RBAC" {
        bail!("--authorization-mode {}: only Node,RBAC is built", flags.authorization_mode);
    }
    if !flags.allow_privileged {
        bail!("--allow-privileged=false is not built");
    }
    let advertise = match (flags.advertise_address, flags.bind_address.is_unspecified()) {
        (Some(address), _) => address,
        (None, false) => flags.bind_address,
        (None, true) => bail!("--advertise-address is needed where --bind-address names no address"),
    };
    let signing_key = read(&flags.service_account_signing_key_file)?;
    let mut keys: Vec<String> =
        flags.service_account_key_file.iter().map(|path| read(path)).collect::<Result<_>>()?;
    if keys.is_empty() {
        keys.push(signing_key.clone());
    }
    let kubelets = match (
        &flags.kubelet_certificate_authority,
        &flags.kubelet_client_certificate,
        &flags.kubelet_client_key,
    ) {
        (Some(authority), Some(certificate), Some(key)) => {
            let identity = Identity::new(&Pair { certificate: read(certificate)?, key: read(key)? })?;
            Some((read(authority)?, identity as Arc<dyn rustls::client::ResolvesClientCert>))
        }
        (None, None, None) => None,
        _ => bail!(
            "--kubelet-certificate-authority, --kubelet-client-certificate and --kubelet-client-key go together"
        ),
    };
    Ok(api_server::Options {
        client_authority: flags.client_ca_file.as_deref().map(read).transpose()?,
        issuer: flags.service_account_issuer.clone(),
        service_account_signing_key: signing_key,
        service_account_keys: keys,
        token_file: flags.token_auth_file.as_deref().map(read).transpose()?,
        bootstrap_tokens: flags.enable_bootstrap_token_auth,
        anonymous: flags.anonymous_auth,
        service_cidrs: flags.service_cluster_ip_range.clone(),
        advertise: (advertise, flags.secure_port),
        kubelets,
        kubelet_address_types: flags.kubelet_preferred_address_types.clone(),
    })
}
