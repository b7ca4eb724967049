//! `kube-apiserver`'s flags about who is believed and who is asked besides the server itself: configuration files of
//! authentication and authorization, OpenID Connect, webhooks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use apiserver::authentication::{self, configuration, oidc, token_webhook};
use apiserver::authorization::configuration::{Configuration, Planned, WebhookSettings};
use apiserver::authorization::{Asked, Mode, webhook::Webhook};
use apiserver::remote::Endpoint;

use super::{duration, read};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct AccessFlags {
    /// Whose tokens are good, and which paths are open to anybody; read again when it changes
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// Who is asked what users may do; read again when it changes
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    /// Let requests without a credential in [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    anonymous_auth: Option<bool>,
    /// Asked one after the other: AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook [default: Node,RBAC]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    #[command(flatten)]
    webhooks: WebhookFlags,
    #[command(flatten)]
    oidc: OidcFlags,
}

#[derive(Clone, Debug, Default, clap::Args)]
struct WebhookFlags {
    /// A kubeconfig that leads to the program that knows what users may do
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Of the SubjectAccessReviews that are sent [default: v1beta1]
    #[arg(long, value_name = "VERSION")]
    authorization_webhook_version: Option<String>,
    /// [default: 5m0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Option<Duration>,
    /// [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
    /// A kubeconfig that leads to the program that knows tokens
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Of the TokenReviews that are sent [default: v1beta1]
    #[arg(long, value_name = "VERSION")]
    authentication_token_webhook_version: Option<String>,
    /// [default: 2m0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Option<Duration>,
}

#[derive(Clone, Debug, Default, clap::Args)]
struct OidcFlags {
    /// Whose tokens are good
    #[arg(long, value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Whom they must be for
    #[arg(long, value_name = "ID")]
    oidc_client_id: Option<String>,
    /// Who signs the issuer's certificate [default: those that the machine believes]
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// [default: sub]
    #[arg(long, value_name = "CLAIM")]
    oidc_username_claim: Option<String>,
    /// [default: the issuer and #; none for email]
    #[arg(long, value_name = "PREFIX")]
    oidc_username_prefix: Option<String>,
    #[arg(long, value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    #[arg(long, value_name = "PREFIX")]
    oidc_groups_prefix: Option<String>,
    /// [default: RS256]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    oidc_signing_algs: Vec<String>,
    /// Claims that tokens must have; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
}

impl OidcFlags {
    fn is_empty(&self) -> bool {
        let OidcFlags { oidc_issuer_url: a, oidc_client_id: b, oidc_username_claim: c, .. } = self;
        let texts = [a, b, c, &self.oidc_username_prefix, &self.oidc_groups_claim, &self.oidc_groups_prefix];
        texts.iter().all(|text| text.is_none())
            && self.oidc_ca_file.is_none()
            && self.oidc_signing_algs.is_empty()
            && self.oidc_required_claim.is_empty()
    }

    fn settings(&self) -> Result<configuration::JwtAuthenticator> {
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let (issuer_url, client_id) = (given(&self.oidc_issuer_url), given(&self.oidc_client_id));
        if issuer_url.is_empty() || client_id.is_empty() {
            bail!(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
            );
        }
        let claims = self.oidc_required_claim.iter().map(|pair| {
            let (claim, value) = pair.split_once('=').with_context(|| {
                format!("--oidc-required-claim: malformed pair, expect string=string: {pair}")
            })?;
            Ok((claim.to_owned(), value.to_owned()))
        });
        Ok(configuration::Flags {
            issuer_url,
            client_id,
            authorities: self.oidc_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
            username_claim: self.oidc_username_claim.clone().unwrap_or_else(|| "sub".into()),
            username_prefix: given(&self.oidc_username_prefix),
            groups_claim: given(&self.oidc_groups_claim),
            groups_prefix: given(&self.oidc_groups_prefix),
            required_claims: claims.collect::<Result<_>>()?,
        }
        .into())
    }

    fn algorithms(&self) -> Vec<String> {
        match self.oidc_signing_algs.is_empty() {
            true => vec!["RS256".into()],
            false => self.oidc_signing_algs.clone(),
        }
    }
}

/// Who is believed, and who may come without a credential.
type Believed = (Vec<Arc<oidc::Issuer>>, configuration::Anonymous);

