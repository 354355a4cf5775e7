//! TLS of listeners: the certificate, which is the operator's or one made for development,
//! and HTTPS over a [`Bounded`] listener.
//!
//! The operator's files are looked at again and again: a certificate that was
//! renewed serves the connections that come then, without a restart.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tls_listener::{SpawningHandshakes, TlsListener};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    Shutdown,
    listener::{Bounded, Connection, Peer, refused},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long the handshake of an HTTPS connection may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// What HTTPS connections may choose from (RFC 7301 §3.1), the best first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy)]
pub struct CertificateFiles<'a> {
    /// PEM files with the chain and with the private key; `None`: a self-signed
    /// development certificate is made.
    pub files: Option<(&'a Path, &'a Path)>,
    /// Folder of the development certificate.
    pub dev_dir: &'a Path,
}

/// What connections are shown.
#[derive(Debug)]
pub struct Certificate {
    /// Of what it is, in messages: `RTMPS`.
    of: &'static str,
    files: Files,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// The operator's, or those of a development certificate, which is made if need be.
    fn of(of: &str, source: CertificateFiles<'_>) -> anyhow::Result<Self> {
        if let Some((certificate, key)) = source.files {
            return Ok(Self {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
        let dir = source.dev_dir;
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            make_certificate(of, dir, &certificate, &key)
                .with_context(|| format!("cannot make a development certificate in {}", dir.display()))?;
        }
        Ok(Self { certificate, key })
    }

    fn read(&self, provider: &CryptoProvider) -> anyhow::Result<Arc<CertifiedKey>> {
        let Self { certificate, key } = self;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
        ensure!(!chain.is_empty(), "{} holds no certificate", certificate.display());
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read the private key {}", key.display()))?;
        let certified =
            CertifiedKey::from_der(chain, key, provider).context("the certificate and the private key do not fit")?;
        Ok(Arc::new(certified))
    }

    /// When each was last written; `None` for one that is not there.
    fn written(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
    }
}

impl Certificate {
    /// Reads the certificate; `of` says in messages of what it is.
    ///
    /// # Errors
    /// The files cannot be read or do not fit, or a development certificate cannot be made.
    pub fn open(of: &'static str, source: CertificateFiles<'_>) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files::of(of, source)?;
        let shown = RwLock::new(files.read(&provider)?);
        Ok(Arc::new(Self {
            of,
            files,
            provider,
            shown,
        }))
    }

    /// The acceptor for a listener that offers these protocols, the best first; none:
    /// the protocol is not chosen by TLS.
    ///
    /// # Errors
    /// The provider has no version of TLS.
    pub fn acceptor(self: &Arc<Self>, protocols: &[&[u8]]) -> anyhow::Result<TlsAcceptor> {
        let mut server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .context("no TLS version is available")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        server.alpn_protocols = protocols.iter().map(|&name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(server)))
    }

    /// Reads the files again whenever they have been written, until the shutdown. Ones
    /// that cannot be used change nothing: the two are rarely written at one moment.
    pub async fn follow(&self, shutdown: &Shutdown) {
        let mut read = self.files.written();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let written = self.files.written();
            if written == read {
                continue;
            }
            match self.files.read(&self.provider) {
                Ok(certified) => {
                    *self.shown.write().unwrap_or_else(PoisonError::into_inner) = certified;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate of {} read again", self.of);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the new certificate of {} cannot be used, the old one stays",
                        self.of
                    );
                }
            }
            read = written;
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn make_certificate(of: &str, dir: &Path, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let made = rcgen::generate_simple_self_signed(names)?;
    // The key comes first: a run that ends between the two makes both again.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(key)?;
    file.write_all(made.signing_key.serialize_pem().as_bytes())?;
    fs::write(certificate, made.cert.pem())?;
    tracing::info!(certificate = %certificate.display(), "made a self-signed certificate for {of}");
    Ok(())
}

/// HTTPS: HTTP/2 or HTTP/1.1, as the other side chooses.
///
/// Handshakes run side by side, so that one that is slow holds up nobody; each counts as
/// a connection.
pub struct Https {
    listener: TlsListener<Bounded, SpawningHandshakes<TlsAcceptor>>,
}

impl Https {
    /// # Errors
    /// The provider has no version of TLS.
    pub fn new(listener: Bounded, certificate: &Arc<Certificate>) -> anyhow::Result<Self> {
        let tls = SpawningHandshakes(certificate.acceptor(&HTTP)?);
        let listener = tls_listener::builder(tls).handshake_timeout(HANDSHAKE).listen(listener);
        Ok(Self { listener })
    }
}

impl Listener for Https {
    type Io = TlsStream<Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(tls_listener::Error::ListenerError(error)) => refused(&error).await,
                // Anybody can make as many of these as they like.
                Err(error) => tracing::debug!(error = %error, "TLS handshake failed"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Https>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Https>) -> Self {
        Self(*stream.remote_addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_certificate_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let source = CertificateFiles {
            files: None,
            dev_dir: &dir.path().join("tls"),
        };
        let open = || Certificate::open("tests", source).and_then(|certificate| certificate.acceptor(&[]));
        assert!(open().is_ok());
        let first = fs::read(dir.path().join("tls/certificate.pem")).unwrap();
        assert!(open().is_ok());
        assert_eq!(fs::read(dir.path().join("tls/certificate.pem")).unwrap(), first);
    }
}
