//! How every client reaches a coordinator: one form of address, one set of connection settings.

use std::time::Duration;

use http::Uri;
use tonic::transport::Endpoint;

use crate::text::clean;

/// Largest message that a coordinator accepts. Servers set it as their decoding limit.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Largest message that a coordinator sends. Clients set it as their decoding limit.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Largest memory of a planner in a write of the ledger: half of a request.
pub const MAX_MEMORY_BYTES: usize = MAX_REQUEST_BYTES / 2;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that vanished without a word is noticed within the sum of these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The text is not the address of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("`{0}` is not the address of a coordinator: write it as `http://127.0.0.1:7070`")]
    Malformed(String),
    #[error(
        "`{0}` asks for TLS, which coordinators do not offer yet: write it as \
         `http://127.0.0.1:7070`"
    )]
    Tls(String),
    #[error("`{0}` goes on after the port: leave that out and write it as `http://127.0.0.1:7070`")]
    Path(String),
}

/// An endpoint for `address`, such as `http://127.0.0.1:7070`, with the settings that all clients
/// share. Does not connect.
pub fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let shown = || shown(address);
    let uri: Uri = address.trim().parse().map_err(|_| AddressError::Malformed(shown()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(AddressError::Tls(shown())),
        _ => return Err(AddressError::Malformed(shown())),
    }
    let named = uri.authority().is_some_and(|authority| {
        let whole = authority.as_str() == authority.host() || authority.port_u16() > Some(0);
        whole && !authority.host().is_empty() && !authority.as_str().contains('@')
    });
    if !named {
        return Err(AddressError::Malformed(shown()));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err(AddressError::Path(shown()));
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Leaves out what may be a user and a password.
fn shown(address: &str) -> String {
    let rest = address.rsplit_once('@').map(|(_, rest)| format!("…@{rest}"));
    clean(rest.as_deref().unwrap_or(address), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_become_endpoints() {
        for good in
            ["http://127.0.0.1:7070", "http://[::1]:7070/", " http://localhost:1 ", "http://broker"]
        {
            let endpoint = endpoint(good).expect(good);
            assert_eq!(endpoint.uri().scheme_str(), Some("http"));
        }
    }

    #[test]
    fn bad_addresses_say_which_form_is_expected() {
        let bad = [
            "",
            "127.0.0.1:7070",
            "localhost",
            "ftp://x:1",
            "http://",
            "http://x:99999",
            "http://a b",
            "unix:/run/stoker",
            "https://x:7070",
            "http://x:1/jobs",
            "http://x:1?a=b",
            "http://\u{0}",
        ];
        for address in bad {
            let error = endpoint(address).expect_err(address).to_string();
            assert!(error.contains("http://127.0.0.1:7070"), "{error}");
            assert!(!error.contains('\u{0}'));
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        for address in ["http://me:hunter2@host:1", "http://me:hunter2@host:x", "me:hunter2@@"] {
            let error = endpoint(address).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
