//! Mutual TLS between our processes.
//!
//! Promises: TLS 1.3 only; both sides show a certificate of the cell's authority; a peer is known
//! by the cell, role and id in its certificate and never by its address or DNS name, for addresses
//! change and names can be spoofed. Sessions are never resumed, so every connection is verified in
//! full.
//! Does not: revoke certificates, or reload files; a process reads its files once, at its start.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;

pub use crate::identity::{Identity, IdentityError, Role};
use crate::link::{Link, LinkError};

/// A peer that does not finish its handshake in this time is cut.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a process finds its certificate. All PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a process has no identity to speak with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}; it must be a PEM file of the cell's authority")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("{path} holds no certificate")]
    Empty { path: PathBuf },
    #[error("{path} names no identity of a cell; issue it with the cell's authority")]
    Identity {
        path: PathBuf,
        #[source]
        source: IdentityError,
    },
    #[error("certificate {path} was not issued by {ca} or has expired; issue a new one")]
    Untrusted {
        path: PathBuf,
        ca: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("certificate {path} and its key do not fit together")]
    Refused {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{path} cannot serve as an authority")]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// What a process needs to speak and be spoken to in its cell. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    material: Material,
    server_any: Arc<rustls::ServerConfig>,
    client_any: Arc<rustls::ClientConfig>,
    /// One per role that can be expected, in the order of [`Role::ALL`].
    client_by_role: [Arc<rustls::ClientConfig>; Role::ALL.len()],
}

impl Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.inner.identity)
    }
}

impl Tls {
    /// Reads the files and checks that they fit together.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let material = Material::load(files)?;
        let identity = material.identity.clone();
        let refused = |source| TlsError::Refused { path: files.certificate.clone(), source };
        let server_any = Arc::new(material.server_config(&Role::ALL).map_err(refused)?);
        let client_any = Arc::new(material.client_config(&Role::ALL).map_err(refused)?);
        let one = |role: Role| Ok(Arc::new(material.client_config(&[role]).map_err(refused)?));
        let client_by_role = [
            one(Role::Scheduler)?,
            one(Role::Node)?,
            one(Role::Keeper)?,
            one(Role::Switch)?,
            one(Role::Client)?,
        ];
        let inner = Inner { identity, material, server_any, client_any, client_by_role };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Who this process is.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// For HTTP servers: demands a certificate of our cell, of any role.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        self.inner.server_any.clone()
    }

    /// For HTTP servers that serve some roles only; others fail in the handshake.
    pub fn server_config_for(
        &self,
        allow: &[Role],
    ) -> Result<Arc<rustls::ServerConfig>, LinkError> {
        self.inner.material.server_config(allow).map(Arc::new).map_err(LinkError::Tls)
    }

    /// For HTTP clients: accepts a server of our cell, of any role and under any name.
    pub fn client_config(&self) -> Arc<rustls::ClientConfig> {
        self.inner.client_any.clone()
    }

    /// As [`Self::client_config`], for servers of one role.
    pub fn client_config_for(&self, expect: Role) -> Arc<rustls::ClientConfig> {
        match expect {
            Role::Scheduler => self.inner.client_by_role[0].clone(),
            Role::Node => self.inner.client_by_role[1].clone(),
            Role::Keeper => self.inner.client_by_role[2].clone(),
            Role::Switch => self.inner.client_by_role[3].clone(),
            Role::Client => self.inner.client_by_role[4].clone(),
        }
    }

    /// Dials a peer that must have the role `expect`; it may be any of that role, its id is
    /// answered.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expect: Role,
    ) -> Result<(Link, Identity), LinkError> {
        let handshake = async {
            let tcp = TcpStream::connect(address).await.map_err(LinkError::Io)?;
            tcp.set_nodelay(true).map_err(LinkError::Io)?;
            let name = ServerName::IpAddress(address.ip().into());
            let stream = tokio_rustls::TlsConnector::from(self.client_config_for(expect))
                .connect(name, tcp)
                .await
                .map_err(LinkError::Handshake)?;
            self.finish(stream.into(), &[expect])
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| LinkError::TimedOut("handshake"))?
    }

    /// Takes an accepted connection of a peer that must have one of the roles in `allow`.
    pub async fn accept(
        &self,
        tcp: TcpStream,
        allow: &[Role],
    ) -> Result<(Link, Identity), LinkError> {
        let handshake = async {
            tcp.set_nodelay(true).map_err(LinkError::Io)?;
            let stream = tokio_rustls::TlsAcceptor::from(self.server_config())
                .accept(tcp)
                .await
                .map_err(LinkError::Handshake)?;
            self.finish(stream.into(), allow)
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| LinkError::TimedOut("handshake"))?
    }

    /// The identity of a peer after a handshake that one of our configurations made.
    pub fn peer_identity(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<Identity, IdentityError> {
        let certificate = certificates.and_then(|all| all.first()).ok_or(IdentityError::Missing)?;
        Identity::from_certificate(certificate)
    }

    fn finish(
        &self,
        stream: tokio_rustls::TlsStream<TcpStream>,
        allow: &[Role],
    ) -> Result<(Link, Identity), LinkError> {
        let peer = self.peer_identity(stream.get_ref().1.peer_certificates())?;
        peer.admit(&self.inner.identity.cell, allow)?;
        Ok((Link::new(stream), peer))
    }
}

