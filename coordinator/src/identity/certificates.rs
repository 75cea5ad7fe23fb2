//! The certificates that machines' identity documents are signed by: those that an operator has given, and no other.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms::signed_data::SignerIdentifier;
use der::asn1::UintRef;
use der::oid::ObjectIdentifier;
use der::{Decode as _, Reader as _, SliceReader};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use stoker_core::identity::EXPIRES_SOON;
use stoker_core::time::Timestamp;
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::name::Name;

/// Larger files are something else.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Serial numbers have at most so many bytes.
const MAX_SERIAL_BYTES: usize = 20;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Fewer bits can be broken; the library that verifies takes no more.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// One that is trusted.
#[derive(Clone)]
pub struct Certificate {
    pub file: PathBuf,
    pub not_before: Timestamp,
    /// The last moment at which it is good.
    pub not_after: Timestamp,
    serial: Vec<u8>,
    issuer: Name,
    key_identifier: Option<Vec<u8>>,
    /// An RSA public key, as PKCS#1 has it.
    key: Vec<u8>,
}

/// All that are trusted. There is at least one.
#[derive(Debug, Clone)]
pub struct Certificates(Vec<Certificate>);

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read the certificates in {} (--identity-certificates)", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} (--identity-certificates) is larger than {MAX_FILE_BYTES} bytes: it holds more than AWS's certificates",
        file.display()
    )]
    TooLarge { file: PathBuf },
    #[error(
        "{} (--identity-certificates) cannot be read as PEM: {problem}; each certificate has to stand between its \
         lines BEGIN CERTIFICATE and END CERTIFICATE",
        file.display()
    )]
    Pem { file: PathBuf, problem: String },
    #[error(
        "there is no certificate in {} (--identity-certificates): put AWS's RSA-2048 certificates of the fleet's \
         regions there, in PEM",
        file.display()
    )]
    Empty { file: PathBuf },
    #[error(
        "certificate {number} in {} (--identity-certificates) is malformed: {problem}",
        file.display()
    )]
    Malformed { file: PathBuf, number: usize, problem: String },
    #[error(
        "certificate {number} in {} (--identity-certificates) has {key}, and identity documents are verified with RSA \
         of at least {} bits: AWS publishes several certificates for each region, take the one named RSA-2048",
        file.display(),
        RSA_BITS.start()
    )]
    Key { file: PathBuf, number: usize, key: String },
}

/// How long a certificate is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    NotYet,
    Good,
    /// Within a month it is not.
    ExpiresSoon,
    Expired,
}

impl Certificates {
    /// Reads all files; each has one certificate or more.
    ///
    /// # Errors
    /// When a file cannot be read, has none, or has one that nothing could be verified with.
    pub fn load(files: &[PathBuf]) -> Result<Self, CertificateError> {
        let mut all = Vec::new();
        for file in files {
            all.extend(load(file)?);
        }
        Ok(Self(all))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter()
    }

    /// What a signer calls its certificate, in hexadecimal digits.
    pub(super) fn serial_of(signer: &SignerIdentifier) -> String {
        let name = match signer {
            SignerIdentifier::IssuerAndSerialNumber(named) => named.serial_number.as_bytes(),
            SignerIdentifier::SubjectKeyIdentifier(named) => named.0.as_bytes(),
        };
        shown(name)
    }

    /// Those that the signer says to have used. More than one where a file is named twice.
    pub(super) fn of_signer(
        &self,
        signer: &SignerIdentifier,
    ) -> impl Iterator<Item = &Certificate> {
        self.0.iter().filter(move |certificate| certificate.is_named_by(signer))
    }
}

impl Certificate {
    /// Its serial number, in hexadecimal digits.
    pub fn serial(&self) -> String {
        shown(&self.serial)
    }

