//! `corten kube-apiserver`: the API server over a store of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::authentication::request_header;
use apiserver::authorization::{Asked, Mode};
use apiserver::server::{ApiServer, Config, Served, features::Gates, headers};
use clap::Args;

use super::kube_apiserver_access::{self, AccessFlags};
use super::kube_apiserver_admission::AdmissionFlags;
use super::kube_apiserver_other::Other;
use super::kube_apiserver_reload::{Watched, follow};
use super::kube_apiserver_tls::{ByName, TlsFlags};
use super::{Common, duration, execute, read};
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
    /// Where others reach this server [default: the bind address, or the address of the default route]
    #[arg(long, value_name = "ADDRESS")]
    advertise_address: Option<IpAddr>,
    /// The host name of the URLs that this server gives away [default: the advertised address]
    #[arg(long, value_name = "NAME")]
    external_hostname: Option<String>,
    #[arg(long, value_name = "FILE")]
    tls_cert_file: PathBuf,
    #[arg(long, value_name = "FILE")]
    tls_private_key_file: PathBuf,
    #[command(flatten)]
    tls: TlsFlags,
    /// Let containers be privileged
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allow_privileged: bool,
    /// Regular expressions of the origins whose pages may read answers
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    cors_allowed_origins: Vec<String>,
    /// Of the Strict-Transport-Security header: max-age=SECONDS, includeSubDomains, preload
    #[arg(long, value_name = "DIRECTIVES", value_delimiter = ',')]
    strict_transport_security_directives: Vec<String>,
    #[command(flatten)]
    admission: AdmissionFlags,
    /// Versions and resources to turn on or off: api/all, api/ga, api/beta, api/alpha, group/version,
    /// group/version/resource
    #[arg(long, value_name = "KEY=BOOL,...", default_value = "")]
    runtime_config: Vec<String>,
    #[arg(long, value_name = "NAME=BOOL,...", default_value = "")]
    feature_gates: Vec<String>,
    #[command(flatten)]
    authentication: AuthenticationFlags,
    /// Go to the endpoints of an extension server's Service, not to its cluster IP
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_aggregator_routing: bool,
    /// Refuse what an extension server redirects elsewhere
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    aggregator_reject_forwarding_redirect: bool,
    #[command(flatten)]
    load: LoadFlags,
    #[arg(long, value_name = "RANGE", default_value = "10.96.0.0/12")]
    service_cluster_ip_range: String,
    /// Ports that Services may have on every node
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = ports)]
    service_node_port_range: (u16, u16),
    #[command(flatten)]
    kubelet: KubeletFlags,
    /// How the endpoints of the kubernetes Service are kept: by leases of all API servers, or not at all
    #[arg(long, value_name = "TYPE", default_value = "lease", value_parser = ["lease", "none"])]
    endpoint_reconciler_type: String,
    #[command(flatten)]
    other: Other,
}

/// Who asks, and whether they may.
#[derive(Args)]
struct AuthenticationFlags {
    /// Who signs clients' certificates
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_bootstrap_token_auth: bool,
    #[command(flatten)]
    access: AccessFlags,
    /// Of service account tokens; may be repeated, the first signs
    #[arg(long, value_name = "URL", default_value = api_server::ISSUER)]
    service_account_issuer: Vec<String>,
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: PathBuf,
    /// Keys that verify tokens; may be repeated [default: the signing key]
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    /// Where relying parties find the keys [default: at this server]
    #[arg(long, value_name = "URL")]
    service_account_jwks_uri: Option<String>,
    /// Tokens whose service account, pod, node or secret is gone are worth nothing
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    service_account_lookup: bool,
    /// Tokens are given for no longer than this; 0s: for as long as asked
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    service_account_max_token_expiration: Duration,
    /// Tokens of projected volumes last a year, for old clients
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    service_account_extend_token_expiration: bool,
    /// Whom tokens must be for [default: the issuers]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    api_audiences: Vec<String>,
    /// Who signs the certificates of proxies that say in headers who asks
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of such proxies [default: any that the CA signed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "x-remote-user")]
    requestheader_username_headers: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "x-remote-group")]
    requestheader_group_headers: Vec<String>,
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',', default_value = "x-remote-extra-")]
    requestheader_extra_headers_prefix: Vec<String>,
    /// What this server shows to extension servers, which then believe it who asks
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    proxy_client_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    proxy_client_key_file: Option<PathBuf>,
}

