//! TLS with the system's roots.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::{OutletError, OutletErrorKind};

/// Trusts the system's roots and these in PEM form.
pub(crate) fn client_config(pem: Option<&[u8]>) -> Result<ClientConfig, OutletError> {
    let (kind, what) = (OutletErrorKind::RootCertificates, "the root certificates are not in PEM form");
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.unwrap_or_default()).collect();
    let roots = roots.map_err(|error| OutletError::new(kind, what, error))?;
    if roots.is_empty() && pem.is_some() {
        return Err(OutletError::new(kind, what, "there is no certificate"));
    }
    let mut extra_roots = RootCertStore::empty();
    for root in &roots {
        extra_roots
            .add(root.clone())
            .map_err(|error| OutletError::new(kind, "a root certificate is invalid", error))?;
    }
    let (kind, what) = (OutletErrorKind::Client, "TLS cannot be set up");
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
        .map_err(|error| OutletError::new(kind, what, error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OutletError::new(kind, what, error))?;
    // `dangerous` is rustls' word for any verifier but its own. This one is the platform's.
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}
