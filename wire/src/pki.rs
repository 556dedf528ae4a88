//! The certificate authority of a cell.
//!
//! Promises: every certificate names one identity as a URI, plus the DNS names and addresses that
//! other programs (curl, Prometheus) check; keys are readable by their owner alone; an authority is
//! never overwritten. Does not: revoke or renew by itself; issue again and restart the process.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Identity, is_word};
use crate::tls::TlsFiles;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority is valid, in days.
const AUTHORITY_DAYS: u32 = 3650;
/// How long an issued certificate is valid, in days. Processes have no renewal yet, so it is long.
const ISSUED_DAYS: u32 = 825;

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} is there already; load that authority or choose another directory")]
    AlreadyThere(PathBuf),
    #[error("{0:?} cannot name a cell or a peer; use letters, digits, dots, dashes, underscores")]
    BadName(String),
    #[error("{0:?} is neither a DNS name nor an address")]
    BadAlternativeName(String),
    #[error("identity {identity} belongs to another cell, this authority is of {ours}")]
    WrongCell { identity: Identity, ours: String },
    #[error("{0} is no authority that berth made")]
    NotOurs(PathBuf),
    #[error("certificate could not be made")]
    Certificate(#[from] rcgen::Error),
}

/// The authority of one cell, with its key in memory.
pub struct Authority {
    cell: String,
    certificate_pem: String,
    certificate_path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.cell)
    }
}

impl Authority {
    /// Makes an authority and keeps it in `dir` as `ca.pem` and `ca.key`.
    pub fn create(cell: &str, dir: &Path) -> Result<Self, PkiError> {
        if !is_word(cell) {
            return Err(PkiError::BadName(cell.to_owned()));
        }
        fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, cell);
        name.push(DnType::CommonName, "berth cell authority");
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_DAYS);
        let key = KeyPair::generate()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        // The key first: a certificate without its key would look like a whole authority.
        write_new(&dir.join(KEY_FILE), key.serialize_pem().as_bytes(), 0o600)?;
        let certificate_path = dir.join(CERTIFICATE_FILE);
        write_new(&certificate_path, certificate_pem.as_bytes(), 0o644)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { cell: cell.to_owned(), certificate_pem, certificate_path, issuer })
    }

    /// Reads the authority that [`Self::create`] kept in `dir`.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let certificate_path = dir.join(CERTIFICATE_FILE);
        let certificate_pem = read(&certificate_path)?;
        let key = KeyPair::from_pem(&read(&dir.join(KEY_FILE))?)?;
        let not_ours = || PkiError::NotOurs(certificate_path.clone());
        let cell = cell_of(&certificate_pem).ok_or_else(not_ours)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { cell, certificate_pem, certificate_path, issuer })
    }

    pub fn cell(&self) -> &str {
        &self.cell
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate; `names` are DNS names and addresses. Answers certificate and key in
    /// PEM.
    pub fn issue(&self, identity: &Identity, names: &[&str]) -> Result<(String, String), PkiError> {
        if identity.cell != self.cell {
            let ours = self.cell.clone();
            return Err(PkiError::WrongCell { identity: identity.clone(), ours });
        }
        if !is_word(&identity.id) {
            return Err(PkiError::BadName(identity.id.clone()));
        }
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, self.cell.as_str());
        name.push(DnType::OrganizationalUnitName, identity.role.as_str());
        name.push(DnType::CommonName, identity.id.as_str());
        params.distinguished_name = name;
        params.subject_alt_names.push(SanType::URI(identity.to_string().try_into()?));
        for name in names {
            params.subject_alt_names.push(alternative_name(name)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, ISSUED_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Issues a certificate into `dir` as `<stem>.pem` and `<stem>.key`, in place of an older one.
    pub fn issue_files(
        &self,
        identity: &Identity,
        names: &[&str],
        dir: &Path,
        stem: &str,
    ) -> Result<TlsFiles, PkiError> {
        let (certificate_pem, key_pem) = self.issue(identity, names)?;
        fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let certificate = dir.join(format!("{stem}.pem"));
        let key = dir.join(format!("{stem}.key"));
        replace(&key, key_pem.as_bytes(), 0o600)?;
        replace(&certificate, certificate_pem.as_bytes(), 0o644)?;
        Ok(TlsFiles { ca: self.certificate_path.clone(), certificate, key })
    }
}

fn alternative_name(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    if !is_word(name) {
        return Err(PkiError::BadAlternativeName(name.to_owned()));
    }
    Ok(SanType::DnsName(name.to_owned().try_into()?))
}

/// The cell stands in the organisation of the authority's subject.
fn cell_of(certificate_pem: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    let cell = certificate.subject().iter_organization().next()?.as_str().ok()?.to_owned();
    is_word(&cell).then_some(cell)
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = since_epoch();
    // A peer's clock may be behind ours.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + DAY * days;
}

#[expect(clippy::disallowed_methods, reason = "a certificate says from when to when it is valid")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(file_error("read", path))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PkiError::AlreadyThere(path.to_owned()));
        }
        Err(error) => return Err(file_error("create", path)(error)),
    };
    file.write_all(content).and_then(|()| file.sync_all()).map_err(file_error("write", path))
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    match fs::remove_file(&staged) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error("remove", &staged)(error)),
    }
    write_new(&staged, content, mode)?;
    fs::rename(&staged, path).map_err(file_error("replace", path))
}

fn file_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError + use<> {
    let path = path.to_owned();
    move |source| PkiError::File { verb, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_authority_is_loaded_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::create("cell-1", dir.path()).unwrap();
        let loaded = Authority::load(dir.path()).unwrap();
        assert_eq!(loaded.cell(), "cell-1");
        assert_eq!(loaded.certificate_pem(), made.certificate_pem());
    }

    #[test]
    fn an_authority_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create("cell-1", dir.path()).unwrap();
        let refused = Authority::create("cell-1", dir.path());
        assert!(matches!(refused, Err(PkiError::AlreadyThere(_))));
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("cell-1", dir.path()).unwrap();
        let identity = Identity::new("cell-1", Role::Node, "n1");
        let files = authority.issue_files(&identity, &["localhost"], dir.path(), "n1").unwrap();
        for key in [&files.key, &dir.path().join(KEY_FILE)] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        authority.issue_files(&identity, &["::1"], dir.path(), "n1").unwrap();
    }

    #[test]
    fn names_that_do_not_belong_in_a_certificate_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Authority::create("a/b", dir.path()).is_err());
        let authority = Authority::create("cell-1", dir.path()).unwrap();
        let node = Identity::new("cell-1", Role::Node, "n1");
        assert!(authority.issue(&node, &["not a name"]).is_err());
        assert!(authority.issue(&Identity::new("cell-2", Role::Node, "n1"), &[]).is_err());
        assert!(authority.issue(&Identity::new("cell-1", Role::Node, "n/1"), &[]).is_err());
    }
}