/// How much at once, and for how long.
#[derive(Args)]
struct LoadFlags {
    /// Requests in flight that change nothing
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_requests_inflight: u32,
    /// Requests in flight that change something
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_mutating_requests_inflight: u32,
    /// Share what is in flight out by flow schemas and priority levels
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_priority_and_fairness: bool,
    /// The part of requests after which an HTTP/2 client is asked to connect again, 0 to 0.02
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    goaway_chance: f64,
    /// For how long after the end was asked for requests are still served, while /readyz says no
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    #[arg(long, value_name = "DURATION", default_value = "1m0s", value_parser = duration)]
    request_timeout: Duration,
    /// Watches last this many seconds, or up to twice as many
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    min_request_timeout: u64,
    #[arg(long, value_name = "DURATION", default_value = "1h0m0s", value_parser = duration)]
    event_ttl: Duration,
    /// How far back watches and chunked lists reach at least; 0s: for ever
    #[arg(long, value_name = "DURATION", default_value = "5m0s", value_parser = duration)]
    etcd_compaction_interval: Duration,
}

/// The way to the kubelets.
#[derive(Args)]
struct KubeletFlags {
    /// Who signs the kubelets' serving certificates [default: not checked]
    #[arg(long, value_name = "FILE")]
    kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "kubelet_client_key")]
    kubelet_client_certificate: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "kubelet_client_certificate")]
    kubelet_client_key: Option<PathBuf>,
    /// For nodes that name no port
    #[arg(long, value_name = "P", default_value_t = 10250)]
    kubelet_port: u16,
    /// Under which of a node's addresses its kubelet is reached, the best first
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"])]
    kubelet_preferred_address_types: Vec<String>,
}

/// `30000-32767`, or `30000+2767`.
fn ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no range of ports");
    let number = |part: &str| part.trim().parse::<u16>().map_err(|_| wrong());
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => (number(first)?, number(last)?),
        (None, Some((first, more))) => {
            let first = number(first)?;
            (first, first.checked_add(number(more)?).ok_or_else(wrong)?)
        }
        (None, None) => (number(text)?, number(text)?),
    };
    if first == 0 || last < first { Err(wrong()) } else { Ok((first, last)) }
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        flags.other.note();
        let options = options(&flags, advertise_address(&flags).await?)?;
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
    let server = api_server::build_with(options, opened.store.clone(), world, |config| tune(flags, config))?;
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let (certificates, agreement) = (flags.tls.certificates(identity.clone())?, flags.tls.agreement()?);
    tokio::spawn(follow(watched(flags, &server, &identity, &certificates), shutdown.clone()));
    let serving = api_server::start_with(server, address, certificates, &agreement).await?;
    tracing::info!(address = %serving.address, "serving");
    shutdown.cancelled().await;
    serving.server.begin_shutdown();
    tokio::time::sleep(flags.load.shutdown_delay_duration).await;
    serving.stop().await;
    Ok(())
}

/// The files that are read again while the server runs.
fn watched(
    flags: &Flags,
    server: &Arc<ApiServer>,
    identity: &Arc<Identity>,
    certificates: &ByName,
) -> Vec<Watched> {
    let pair = |files: [PathBuf; 2], identity: &Arc<Identity>| {
        let identity = identity.clone();
        Watched::new(files.into(), move |texts| match texts {
            [certificate, key] => identity.set(&Pair { certificate: certificate.clone(), key: key.clone() }),
            _ => Ok(()),
        })
    };
    let mut all = vec![pair([flags.tls_cert_file.clone(), flags.tls_private_key_file.clone()], identity)];
    all.extend(certificates.named().map(|(files, identity)| pair(files.clone(), identity)));
    let who = &flags.authentication;
    if let Some(file) = &who.client_ca_file {
        let server = server.clone();
        all.push(Watched::new(vec![file.clone()], move |texts| {
            Ok(server.authenticator.trust_clients_of(texts.concat().as_bytes())?)
        }));
    }
    if let Some(file) = &who.requestheader_client_ca_file {
        let server = server.clone();
        all.push(Watched::new(vec![file.clone()], move |texts| {
            Ok(server.authenticator.trust_proxies_of(texts.concat().as_bytes())?)
        }));
    }
    let (authentication, authorization) = who.access.files();
    if let Some(file) = authentication {
        let (server, access, own) = (server.clone(), who.access.clone(), who.service_account_issuer.clone());
        all.push(Watched::new(vec![file.into()], move |texts| {
            let (issuers, anonymous) = access.believed(&texts.concat(), &own)?;
            server.authenticator.reconfigure(issuers, anonymous);
            Ok(())
        }));
    }
    if let Some(file) = authorization {
        let server = server.clone();
        // What the store is followed for must stay.
        let modes: Vec<Mode> = server.authorizer.modes();
        all.push(Watched::new(vec![file.into()], move |texts| {
            let asked = kube_apiserver_access::asked(&texts.concat(), &modes)?;
            let added = asked.iter().find_map(|one| match one {
                Asked::Mode(mode) if !modes.contains(mode) && matches!(mode, Mode::Node | Mode::Rbac) => {
                    Some(mode)
                }
                _ => None,
            });
            if let Some(mode) = added {
                let mode = mode.name();
                bail!(
                    "authorizer type {mode} is not allowed if it was not enabled at initial server startup"
                );
            }
            server.authorizer.reconfigure(asked);
            Ok(())
        }));
    }
    all
}

