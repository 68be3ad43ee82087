//! Parts of certificates (X.509, RFC 5280), read without trust in them: whose key it is, who signed it, what
//! the fleet's own authority wrote into it. No date is read: no clock decides about a certificate here.

use aws_lc_rs::signature;
use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use super::id::CertificateHash;
use super::id::DeviceId;
use super::named::named;
use super::time::WallTime;

/// DER of an Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410 section 4).
const ED25519_KEY_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// DER of a certificate's signature algorithm, Ed25519, and of its signature up to the 64 bytes (RFC 8410
/// section 6).
const ED25519_SIGNATURE_HEAD: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];

/// DER of the object identifier of a common name (RFC 5280 appendix A.1), after which its text follows.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `version [0]` of a certificate (RFC 5280 section 4.1).
const VERSION: u8 = 0xa0;

/// The serial number of a device's certificate: a mark, the counter, then random ones.
pub const SERIAL_BYTES: usize = 16;

/// First byte of such a serial number: positive, and without a leading zero (RFC 5280 section 4.1.2.2).
pub const SERIAL_MARK: u8 = 0x40;

/// Time by which the validity of a certificate of this fleet begins before it was made: a device's clock may
/// be behind.
pub const BACKDATED_MILLISECONDS: u64 = 24 * 3_600 * 1_000;

named! {
    /// Kind of a device's key.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "lowercase")]
    KeyType, else "a kind of key: ed25519 or p256" {
        /// Ed25519 (RFC 8032): small and quick.
        #[default]
        Ed25519 = "ed25519",
        /// ECDSA on P-256 (FIPS 186-5), where a policy asks for it.
        P256 = "p256",
    }
}

impl KeyType {
    /// The kind of a device's certificate's key.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        if ed25519_key(certificate).is_some() { Self::Ed25519 } else { Self::P256 }
    }
}

/// First byte of the serial number of a voucher ([`machine::trust`](crate::machine::trust)); its number
/// follows as a counter does.
pub const VOUCHER_MARK: u8 = 0x41;

/// Words of a fleet's authority in a device's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The device: the certificate's common name.
    pub device: DeviceId,
    /// Counts the certificates of the device, from 1; in the serial number. 0: it was made without.
    pub counter: u32,
}

/// Parts of a certificate, as far as its form is right.
#[derive(Clone, Copy, Debug)]
struct Parts<'c> {
    /// The signed part, whole.
    signed: &'c [u8],
    /// The rest behind it: algorithm and signature.
    signature: &'c [u8],
    serial: &'c [u8],
    validity: &'c [u8],
    subject: &'c [u8],
    /// SubjectPublicKeyInfo, whole.
    key_info: &'c [u8],
}

/// A DER element (X.690 section 8.1).
#[derive(Clone, Copy)]
struct Element<'c> {
    tag: u8,
    content: &'c [u8],
    /// All of it.
    whole: &'c [u8],
    /// The bytes behind it.
    rest: &'c [u8],
}

/// The first element.
fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (length, rest) = match bytes {
        [_, length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [_, 0x81, length, rest @ ..] => (usize::from(*length), rest),
        [_, 0x82, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Element { tag: bytes[0], content, whole: &bytes[..bytes.len() - rest.len()], rest })
}

/// The first element, which must have this tag.
fn tagged(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    element(bytes).filter(|element| element.tag == tag)
}

fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let whole = tagged(certificate, SEQUENCE)?;
    let signed = tagged(whole.content, SEQUENCE)?;
    let version = tagged(signed.content, VERSION)?;
    let serial = tagged(version.rest, INTEGER)?;
    let algorithm = tagged(serial.rest, SEQUENCE)?;
    let issuer = tagged(algorithm.rest, SEQUENCE)?;
    let validity = tagged(issuer.rest, SEQUENCE)?;
    let subject = tagged(validity.rest, SEQUENCE)?;
    let key_info = tagged(subject.rest, SEQUENCE)?;
    whole.rest.is_empty().then_some(Parts {
        signed: signed.whole,
        signature: signed.rest,
        serial: serial.content,
        validity: validity.content,
        subject: subject.content,
        key_info: key_info.whole,
    })
}

