//! Denied means denied: each way of having no right, with upstream's answer.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::cluster::{Cluster, step};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The answer must be exactly this Status.
#[track_caller]
fn check(c: &Cluster, path: &str, args: &[&str], code: u16, reason: &str, message: &str, details: Value) {
    let (got, body) = c.curl(path, args);
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let mut expect = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if !details.is_null() {
        expect["details"] = details;
    }
    assert_eq!((got, body), (code, expect), "{path} {args:?}");
}

#[track_caller]
fn unauthorized(c: &Cluster, path: &str, args: &[&str]) {
    check(c, path, args, 401, "Unauthorized", "Unauthorized", Value::Null);
}

#[track_caller]
fn forbidden(c: &Cluster, path: &str, args: &[&str], details: Value, message: &str) {
    check(c, path, args, 403, "Forbidden", message, details);
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The token with other claims, signed with the cluster's own key.
fn signed_again(c: &Cluster, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
    change(&mut claims);
    let text = format!("{header}.{}", BASE64.encode(claims.to_string()));
    let pem = std::fs::read_to_string(c.dir.join("pki/sa.key")).unwrap();
    let pem: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = base64::engine::general_purpose::STANDARD.decode(pem).unwrap();
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random).unwrap();
    let signature = key.sign(&random, text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64.encode(signature.as_ref()))
}

/// A client certificate for the administrators' group, from an authority that the cluster does not know.
fn foreign_certificate(c: &Cluster) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut request = rcgen::CertificateParams::new(Vec::new()).unwrap();
    request.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes-admin");
    request.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    request.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = request.self_signed(&key).unwrap();
    let write = |name: &str, text: String| {
        let path = c.home.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (write("foreign.crt", certificate.pem()), write("foreign.key", key.serialize_pem()))
}

