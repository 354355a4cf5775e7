//! RTMPS: the certificate, which is the operator's or one made for development.
//!
//! The operator's files are looked at again and again: a certificate that was
//! renewed serves the connections that come then, without a restart.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use castlog_service::Shutdown;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::Config;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What RTMPS connections are shown.
#[derive(Debug)]
pub(crate) struct Certificate {
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
    fn of(config: &Config) -> anyhow::Result<Self> {
        if let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) {
            return Ok(Self {
                certificate: certificate.clone(),
                key: key.clone(),
            });
        }
        let dir = &config.dev_cert_dir;
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            make_certificate(dir, &certificate, &key)
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
    /// # Errors
    /// The files cannot be read or do not fit, or a development certificate cannot be made.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files::of(config)?;
        let shown = RwLock::new(files.read(&provider)?);
        Ok(Arc::new(Self { files, provider, shown }))
    }

    /// The acceptor for the RTMPS listener.
    ///
    /// # Errors
    /// The provider has no version of TLS.
    pub(crate) fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .context("no TLS version is available")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Ok(TlsAcceptor::from(Arc::new(server)))
    }

    /// Reads the files again whenever they have been written, until the shutdown. Ones
    /// that cannot be used change nothing: the two are rarely written at one moment.
    pub(crate) async fn follow(&self, shutdown: &Shutdown) {
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
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate of RTMPS read again");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the new certificate of RTMPS cannot be used, the old one stays");
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

fn make_certificate(dir: &Path, certificate: &Path, key: &Path) -> anyhow::Result<()> {
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
    tracing::info!(certificate = %certificate.display(), "made a self-signed certificate for RTMPS");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_certificate_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            dev_cert_dir: dir.path().join("tls"),
            ..Config::default()
        };
        let open = || Certificate::open(&config).and_then(|certificate| certificate.acceptor());
        assert!(open().is_ok());
        let first = fs::read(dir.path().join("tls/certificate.pem")).unwrap();
        assert!(open().is_ok());
        assert_eq!(fs::read(dir.path().join("tls/certificate.pem")).unwrap(), first);
    }
}