/// What only this program can set.
fn tune(flags: &Flags, config: &mut Config) -> Result<()> {
    let gates = Gates::parse(&flags.feature_gates.join(",")).context("--feature-gates")?;
    config.served = Served::parse(&flags.runtime_config.join(","), &gates).context("--runtime-config")?;
    config.gates = gates;
    config.admission = flags.admission.chain()?;
    config.aggregator = aggregator(flags)?;
    config.authorization = flags.authentication.access.asked()?;
    config.allow_privileged = flags.allow_privileged;
    config.headers =
        headers::Extra::new(&flags.cors_allowed_origins, &flags.strict_transport_security_directives)
            .map_err(anyhow::Error::msg)?;
    let who = &flags.authentication;
    let own = &who.service_account_issuer;
    let audiences = if who.api_audiences.is_empty() { own } else { &who.api_audiences };
    who.access.authenticate(&mut config.authentication, own, audiences)?;
    config.node_ports = flags.service_node_port_range;
    config.kubelet_port = flags.kubelet.kubelet_port;
    config.publish_endpoints = flags.endpoint_reconciler_type == "lease";
    let load = &flags.load;
    if !(0.0..=0.02).contains(&load.goaway_chance) {
        bail!("--goaway-chance can not be less than 0 or greater than 0.02");
    }
    config.goaway_chance = load.goaway_chance;
    config.max_in_flight = (load.max_requests_inflight, load.max_mutating_requests_inflight);
    config.fair = load.enable_priority_and_fairness;
    config.request_timeout = load.request_timeout;
    config.min_watch = Duration::from_secs(load.min_request_timeout);
    config.event_ttl = load.event_ttl;
    config.compaction = load.etcd_compaction_interval;
    config.jwks_uri = match (&flags.authentication.service_account_jwks_uri, &flags.external_hostname) {
        (Some(uri), _) => Some(uri.clone()),
        (None, Some(host)) => Some(format!("https://{host}:{}/openid/v1/jwks", flags.secure_port)),
        (None, None) => None,
    };
    Ok(())
}

/// Where other machines reach this server: as the flag says, else the address it listens on, else, where that
/// one means nothing to others, the address of the default route. Nothing if there is none: the `kubernetes`
/// Service is then not made.
async fn advertise_address(flags: &Flags) -> Result<Option<IpAddr>> {
    let bound = flags.bind_address;
    match flags.advertise_address {
        Some(address) => Ok(Some(address)),
        None if !bound.is_unspecified() && !bound.is_loopback() => Ok(Some(bound)),
        None => {
            let netlink = linux::netlink::Netlink::connect().context("looking for --advertise-address")?;
            let found = netlink.primary_address(bound.is_ipv4()).await;
            let found = found.context("looking for --advertise-address")?;
            if found.is_none() {
                tracing::warn!(
                    "there is no default route, so nothing tells where this server is: pods do not find \
                                it; name an --advertise-address"
                );
            }
            Ok(found)
        }
    }
}

fn options(flags: &Flags, advertise: Option<IpAddr>) -> Result<api_server::Options> {
    let who = &flags.authentication;
    let signing_key = read(&who.service_account_signing_key_file)?;
    let mut keys: Vec<String> =
        who.service_account_key_file.iter().map(|path| read(path)).collect::<Result<_>>()?;
    if keys.is_empty() {
        keys.push(signing_key.clone());
    }
    let longest = who.service_account_max_token_expiration.as_secs();
    if longest != 0 && !(3600..=1 << 32).contains(&longest) {
        bail!("--service-account-max-token-expiration must be set to a value longer or equal to 1 hour");
    }
    Ok(api_server::Options {
        client_authority: who.client_ca_file.as_deref().map(read).transpose()?,
        request_header: request_header(who)?,
        issuers: who.service_account_issuer.clone(),
        audiences: who.api_audiences.clone(),
        service_account_signing_key: signing_key,
        service_account_keys: keys,
        service_account_lookup: who.service_account_lookup,
        longest_token: (longest != 0).then_some(longest as i64),
        extend_tokens: who.service_account_extend_token_expiration,
        token_file: who.token_auth_file.as_deref().map(read).transpose()?,
        bootstrap_tokens: who.enable_bootstrap_token_auth,
        anonymous: true,
        service_cidrs: flags.service_cluster_ip_range.clone(),
        advertise: advertise.map(|address| (address, flags.secure_port)),
        kubelets: kubelets(&flags.kubelet)?,
        kubelet_address_types: flags.kubelet.kubelet_preferred_address_types.clone(),
    })
}

