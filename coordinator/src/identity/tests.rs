//! Real signatures, made by `tests/identity/make` as AWS makes them, and what becomes of them when they are not right.

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stoker_core::identity::{MAX_DOCUMENT_BYTES, MAX_SIGNATURE_BYTES, Nameless};

use super::*;

const INSTANCE: &str = "i-0123456789abcdef0";

/// 2026-01-02.
const NOW: Timestamp = Timestamp::from_unix_millis(1_767_312_000_000);

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/identity").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// A document with the signature of `form`.
fn presented(document: &str, form: &str) -> v1::InstanceIdentity {
    let (document, signature) =
        (text(&format!("{document}.json")), text(&format!("{form}.rsa2048")));
    v1::InstanceIdentity { document, signature }
}

fn identity(files: &[&str]) -> Identity {
    let files: Vec<PathBuf> = files.iter().map(|name| file(name)).collect();
    Identity {
        rules: Rules {
            accounts: [AccountId::new("123456789012").unwrap()].into(),
            regions: [RegionName::new("us-east-1").unwrap()].into(),
            nameless: Nameless::Admit,
        },
        certificates: Certificates::load(&files).unwrap(),
    }
}

static TRUSTED: LazyLock<Identity> = LazyLock::new(|| identity(&["trusted.pem"]));

/// What becomes of a worker on [`INSTANCE`] that shows this.
fn check(identity: &Identity, shown: &v1::InstanceIdentity) -> Result<(), IdentityError> {
    identity.check(Some(&InstanceName::new(INSTANCE).unwrap()), Some(shown), NOW)
}

/// Why what is shown proves nothing.
fn unproven(shown: &v1::InstanceIdentity) -> ProofError {
    match check(&TRUSTED, shown) {
        Err(IdentityError::Unproven { source, .. }) => source,
        other => panic!("it is not unproven: {other:?}"),
    }
}

#[test]
fn a_signature_in_any_form_of_the_standard_proves_its_document() {
    for form in ["good", "detached"] {
        check(&TRUSTED, &presented("good", form)).unwrap();
    }
    // The certificate inside of this one makes nothing trusted; one that is given does.
    let other = identity(&["trusted.pem", "other.pem"]);
    for form in ["embedded", "signer"] {
        check(&other, &presented("good", form)).unwrap();
    }
}

#[test]
fn only_the_certificates_that_were_given_are_trusted() {
    for form in ["embedded", "signer"] {
        let error = unproven(&presented("good", form));
        assert!(matches!(&error, ProofError::UnknownSigner { .. }), "{form}: {error:?}");
        let serial = identity(&["other.pem"]).certificates.iter().next().unwrap().serial();
        assert!(error.to_string().contains(&serial), "{error}");
    }
}

#[test]
fn what_is_proven_has_to_be_what_is_claimed_and_allowed() {
    for (document, reason) in [
        ("instance", "other-instance"),
        ("account", "other-account"),
        ("region", "other-region"),
        ("foreign", "bad-proof"),
    ] {
        let error = check(&TRUSTED, &presented(document, document)).unwrap_err();
        assert_eq!(error.reason(), reason, "{error:?}");
    }
    let named = InstanceName::new(INSTANCE).unwrap();
    let error = TRUSTED.check(Some(&named), None, NOW).unwrap_err();
    assert_eq!(error.reason(), "no-proof");
    TRUSTED.check(None, None, NOW).unwrap();
}

#[test]
fn a_signature_is_good_for_its_own_document_only_to_the_last_byte() {
    for other in ["instance", "account"] {
        assert!(matches!(unproven(&presented(other, "good")), ProofError::OtherDocument));
    }
    let good = presented("good", "good");
    for document in [
        format!("{}\n", good.document),
        good.document.replace("123456789012", "123456789013"),
        String::new(),
    ] {
        let shown = v1::InstanceIdentity { document, ..good.clone() };
        assert!(matches!(unproven(&shown), ProofError::OtherDocument));
    }
}

#[test]
fn other_digests_and_signatures_without_attributes_are_not_taken() {
    for form in ["sha512", "bare"] {
        let error = unproven(&presented("good", form));
        assert!(matches!(error, ProofError::NotPkcs7), "{form}: {error:?}");
    }
}

#[test]
fn a_certificate_is_good_within_its_time_only() {
    let shown = presented("good", "expired");
    let old = identity(&["expired.pem"]);
    let named = InstanceName::new(INSTANCE).unwrap();
    let certificate = old.certificates.iter().next().unwrap();
    let (from, until) = (certificate.not_before, certificate.not_after);
    let month = std::time::Duration::from_hours(30 * 24);
    let tick = std::time::Duration::from_millis(1);
    for (now, validity) in [
        (from.before(tick), Validity::NotYet),
        (from, Validity::Good),
        (until.before(month), Validity::Good),
        (until.before(month).after(tick), Validity::ExpiresSoon),
        (until, Validity::ExpiresSoon),
        (until.after(tick), Validity::Expired),
        (NOW, Validity::Expired),
    ] {
        assert_eq!(certificate.validity(now), validity);
        let taken = old.check(Some(&named), Some(&shown), now);
        assert_eq!(taken.is_ok(), certificate.is_good(now), "{taken:?}");
    }
    let error = check(&old, &shown).unwrap_err();
    let error = stoker_runtime::error::chain(&error);
    assert!(error.contains("expired.pem") && error.contains("has expired"), "{error}");
}