    /// Whether it is good, as of now.
    pub fn validity(&self, now: Timestamp) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else if now.after(EXPIRES_SOON) > self.not_after {
            Validity::ExpiresSoon
        } else {
            Validity::Good
        }
    }

    /// Whether what it signs is taken, as of now.
    pub fn is_good(&self, now: Timestamp) -> bool {
        match self.validity(now) {
            Validity::Good | Validity::ExpiresSoon => true,
            Validity::NotYet | Validity::Expired => false,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    fn is_named_by(&self, signer: &SignerIdentifier) -> bool {
        match signer {
            SignerIdentifier::IssuerAndSerialNumber(named) => {
                named.serial_number.as_bytes() == self.serial && named.issuer == self.issuer
            }
            SignerIdentifier::SubjectKeyIdentifier(named) => {
                self.key_identifier.as_deref() == Some(named.0.as_bytes())
            }
        }
    }

    fn read(file: &Path, number: usize, bytes: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |error: der::Error| {
            let problem = error.to_string();
            CertificateError::Malformed { file: file.to_owned(), number, problem }
        };
        let unusable = |key| CertificateError::Key { file: file.to_owned(), number, key };
        let certificate = x509_cert::Certificate::from_der(bytes).map_err(malformed)?;
        let about = certificate.tbs_certificate();
        let public = about.subject_public_key_info();
        if public.algorithm.oid != RSA_ENCRYPTION {
            return Err(unusable("a key that is not of RSA".to_owned()));
        }
        let key = public.subject_public_key.raw_bytes().to_vec();
        let bits = rsa_bits(&key).map_err(malformed)?;
        if !RSA_BITS.contains(&bits) {
            return Err(unusable(format!("a key of {bits} bits")));
        }
        let identifier = about.get_extension::<SubjectKeyIdentifier>().map_err(malformed)?;
        let (from, until) = (about.validity().not_before, about.validity().not_after);
        Ok(Self {
            file: file.to_owned(),
            not_before: timestamp(from.to_unix_duration()),
            not_after: timestamp(until.to_unix_duration()),
            serial: about.serial_number().as_bytes().to_vec(),
            issuer: about.issuer().clone(),
            key_identifier: identifier.map(|(_, identifier)| identifier.0.as_bytes().to_vec()),
            key,
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, serial) = (&self.file, self.serial());
        f.debug_struct("Certificate")
            .field("file", file)
            .field("serial", &serial)
            .finish_non_exhaustive()
    }
}

fn load(file: &Path) -> Result<Vec<Certificate>, CertificateError> {
    let unreadable = |source| CertificateError::Read { file: file.to_owned(), source };
    let mut text = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(CertificateError::TooLarge { file: file.to_owned() });
    }
    let mut certificates = Vec::new();
    for (index, found) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let pem = |error: rustls::pki_types::pem::Error| CertificateError::Pem {
            file: file.to_owned(),
            problem: error.to_string(),
        };
        certificates.push(Certificate::read(file, index + 1, &found.map_err(pem)?)?);
    }
    if certificates.is_empty() {
        return Err(CertificateError::Empty { file: file.to_owned() });
    }
    Ok(certificates)
}

/// Length of the modulus of a PKCS#1 public key.
fn rsa_bits(key: &[u8]) -> Result<usize, der::Error> {
    let mut reader = SliceReader::new(key)?;
    let bits = reader.sequence(|parts: &mut SliceReader<'_>| {
        let modulus = UintRef::decode(parts)?;
        UintRef::decode(parts)?;
        let bytes = modulus.as_bytes();
        let leading = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Ok::<_, der::Error>(bytes.len() * 8 - leading)
    })?;
    reader.finish()?;
    Ok(bits)
}

/// As others show a serial number: without the zero that keeps it positive. One that somebody made up has any length.
fn shown(serial: &[u8]) -> String {
    let serial = serial.strip_prefix(&[0]).unwrap_or(serial);
    hex::encode(serial.get(..MAX_SERIAL_BYTES).unwrap_or(serial))
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp::from_unix_millis(0).after(since_epoch)
}