impl AccessFlags {
    /// The files that are read again when they change: of authentication, and of authorization.
    pub fn files(&self) -> (Option<&Path>, Option<&Path>) {
        (self.authentication_config.as_deref(), self.authorization_config.as_deref())
    }

    /// Adds to the configuration what the flags and their files say. `own` are the issuers of service account tokens,
    /// `audiences` those of the server.
    pub fn authenticate(
        &self,
        config: &mut authentication::Config,
        own: &[String],
        audiences: &[String],
    ) -> Result<()> {
        let (issuers, anonymous) = match &self.authentication_config {
            Some(file) => {
                let wrong = || {
                    let file = file.display();
                    format!("failed to load authentication configuration from file \"{file}\"")
                };
                let text = read(file).with_context(wrong)?;
                self.believed(&text, own).with_context(wrong)?
            }
            None => self.believed_by_flags(own)?,
        };
        config.issuers = issuers;
        config.anonymous = anonymous.enabled;
        config.anonymous_paths = anonymous.conditions;
        let webhooks = &self.webhooks;
        if let Some(file) = &webhooks.authentication_token_webhook_config_file {
            let endpoint =
                Endpoint::from_kubeconfig(file).context("--authentication-token-webhook-config-file")?;
            let version = webhooks.authentication_token_webhook_version.as_deref().unwrap_or("v1beta1");
            let holds = webhooks.authentication_token_webhook_cache_ttl.unwrap_or(Duration::from_secs(120));
            let holds =
                jiff::SignedDuration::try_from(holds).context("--authentication-token-webhook-cache-ttl")?;
            let webhook = token_webhook::Webhook::new(endpoint, version, holds, audiences.to_vec());
            config.webhook = Some(webhook.context("--authentication-token-webhook-version")?);
        }
        Ok(())
    }

    /// What the text of `--authentication-config` says.
    pub fn believed(&self, text: &str, own: &[String]) -> Result<Believed> {
        let config = configuration::Configuration::parse(text)?;
        if !config.jwt.is_empty() && !self.oidc.is_empty() {
            bail!("authentication-config file and oidc-* flags are mutually exclusive");
        }
        if config.anonymous.is_some() && self.anonymous_auth.is_some() {
            bail!(
                "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in \
                 authentication configuration file"
            );
        }
        let all: Vec<String> = oidc::keys::ALGORITHMS.iter().map(|name| (*name).to_owned()).collect();
        let issuers = issuers(&config, own, &all)?;
        Ok((issuers, config.anonymous.unwrap_or_else(|| self.anonymous())))
    }

    fn believed_by_flags(&self, own: &[String]) -> Result<Believed> {
        if self.oidc.is_empty() {
            return Ok((Vec::new(), self.anonymous()));
        }
        let config = configuration::Configuration { jwt: vec![self.oidc.settings()?], anonymous: None };
        Ok((issuers(&config, own, &self.oidc.algorithms())?, self.anonymous()))
    }

    fn anonymous(&self) -> configuration::Anonymous {
        configuration::Anonymous::everywhere(self.anonymous_auth.unwrap_or(true))
    }

    /// Who is asked, in order.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        let webhooks = &self.webhooks;
        let file = &webhooks.authorization_webhook_config_file;
        if let Some(path) = &self.authorization_config {
            let flags = file.is_some()
                || webhooks.authorization_webhook_version.is_some()
                || webhooks.authorization_webhook_cache_authorized_ttl.is_some()
                || webhooks.authorization_webhook_cache_unauthorized_ttl.is_some();
            if flags || !self.authorization_mode.is_empty() {
                bail!(
                    "--authorization-config can not be specified when --authorization-mode or \
                     --authorization-webhook-* flags are defined"
                );
            }
            return asked(&read(path)?, &[]).context("--authorization-config");
        }
        let default = ["Node".to_owned(), "RBAC".to_owned()];
        let modes = match self.authorization_mode.as_slice() {
            [] => &default[..],
            given => given,
        };
        for (i, mode) in modes.iter().enumerate() {
            if modes.iter().take(i).any(|other| other == mode) {
                bail!("authorization-mode {modes:?} has mode specified more than once");
            }
        }
        if file.is_some() && !modes.iter().any(|mode| mode == "Webhook") {
            bail!("cannot specify --authorization-webhook-config-file without mode Webhook");
        }
        let one = |mode: &String| match (mode.as_str(), file) {
            ("Webhook", None) => bail!("authorization-mode Webhook's authorization config file not passed"),
            ("Webhook", Some(file)) => {
                let version = webhooks.authorization_webhook_version.as_deref().unwrap_or("v1beta1");
                if !matches!(version, "v1" | "v1beta1") {
                    bail!(
                        "unsupported webhook authorizer version {version:?}, supported versions are \"v1\", \"v1beta1\""
                    );
                }
                let allowed = webhooks.authorization_webhook_cache_authorized_ttl;
                let denied = webhooks.authorization_webhook_cache_unauthorized_ttl;
                let settings = WebhookSettings::of_flags(
                    &file.to_string_lossy(),
                    version,
                    allowed.unwrap_or(Duration::from_secs(300)),
                    denied.unwrap_or(Duration::from_secs(30)),
                );
                let endpoint =
                    Endpoint::from_kubeconfig(file).context("--authorization-webhook-config-file")?;
                let webhook = Webhook::new("webhook".into(), endpoint, settings, Vec::new());
                Ok(Asked::Webhook(Arc::new(webhook)))
            }
            (mode, _) => {
                let known = mode.parse::<Mode>();
                Ok(known.map_err(|_| anyhow!("authorization-mode {mode:?} is not a valid mode"))?.into())
            }
        };
        modes.iter().map(one).collect()
    }
}