/// The way to extension servers.
fn aggregator(flags: &Flags) -> Result<apiserver::aggregator::Config> {
    let who = &flags.authentication;
    let mut config = apiserver::aggregator::Config {
        identity: None,
        to_endpoints: flags.enable_aggregator_routing,
        forwards_redirects: !flags.aggregator_reject_forwarding_redirect,
    };
    if let (Some(certificate), Some(key)) = (&who.proxy_client_cert_file, &who.proxy_client_key_file) {
        let pair = Pair { certificate: read(certificate)?, key: read(key)? };
        config.identity = Some(Identity::new(&pair).context("--proxy-client-cert-file")?);
    }
    Ok(config)
}

fn request_header(flags: &AuthenticationFlags) -> Result<Option<request_header::Verifier>> {
    let Some(ca) = &flags.requestheader_client_ca_file else { return Ok(None) };
    let names = request_header::Names {
        username: flags.requestheader_username_headers.clone(),
        uid: flags.requestheader_uid_headers.clone(),
        group: flags.requestheader_group_headers.clone(),
        extra_prefix: flags.requestheader_extra_headers_prefix.clone(),
    };
    let allowed = flags.requestheader_allowed_names.iter().filter(|name| !name.is_empty()).cloned().collect();
    let verifier = request_header::Verifier::new(names, allowed, read(ca)?.as_bytes());
    Ok(Some(verifier.context("--requestheader-client-ca-file and its headers")?))
}

fn kubelets(flags: &KubeletFlags) -> Result<Option<api_server::Kubelets>> {
    let authority = flags.kubelet_certificate_authority.as_deref().map(read).transpose()?;
    match (&flags.kubelet_client_certificate, &flags.kubelet_client_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::new(&Pair { certificate: read(certificate)?, key: read(key)? })?;
            if authority.is_none() {
                tracing::warn!(
                    "without --kubelet-certificate-authority, kubelets are not asked who they are"
                );
            }
            Ok(Some(api_server::Kubelets { authority, identity }))
        }
        _ if authority.is_some() => {
            bail!("--kubelet-certificate-authority goes with --kubelet-client-certificate and its key")
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    /// The flags of the static pod that kubeadm v1.36 writes, but those of etcd.
    const KUBEADM: &str = "--advertise-address=192.0.2.7 --allow-privileged=true --authorization-mode=Node,RBAC \
        --client-ca-file=/pki/ca.crt --enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true \
        --kubelet-client-certificate=/pki/apiserver-kubelet-client.crt \
        --kubelet-client-key=/pki/apiserver-kubelet-client.key \
        --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
        --proxy-client-cert-file=/pki/front-proxy-client.crt --proxy-client-key-file=/pki/front-proxy-client.key \
        --requestheader-allowed-names=front-proxy-client \
        --requestheader-client-ca-file=/pki/front-proxy-ca.crt --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
        --runtime-config= --secure-port=6443 \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file=/pki/sa.pub --service-account-signing-key-file=/pki/sa.key \
        --service-cluster-ip-range=10.96.0.0/12 --tls-cert-file=/pki/apiserver.crt \
        --tls-private-key-file=/pki/apiserver.key";

    #[test]
    fn the_flags_of_kubeadm() {
        let words = || KUBEADM.split_whitespace();
        let flags = Program::try_parse_from(["x"].into_iter().chain(words())).unwrap().flags;
        assert_eq!(flags.authentication.access.asked().unwrap().len(), 2);
        assert_eq!(flags.authentication.requestheader_username_headers, ["X-Remote-User"]);
        let refused = Program::try_parse_from(
            ["x"].into_iter().chain(words()).chain(["--etcd-servers=https://127.0.0.1:2379"]),
        );
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("--etcd-servers: an external etcd is not built"), "{text}");
    }

    #[test]
    fn port_ranges() {
        for (text, expect) in [
            ("30000-32767", Some((30000, 32767))),
            ("30000+100", Some((30000, 30100))),
            ("80", Some((80, 80))),
            ("0-1", None),
            ("5-4", None),
            ("65535+1", None),
            ("x", None),
        ] {
            assert_eq!(ports(text).ok(), expect, "{text}");
        }
    }
}
