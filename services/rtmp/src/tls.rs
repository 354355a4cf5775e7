//! RTMPS: the certificate, which is the operator's or one made for development.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::Config;

/// The acceptor for the RTMPS listener.
pub(crate) fn acceptor(config: &Config) -> anyhow::Result<TlsAcceptor> {
    let (certificate, key) = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ => {
            let dir = &config.dev_cert_dir;
            let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
            if !certificate.exists() || !key.exists() {
                make_certificate(dir, &certificate, &key)
                    .with_context(|| format!("cannot make a development certificate in {}", dir.display()))?;
            }
            (certificate, key)
        }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
    ensure!(!chain.is_empty(), "{} holds no certificate", certificate.display());
    let key =
        PrivateKeyDer::from_pem_file(&key).with_context(|| format!("cannot read the private key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no TLS version is available")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the private key do not fit")?;
    Ok(TlsAcceptor::from(Arc::new(server)))
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
        assert!(acceptor(&config).is_ok());
        let first = fs::read(dir.path().join("tls/certificate.pem")).unwrap();
        assert!(acceptor(&config).is_ok());
        assert_eq!(fs::read(dir.path().join("tls/certificate.pem")).unwrap(), first);
    }
}