#[test]
fn a_signature_that_is_cut_off_anywhere_is_refused() {
    let good = presented("good", "good");
    let bytes = STANDARD.decode(good.signature.replace('\n', "")).unwrap();
    for length in 0..bytes.len() {
        let signature = STANDARD.encode(&bytes[..length]);
        let shown = v1::InstanceIdentity { signature, ..good.clone() };
        assert!(matches!(unproven(&shown), ProofError::NotPkcs7), "{length} bytes");
    }
}

/// Nothing of what the signer says can be changed. What can is what nothing is taken from: the document inside, and
/// the versions and digests that are said again outside of the signer.
#[test]
fn a_signature_with_a_flipped_bit_proves_nothing_else_than_before() {
    let good = presented("good", "good");
    let bytes = STANDARD.decode(good.signature.replace('\n', "")).unwrap();
    let others = ["instance", "account", "region"].map(|name| text(&format!("{name}.json")));
    let (mut taken, mut refused) = (0_usize, 0_usize);
    for position in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[position / 8] ^= 1 << (position % 8);
        let signature = STANDARD.encode(changed);
        let own = v1::InstanceIdentity { signature: signature.clone(), ..good.clone() };
        match check(&TRUSTED, &own) {
            Ok(()) => taken += 1,
            Err(IdentityError::Unproven { .. }) => refused += 1,
            Err(other) => panic!("bit {position}: {other:?}"),
        }
        let document = others[position % others.len()].clone();
        let stolen = v1::InstanceIdentity { document, signature };
        assert!(check(&TRUSTED, &stolen).is_err(), "bit {position}");
    }
    // The signer has 256 bytes of signature and as many of what is signed.
    assert!(refused > 8 * 450 && taken > 0, "{refused} refused, {taken} taken");
}

#[test]
fn what_is_no_signature_is_refused_without_harm() {
    let good = presented("good", "good");
    let bytes = STANDARD.decode(good.signature.replace('\n', "")).unwrap();
    let nested = |open: [u8; 2]| STANDARD.encode(open.repeat(MAX_SIGNATURE_BYTES / 3));
    // The content of the outermost part, with as many parts in each other as there is room for.
    let within = |open: [u8; 2]| STANDARD.encode([&bytes[..15], &open.repeat(2_900)].concat());
    for (signature, expected) in [
        (String::new(), "PKCS#7"),
        ("not base64!".to_owned(), "base64"),
        (good.signature.replacen('M', "-", 1), "base64"),
        (format!("-----BEGIN PKCS7-----\n{}", good.signature), "base64"),
        (STANDARD.encode([0_u8; 64]), "PKCS#7"),
        (STANDARD.encode([&bytes[..], &[0]].concat()), "PKCS#7"),
        (STANDARD.encode([&bytes[..], &bytes[..]].concat()), "PKCS#7"),
        (nested([0x30, 0x80]), "PKCS#7"),
        (within([0x30, 0x80]), "PKCS#7"),
        (within([0x24, 0x80]), "PKCS#7"),
        ("A".repeat(MAX_SIGNATURE_BYTES + 1), "signature has 8193 bytes"),
    ] {
        let error = unproven(&v1::InstanceIdentity { signature, ..good.clone() }).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let document = " ".repeat(MAX_DOCUMENT_BYTES + 1);
    let error = unproven(&v1::InstanceIdentity { document, ..good }).to_string();
    assert!(error.contains("document has 4097 bytes"), "{error}");
}

#[test]
fn files_that_nothing_can_be_verified_with_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let trusted = text("trusted.pem");
    for (path, said) in [
        (folder.path().join("missing.pem"), "cannot read"),
        (write("empty.pem", b""), "there is no certificate"),
        (write("words.pem", b"see AWS's page"), "there is no certificate"),
        (write("cut.pem", &trusted.as_bytes()[..500]), "PEM"),
        (write("other.pem", trusted.replacen("MII", "MIJ", 1).as_bytes()), "certificate 1 in"),
        (write("large.pem", &vec![b'\n'; (1 << 20) + 1]), "larger than"),
        (file("short.pem"), "a key of 1024 bits"),
        (file("curve.pem"), "not of RSA"),
    ] {
        let error =
            Certificates::load(&[file("trusted.pem"), path.clone()]).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("--identity-certificates"), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    let both =
        write("both.pem", format!("# US\n{trusted}\n# EU\n{}", text("other.pem")).as_bytes());
    assert_eq!(Certificates::load(&[both]).unwrap().iter().count(), 2);
}