/// The files' content, from which configurations are made.
struct Material {
    identity: Identity,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
    client_chain: Arc<dyn ClientCertVerifier>,
}

impl Material {
    fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&files.ca)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Refused { path: files.ca.clone(), source })?;
        }
        let roots = Arc::new(roots);
        let chain = read_certificates(&files.certificate)?;
        let own = chain.first().ok_or(TlsError::Empty { path: files.certificate.clone() })?;
        let identity = Identity::from_certificate(own)
            .map_err(|source| TlsError::Identity { path: files.certificate.clone(), source })?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|source| TlsError::Unreadable { path: files.key.clone(), source })?;
        let client_chain =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|source| TlsError::Authority { path: files.ca.clone(), source })?;
        // Better to hear of an expired or foreign certificate here than from every peer.
        let untrusted = |source| TlsError::Untrusted {
            path: files.certificate.clone(),
            ca: files.ca.clone(),
            source,
        };
        client_chain.verify_client_cert(own, &chain[1..], UnixTime::now()).map_err(untrusted)?;
        Ok(Self { identity, roots, chain, key, provider, client_chain })
    }

    fn verifier(&self, allow: &[Role]) -> Arc<PeerVerifier> {
        Arc::new(PeerVerifier {
            cell: self.identity.cell.clone(),
            allow: allow.to_vec(),
            roots: self.roots.clone(),
            provider: self.provider.clone(),
            client_chain: self.client_chain.clone(),
        })
    }

    fn server_config(&self, allow: &[Role]) -> Result<rustls::ServerConfig, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.verifier(allow))
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn client_config(&self, allow: &[Role]) -> Result<rustls::ClientConfig, rustls::Error> {
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(allow))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// Verifies the chain against our authority as usual, then cell and role instead of a DNS name.
#[derive(Debug)]
struct PeerVerifier {
    cell: String,
    allow: Vec<Role>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    client_chain: Arc<dyn ClientCertVerifier>,
}

impl PeerVerifier {
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        Identity::from_certificate(certificate)
            .and_then(|peer| peer.admit(&self.cell, &self.allow))
            .map_err(|refusal| {
                let other = rustls::OtherError(Arc::new(refusal));
                rustls::CertificateError::Other(other).into()
            })
    }

    fn tls12(&self) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.admit(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.client_chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.client_chain.verify_client_cert(end_entity, intermediates, now)?;
        self.admit(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests;