/// The public key of a certificate, with its kind: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER.
/// `None`: it is no certificate.
#[must_use]
pub fn public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    parts(certificate).map(|parts| parts.key_info)
}

/// SHA-256 of that, as other programs pin keys (RFC 7469 section 2.4). `None`: it is no certificate.
#[cfg(feature = "server")]
#[must_use]
pub fn key_hash(certificate: &[u8]) -> Option<[u8; 32]> {
    public_key_info(certificate).map(|info| CertificateHash::of(info).0)
}

/// The public key of a certificate when it is an Ed25519 key: 32 bytes.
#[must_use]
pub fn ed25519_key(certificate: &[u8]) -> Option<&[u8]> {
    public_key_info(certificate)?.strip_prefix(&ED25519_KEY_INFO)
}

/// The common name of a certificate's subject, when that is its first attribute and text.
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<&str> {
    let names = tagged(parts(certificate)?.subject, SET)?;
    let attribute = tagged(names.content, SEQUENCE)?;
    let text = element(attribute.content.strip_prefix(&COMMON_NAME)?)?;
    std::str::from_utf8(text.content).ok()
}

/// Whether an Ed25519 key with this public part signed the certificate: what is signed is its first element,
/// and after it nothing but the signature may stand, so that no changed byte passes.
#[must_use]
pub fn is_signed_by(certificate: &[u8], public_key: &[u8]) -> bool {
    let Some(parts) = parts(certificate) else { return false };
    let Some(signature) = parts.signature.strip_prefix(&ED25519_SIGNATURE_HEAD) else { return false };
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, public_key);
    key.verify(parts.signed, signature).is_ok()
}

/// Words of an authority with this Ed25519 public key in a device's certificate; `None`: it is another's.
#[must_use]
pub fn issued(certificate: &[u8], public_key: &[u8]) -> Option<Issued> {
    if !is_signed_by(certificate, public_key) {
        return None;
    }
    let device = common_name(certificate)?.parse().ok()?;
    Some(Issued { device, counter: counter(certificate) })
}

/// Number of a certificate among those of its device, counted from 1, by its serial number; 0: that does not
/// say.
#[must_use]
pub fn counter(certificate: &[u8]) -> u32 {
    number(certificate, SERIAL_MARK).unwrap_or(0)
}

/// From when until when a certificate is good (RFC 5280 section 4.1.2.5); `None`: it is no certificate.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<(WallTime, WallTime)> {
    let from = element(parts(certificate)?.validity)?;
    let until = element(from.rest)?;
    Some((time(from.content)?, time(until.content)?))
}