#[test]
fn access() {
    let Some(c) = Cluster::start() else { return };
    let token = c.kubectl(&["create", "token", "default"]).ok().out.trim().to_owned();

    step("invalid and expired credentials: 401");
    unauthorized(&c, PODS, &["-H", &bearer("nonsense")]);
    unauthorized(&c, PODS, &["-H", &bearer("a.b.c")]);
    // A change in the middle of the signature; at its end there are bits that mean nothing.
    let (text, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = BASE64.decode(signature).unwrap();
    bytes[20] ^= 1;
    unauthorized(&c, PODS, &["-H", &bearer(&format!("{text}.{}", BASE64.encode(bytes)))]);
    let whole = signed_again(&c, &token, |_| {});
    assert_eq!(c.curl("/version", &["-H", &bearer(&whole)]).0, 200, "signing again makes no valid token");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expired = signed_again(&c, &token, |claims| claims["exp"] = json!(now - 60));
    unauthorized(&c, PODS, &["-H", &bearer(&expired)]);
    let other = signed_again(&c, &token, |claims| claims["aud"] = json!(["elsewhere"]));
    unauthorized(&c, PODS, &["-H", &bearer(&other)]);
    let issuer = signed_again(&c, &token, |claims| claims["iss"] = json!("https://elsewhere"));
    unauthorized(&c, PODS, &["-H", &bearer(&issuer)]);
    let (cert, key) = foreign_certificate(&c);
    unauthorized(&c, PODS, &["--cert", &cert, "--key", &key]);
    c.kubectl(&["create", "serviceaccount", "gone"]).ok();
    let gone = c.kubectl(&["create", "token", "gone"]).ok().out.trim().to_owned();
    assert_eq!(c.curl("/version", &["-H", &bearer(&gone)]).0, 200);
    c.kubectl(&["delete", "serviceaccount", "gone"]).ok();
    super::cluster::eventually("the token of a deleted account is refused", || {
        match c.curl(PODS, &["-H", &bearer(&gone)]) {
            (401, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // The administrator's certificate must not help kubectl.
    let server = format!("--server=https://127.0.0.1:{}", c.port);
    let stranger = |args: &[&str]| {
        let mut all = vec!["--kubeconfig=/dev/null", server.as_str(), "--insecure-skip-tls-verify"];
        all.extend(args);
        c.kubectl(&all)
    };
    stranger(&["--token=nonsense", "get", "pods"]).fails().has(&["(Unauthorized)"]);

    step("no credentials: 403, and what everybody may see");
    let pods = |kind: &str, user: &str, verb: &str| {
        format!(
            "{kind} is forbidden: User \"{user}\" cannot {verb} resource \"{kind}\" in API group \"\" in the \
             namespace \"default\""
        )
    };
    let anonymous = "system:anonymous";
    forbidden(&c, PODS, &[], json!({"kind": "pods"}), &pods("pods", anonymous, "list"));
    forbidden(
        &c,
        "/api/v1/namespaces/default/secrets/key",
        &["-X", "DELETE"],
        json!({"kind": "secrets", "name": "key"}),
        "secrets \"key\" is forbidden: User \"system:anonymous\" cannot delete resource \"secrets\" in API group \
         \"\" in the namespace \"default\"",
    );
    forbidden(
        &c,
        "/api/v1/nodes",
        &[],
        json!({"kind": "nodes"}),
        "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the \
         cluster scope",
    );
    for path in ["/api", "/apis", "/openapi/v3", "/metrics", "/none"] {
        let message = format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\"");
        forbidden(&c, path, &[], json!({}), &message);
    }
    for path in ["/version", "/healthz", "/livez", "/readyz"] {
        assert_eq!(c.curl(path, &[]).0, 200, "{path}");
    }

    step("a token without the right: 403");
    let account = "system:serviceaccount:default:default";
    let with = bearer(&token);
    forbidden(&c, PODS, &["-H", &with], json!({"kind": "pods"}), &pods("pods", account, "list"));
    let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}"#;
    forbidden(
        &c,
        "/api/v1/namespaces/default/configmaps",
        &["-H", &with, "-H", "Content-Type: application/json", "-d", map],
        json!({"kind": "configmaps"}),
        &pods("configmaps", account, "create"),
    );
    forbidden(
        &c,
        "/apis/apps/v1/namespaces/default/deployments/web/scale",
        &["-H", &with],
        json!({"group": "apps", "kind": "deployments", "name": "web"}),
        "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:default:default\" cannot get resource \
         \"deployments/scale\" in API group \"apps\" in the namespace \"default\"",
    );
    // Of the ways to impersonate, the first one's refusal is told (KEP-5284).
    forbidden(
        &c,
        PODS,
        &["-H", &with, "-H", "Impersonate-User: jane"],
        json!({"kind": "pods"}),
        "pods is forbidden: User \"system:serviceaccount:default:default\" cannot impersonate-on:user-info:list \
         resource \"pods\" in API group \"\" in the namespace \"default\"",
    );
    stranger(&["--token", &token, "get", "pods"]).fails().has(&[
        "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:default:default\" cannot \
         list resource \"pods\"",
    ]);
    // Nobody gives away a right that they lack.
    c.kubectl(&[
        "create",
        "clusterrole",
        "binder",
        "--verb=create,get,list",
        "--resource=rolebindings,roles",
    ])
    .ok();
    c.kubectl(&[
        "create",
        "clusterrolebinding",
        "binder",
        "--clusterrole=binder",
        "--serviceaccount=default:default",
    ])
    .ok();
    stranger(&["--token", &token, "create", "role", "r", "--verb=get", "--resource=secrets"])
        .fails()
        .has(&["(Forbidden)", "is attempting to grant RBAC permissions not currently held"]);
    c.kubectl(&["get", "role", "r"]).fails().has(&["not found"]);
    c.kubectl(&["get", "configmap", "m"]).fails().has(&["configmaps \"m\" not found"]);

    step("a right that is given works, and only in its namespace");
    c.kubectl(&["create", "rolebinding", "v", "--clusterrole=view", "--serviceaccount=default:default"]).ok();
    assert_eq!(c.curl(PODS, &["-H", &with]).0, 200);
    assert_eq!(c.curl("/api/v1/namespaces/kube-system/pods", &["-H", &with]).0, 403);
    assert_eq!(c.curl("/api/v1/namespaces/default/secrets", &["-H", &with]).0, 403);
    c.kubectl(&["delete", "rolebinding", "v"]).ok();
    assert_eq!(c.curl(PODS, &["-H", &with]).0, 403);

    step("the kubelet's own port asks who it is, too");
    let port =
        c.words("default", "nodes", "{.items[0].status.daemonEndpoints.kubeletEndpoint.Port}").remove(0);
    let url = format!("https://127.0.0.1:{port}/pods");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sSk", "--noproxy", "*", "--max-time", "20", "-w", "%{http_code}", &url]);
    super::cluster::run(&mut curl, "").ok().has(&["401"]);
    assert!(Path::new(&c.dir).join("admin.conf").exists());
}

#[test]
fn anonymous_refused() {
    let Some(c) = Cluster::with(&["--anonymous-auth=false"]) else { return };
    step("--anonymous-auth=false: 401");
    for path in [PODS, "/api", "/version", "/healthz"] {
        unauthorized(&c, path, &[]);
    }
    c.kubectl(&["get", "nodes"]).ok().has(&[" Ready "]);
}