fn issuers(
    config: &configuration::Configuration,
    own: &[String],
    algorithms: &[String],
) -> Result<Vec<Arc<oidc::Issuer>>> {
    let compiled = config.compile(own)?.into_iter();
    compiled
        .map(|(settings, mapper)| {
            oidc::Issuer::new(&settings, mapper, algorithms).map(Arc::new).map_err(anyhow::Error::msg)
        })
        .collect()
}

/// What the text of `--authorization-config` says. `required` are modes that must be among it.
pub fn asked(text: &str, required: &[Mode]) -> Result<Vec<Asked>> {
    let is_file = |path: &Path| match std::fs::metadata(path) {
        Err(error) => Err(format!("error loading file: {error}")),
        Ok(about) if !about.is_file() => Err("must be a regular file".into()),
        Ok(_) => Ok(()),
    };
    let planned = Configuration::parse(text)?.compile(required, &is_file)?.into_iter();
    planned
        .map(|one| match one {
            Planned::Mode(mode) => Ok(mode.into()),
            Planned::Webhook { name, settings, conditions } => {
                let file = settings.connection_info.kube_config_file.clone().unwrap_or_default();
                let endpoint = Endpoint::from_kubeconfig(Path::new(&file))
                    .with_context(|| format!("authorizer {name}: {file}"))?;
                Ok(Asked::Webhook(Arc::new(Webhook::new(name, endpoint, *settings, conditions))))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: AccessFlags,
    }

    /// What the flags come to: issuers, who may be anonymous, who is asked; or why not. `{}` stands for the directory of
    /// the files.
    fn outcome(files: &[(&str, &str)], flags: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().display().to_string();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text.replace("{}", &here)).unwrap();
        }
        let flags = flags.replace("{}", &here);
        let flags = match Program::try_parse_from(["x"].into_iter().chain(flags.split_whitespace())) {
            Ok(program) => program.flags,
            Err(error) => return error.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let mut config = authentication::Config::default();
        if let Err(error) = flags.authenticate(&mut config, &["https://own".into()], &["api".into()]) {
            return format!("{error:#}");
        }
        let asked = match flags.asked() {
            Ok(asked) => asked,
            Err(error) => return format!("{error:#}"),
        };
        let asked: Vec<&str> = asked
            .iter()
            .map(|one| match one {
                Asked::Mode(mode) => mode.name(),
                Asked::Webhook(_) => "Webhook",
            })
            .collect();
        format!(
            "{} {} {} {} {}",
            config.issuers.len(),
            config.anonymous,
            config.anonymous_paths.len(),
            config.webhook.is_some(),
            asked.join(",")
        )
    }

    const KUBECONFIG: &str = "{clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1/x'}}], \
        users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: a, user: u}}], current-context: c}";

    #[test]
    fn flags_and_files() {
        let head =
            |kind: &str, rest: &str| format!("apiVersion: apiserver.config.k8s.io/v1\nkind: {kind}\n{rest}");
        let jwt = |rest: &str| head("AuthenticationConfiguration", rest);
        let order = |rest: &str| head("AuthorizationConfiguration", rest);
        let one = "jwt: [{issuer: {url: 'https://i', audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}]";
        let webhook = |more: &str| {
            order(&format!(
                "authorizers: [{{type: Webhook, name: w, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, \
                 failurePolicy: Deny, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: '{{}}/k'}}{more}}}}}, \
                 {{type: RBAC, name: rbac}}]"
            ))
        };
        type Row<'a> = (Vec<(&'a str, String)>, &'a str, &'a str);
        let table: Vec<Row<'_>> = vec![
            (vec![], "", "0 true 0 false Node,RBAC"),
            (
                vec![],
                "--anonymous-auth=false --authorization-mode=AlwaysAllow",
                "0 false 0 false AlwaysAllow",
            ),
            (vec![], "--authorization-mode=RBAC,RBAC", "has mode specified more than once"),
            (vec![], "--authorization-mode=Sometimes", "\"Sometimes\" is not a valid mode"),
            (vec![], "--authorization-mode=Webhook", "authorization config file not passed"),
            (
                vec![("k", KUBECONFIG.into())],
                "--authorization-webhook-config-file={}/k",
                "without mode Webhook",
            ),
            (
                vec![("k", KUBECONFIG.into())],
                "--authorization-mode=Node,Webhook --authorization-webhook-config-file={}/k",
                "0 true 0 false Node,Webhook",
            ),
            (
                vec![("k", KUBECONFIG.into())],
                "--authentication-token-webhook-config-file={}/k",
                "0 true 0 true Node",
            ),
            (
                vec![("k", KUBECONFIG.into())],
                "--authentication-token-webhook-config-file={}/k --authentication-token-webhook-version=v2",
                "unsupported authentication webhook version \"v2\"",
            ),
            (vec![], "--oidc-issuer-url=https://i", "must be specified together"),
            (vec![], "--oidc-issuer-url=https://i --oidc-client-id=a", "1 true 0 false Node,RBAC"),
            (vec![], "--oidc-issuer-url=http://i --oidc-client-id=a", "URL scheme must be https"),
            (
                vec![],
                "--oidc-issuer-url=https://own --oidc-client-id=a",
                "must not overlap with disallowed issuers",
            ),
            (
                vec![],
                "--oidc-issuer-url=https://i --oidc-client-id=a --oidc-signing-algs=none",
                "unsupported signing alg: \"none\"",
            ),
            (vec![("a", jwt(one))], "--authentication-config={}/a", "1 true 0 false Node,RBAC"),
            (
                vec![("a", jwt(one))],
                "--authentication-config={}/a --oidc-issuer-url=https://j --oidc-client-id=a",
                "authentication-config file and oidc-* flags are mutually exclusive",
            ),
            (
                vec![("a", jwt("anonymous: {enabled: true, conditions: [{path: /livez}]}"))],
                "--authentication-config={}/a",
                "0 true 1 false Node,RBAC",
            ),
            (
                vec![("a", jwt("anonymous: {enabled: true}"))],
                "--authentication-config={}/a --anonymous-auth",
                "--anonymous-auth flag cannot be set",
            ),
            (vec![("a", jwt("jwts: []"))], "--authentication-config={}/a", "unknown field `jwts`"),
            (
                vec![("a", order("authorizers: []"))],
                "--authentication-config={}/a",
                "expected AuthenticationConfig",
            ),
            (
                vec![],
                "--authentication-config={}/none",
                "failed to load authentication configuration from file",
            ),
            (
                vec![("z", webhook("")), ("k", KUBECONFIG.into())],
                "--authorization-config={}/z",
                "Webhook,RBAC",
            ),
            (
                vec![("z", webhook("")), ("k", KUBECONFIG.into())],
                "--authorization-config={}/z --authorization-mode=RBAC",
                "--authorization-config can not be specified when",
            ),
            (vec![("z", webhook(""))], "--authorization-config={}/z", "kubeConfigFile: Invalid value"),
            (
                vec![
                    ("z", webhook(", matchConditions: [{expression: 'request.usr'}]")),
                    ("k", KUBECONFIG.into()),
                ],
                "--authorization-config={}/z",
                "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
            ),
            (
                vec![
                    ("z", webhook(", matchConditions: [{expression: 'request.usr'}]")),
                    ("k", KUBECONFIG.into()),
                ],
                "--authorization-config={}/z",
                "undefined field 'usr'",
            ),
        ];
        for (files, flags, expect) in table {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let found = outcome(&files, flags);
            assert!(found.contains(expect), "{flags}: {found}");
        }
    }
}