/// `UTCTime` or `GeneralizedTime`, which differ in the digits of the year; a time before 1970 counts as that.
fn time(text: &[u8]) -> Option<WallTime> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match digits.len() {
        12 => {
            let year: i16 = digits.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        14 => (digits.get(..4)?.parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let mut fields = [0_i8; 5];
    for (at, field) in fields.iter_mut().enumerate() {
        *field = rest.get(2 * at..2 * at + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = fields;
    let date = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    // Its end may be the last day of the calendar, which no time zone has whole.
    let at = date.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_millis();
    Some(WallTime(u64::try_from(at).unwrap_or(0)))
}

/// The number of a voucher; `None`: it is no voucher. The signature is not looked at.
#[must_use]
pub fn voucher_number(certificate: &[u8]) -> Option<u32> {
    number(certificate, VOUCHER_MARK)
}

/// The number in a serial number of ours that begins with this mark.
fn number(certificate: &[u8], mark: u8) -> Option<u32> {
    match parts(certificate)?.serial {
        [first, a, b, c, d, rest @ ..] if *first == mark && rest.len() == SERIAL_BYTES - 5 => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

// Certificates are made by what the server and the agent have for that.
#[cfg(test)]
#[cfg(any(feature = "server", feature = "agent"))]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PKCS_ED25519, SerialNumber};

    use super::*;

    fn parameters(name: &str, serial: &[u8]) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.serial_number = Some(SerialNumber::from_slice(serial));
        parameters
    }

    fn key() -> KeyPair {
        KeyPair::generate_for(&PKCS_ED25519).unwrap()
    }

    /// A device's certificate, its key, and the authority's.
    fn example(counter: u32) -> (Vec<u8>, KeyPair, KeyPair) {
        let (authority, device) = (key(), key());
        let mut serial = [7; SERIAL_BYTES];
        serial[0] = SERIAL_MARK;
        serial[1..5].copy_from_slice(&counter.to_be_bytes());
        let issuer = Issuer::new(parameters("muster CA", &[1]), &authority);
        let certificate = parameters("00000000000000ab", &serial).signed_by(&device, &issuer).unwrap();
        (certificate.der().to_vec(), device, authority)
    }

    #[test]
    fn the_authority_finds_what_it_wrote_and_no_other_does() {
        let (certificate, device, authority) = example(0x0102_0304);
        let found = issued(&certificate, authority.public_key_raw());
        assert_eq!(found, Some(Issued { device: DeviceId(0xab), counter: 0x0102_0304 }));
        assert_eq!(issued(&certificate, key().public_key_raw()), None);
        assert_eq!(ed25519_key(&certificate), Some(device.public_key_raw()));
        assert_eq!(common_name(&certificate), Some("00000000000000ab"));
    }

    #[test]
    fn no_changed_byte_passes_and_no_beginning_is_taken_for_the_whole() {
        let (certificate, _, authority) = example(1);
        for at in 0..certificate.len() {
            let mut changed = certificate.clone();
            changed[at] ^= 1;
            assert_eq!(issued(&changed, authority.public_key_raw()), None, "byte {at}");
            let _ = (public_key_info(&certificate[..at]), common_name(&certificate[..at]));
            assert_eq!(issued(&certificate[..at], authority.public_key_raw()), None, "{at} bytes");
        }
        let longer = [&certificate[..], &[0]].concat();
        assert_eq!(issued(&longer, authority.public_key_raw()), None);
    }

    #[test]
    fn dates_are_read_in_both_forms() {
        let (authority, device) = (key(), key());
        let issuer = Issuer::new(parameters("muster CA", &[1]), &authority);
        for (from, until, expected) in [
            ((2026, 11, 24), (2027, 11, 24), (1_795_478_400_000, 1_827_014_400_000)),
            ((1969, 12, 31), (9999, 12, 31), (0, 253_402_214_400_000)),
        ] {
            let mut parameters = parameters("7", &[1]);
            parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let certificate = parameters.signed_by(&device, &issuer).unwrap();
            let expected = (WallTime(expected.0), WallTime(expected.1));
            assert_eq!(validity(certificate.der()), Some(expected));
            assert_eq!(validity(&certificate.der()[..100]), None);
        }
        for text in ["", "Z", "261124000000", "2611240000é0Z", "269924000000Z", "+61124000000Z"] {
            let _ = time(text.as_bytes());
        }
    }

    #[test]
    fn another_serial_number_counts_nothing() {
        let (authority, device) = (key(), key());
        let issuer = Issuer::new(parameters("muster CA", &[1]), &authority);
        for serial in [&[0x40, 1, 2, 3][..], &[0x41; SERIAL_BYTES], &[0x40; SERIAL_BYTES + 1]] {
            let certificate = parameters("00000000000000ab", serial).signed_by(&device, &issuer).unwrap();
            let found = issued(certificate.der(), authority.public_key_raw());
            assert_eq!(found.map(|issued| issued.counter), Some(0), "{serial:?}");
        }
    }
}
