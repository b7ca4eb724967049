//! The certificates on disk: `D/pki/NAME.crt` and `NAME.key`, keys readable by their owner only.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::{Authority, LEAF_DAYS, Pair, Subject, service_account_key};
use super::plan;

/// The directory `D/pki`.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// How many seconds a new certificate lives; authorities live longer.
    validity: i64,
}

impl Store {
    /// Opens the directory, making it when it is not there.
    pub fn open(directory: &Path) -> Result<Store> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making the certificate directory {}", directory.display()))?;
        Ok(Store { directory: directory.to_owned(), validity: LEAF_DAYS * 86_400 })
    }

    /// Lets certificates live for so many seconds; those that live longer are made again.
    pub fn with_validity(self, seconds: i64) -> Store {
        Store { validity: seconds, ..self }
    }

    /// How many seconds a new certificate lives.
    pub fn validity(&self) -> i64 {
        self.validity
    }

    pub fn certificate_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    pub fn key_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    fn read(&self, path: &Path) -> Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn pair(&self, name: &str) -> Result<Option<Pair>> {
        let certificate = self.read(&self.certificate_path(name))?;
        let key = self.read(&self.key_path(name))?;
        Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
    }

    fn write(&self, name: &str, pair: &Pair) -> Result<()> {
        write_file(&self.key_path(name), pair.key.as_bytes(), 0o600)?;
        write_file(&self.certificate_path(name), pair.certificate.as_bytes(), 0o644)
    }

    /// The authority of that name: made when missing, renewed with its own key when old. An authority whose key
    /// is there but whose certificate is not a certificate is an error, never silently replaced: everything
    /// that trusts it would be cut off.
    pub fn authority(&self, name: &str, common_name: &str, now: Timestamp) -> Result<Authority> {
        let Some(pair) = self.pair(name)? else {
            let authority = Authority::new(common_name, None, now)?;
            self.write(name, &authority.pair)?;
            return Ok(authority);
        };
        let facts = plan::facts(&pair.certificate)
            .with_context(|| format!("{} is not a certificate", self.certificate_path(name).display()))?;
        if !plan::old(&facts, now) {
            return Ok(Authority { pair });
        }
        let authority = Authority::new(common_name, Some(&pair.key), now)?;
        self.write(name, &authority.pair)?;
        tracing::info!(certificate = name, "renewed the certificate authority");
        Ok(authority)
    }

    /// The certificate of that name for that subject, made or renewed when due. The flag tells whether it is new.
    pub fn leaf(
        &self,
        name: &str,
        authority: &Authority,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<(Pair, bool)> {
        let pair = self.pair(name)?;
        let pem = pair.as_ref().map(|pair| pair.certificate.as_str());
        let signed = pem.is_some_and(|pem| signed_by(pem, &authority.pair.certificate));
        match (plan::due(pem, signed, subject, self.validity, now), pair) {
            (None, Some(pair)) => Ok((pair, false)),
            (due, _) => {
                let pair = authority.sign_for(subject, now, self.validity)?;
                self.write(name, &pair)?;
                tracing::debug!(certificate = name, reason = ?due, "made a certificate");
                Ok((pair, true))
            }
        }
    }

    /// The service account key pair in PEM, made when missing: `(private, public)`.
    pub fn service_account_key(&self) -> Result<(String, String)> {
        let (private, public) = (self.directory.join("sa.key"), self.directory.join("sa.pub"));
        if let Some(both) = self.read(&private)?.zip(self.read(&public)?) {
            return Ok(both);
        }
        let (key, public_key) = service_account_key()?;
        write_file(&private, key.as_bytes(), 0o600)?;
        write_file(&public, public_key.as_bytes(), 0o644)?;
        Ok((key, public_key))
    }
}

/// Whether the authority's key has signed the certificate.
pub fn signed_by(certificate: &str, authority: &str) -> bool {
    let parse =
        |pem: &str| x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, pem)| pem.contents);
    let Some((leaf, authority)) = parse(certificate).zip(parse(authority)) else { return false };
    let (Ok((_, leaf)), Ok((_, authority))) =
        (X509Certificate::from_der(&leaf), X509Certificate::from_der(&authority))
    else {
        return false;
    };
    leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// Writes a whole file or nothing: under another name first, synced, then renamed.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
