//! Whether AWS has signed a document: PKCS#7 with RSA and SHA-256, as the metadata service gives it at `rsa2048`.
//!
//! AWS writes it in BER with indefinite lengths, puts the document inside, and no certificate. The document inside is not
//! looked at: the one that came along has to have the digest that was signed. Certificates inside are not looked at, either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedAttributes, SignedData, SignerInfo};
use der::asn1::{Any, OctetString};
use der::oid::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use stoker_core::identity::{MAX_DOCUMENT_BYTES, MAX_SIGNATURE_BYTES};
use stoker_core::time::Timestamp;

use super::certificates::{Certificate, Certificates};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// Both name the same signature where the digest is SHA-256.
const RSA: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
];

/// Why a signature proves nothing. The text never repeats what was sent.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("its {what} has {bytes} bytes, and at most {most} are read")]
    TooLong { what: &'static str, bytes: usize, most: usize },
    #[error("its signature is not in base64")]
    NotBase64,
    #[error(
        "its signature is not PKCS#7 with RSA and SHA-256: the worker has to send what the metadata service answers \
         at dynamic/instance-identity/rsa2048"
    )]
    NotPkcs7,
    #[error(
        "it is signed with the certificate {serial}, which is none of those that the coordinator trusts: add AWS's \
         RSA-2048 certificate of the machine's region to --identity-certificates at the coordinator"
    )]
    UnknownSigner { serial: String },
    #[error(
        "the certificate {serial} in {file} at the coordinator has expired or is not valid yet: put AWS's present \
         one there"
    )]
    NotValidNow { serial: String, file: String },
    #[error("the signature does not fit the key of the certificate that it names")]
    WrongSignature,
    #[error("what is signed is another document")]
    OtherDocument,
    #[error("the document names no account, instance or region: it is none of an instance")]
    Document(#[source] serde_json::Error),
}

/// Checks that one of the trusted certificates' owners has signed the document.
pub(super) fn verify(
    trusted: &Certificates,
    document: &str,
    signature: &str,
    now: Timestamp,
) -> Result<(), ProofError> {
    bounded("document", document, MAX_DOCUMENT_BYTES)?;
    bounded("signature", signature, MAX_SIGNATURE_BYTES)?;
    let signer = signer(&decode(signature)?)?;
    let Signed { message, digest } = signed(&signer)?;
    let certificate = certificate(trusted, &signer, now)?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, certificate.key())
        .verify(&message, signer.signature.as_bytes())
        .map_err(|_| ProofError::WrongSignature)?;
    if digest == Sha256::digest(document.as_bytes()).as_slice() {
        Ok(())
    } else {
        Err(ProofError::OtherDocument)
    }
}

fn bounded(what: &'static str, text: &str, most: usize) -> Result<(), ProofError> {
    let bytes = text.len();
    if bytes > most { Err(ProofError::TooLong { what, bytes, most }) } else { Ok(()) }
}

/// The service breaks lines.
fn decode(signature: &str) -> Result<Vec<u8>, ProofError> {
    let text: Vec<u8> = signature.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(|_| ProofError::NotBase64)
}

/// The only signer.
fn signer(bytes: &[u8]) -> Result<SignerInfo, ProofError> {
    let malformed = |_| ProofError::NotPkcs7;
    let outer = ContentInfo::from_ber(bytes).map_err(malformed)?;
    if outer.content_type != SIGNED_DATA {
        return Err(ProofError::NotPkcs7);
    }
    // What is inside may have indefinite lengths of its own.
    let inner = outer.content.to_der().map_err(malformed)?;
    let data = SignedData::from_ber(&inner).map_err(malformed)?;
    let mut signers = data.signer_infos.0.into_vec().into_iter();
    match (signers.next(), signers.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(ProofError::NotPkcs7),
    }
}

/// What a signer has signed.
struct Signed {
    /// The bytes that the signature is over.
    message: Vec<u8>,
    /// Of the document, as these bytes say.
    digest: Vec<u8>,
}

/// Reads the attributes that are signed. Without them the document itself would be, which AWS does not do.
fn signed(signer: &SignerInfo) -> Result<Signed, ProofError> {
    let malformed = |_| ProofError::NotPkcs7;
    let attributes = signer.signed_attrs.as_ref().ok_or(ProofError::NotPkcs7)?;
    if signer.digest_alg.oid != SHA_256 || !RSA.contains(&signer.signature_algorithm.oid) {
        return Err(ProofError::NotPkcs7);
    }
    let content: ObjectIdentifier =
        only(attributes, CONTENT_TYPE)?.decode_as().map_err(malformed)?;
    let digest: OctetString = only(attributes, MESSAGE_DIGEST)?.decode_as().map_err(malformed)?;
    if content != DATA {
        return Err(ProofError::NotPkcs7);
    }
    // They are signed as DER has them, whatever form they were sent in.
    let message = attributes.to_der().map_err(malformed)?;
    Ok(Signed { message, digest: digest.as_bytes().to_vec() })
}

/// The value of an attribute that has to be there once, with one value.
fn only(attributes: &SignedAttributes, wanted: ObjectIdentifier) -> Result<&Any, ProofError> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == wanted);
    match (found.next(), found.next()) {
        (Some(attribute), None) if attribute.values.len() == 1 => {
            attribute.values.get(0).ok_or(ProofError::NotPkcs7)
        }
        _ => Err(ProofError::NotPkcs7),
    }
}

/// The certificate that the signer names, if it is trusted and good now.
fn certificate<'a>(
    trusted: &'a Certificates,
    signer: &SignerInfo,
    now: Timestamp,
) -> Result<&'a Certificate, ProofError> {
    let mut named = trusted.of_signer(&signer.sid).peekable();
    let Some(first) = named.peek().copied() else {
        return Err(ProofError::UnknownSigner { serial: Certificates::serial_of(&signer.sid) });
    };
    let good = named.find(|certificate| certificate.is_good(now));
    good.ok_or_else(|| ProofError::NotValidNow {
        serial: first.serial(),
        file: first.file.display().to_string(),
    })
}
