//! Identifiers, as they stand on the wire, in the store and on the screen.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use super::named::ParseError;

/// JSON as the text that it shows.
macro_rules! as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
                value.map(Self).ok_or_else(|| ParseError::is_not(text, $wanted))
            }
        }

        as_text!($name);
    };
}

hex_id! {
    /// A device: a random number given at enrolment, never used again for another. Shown as 16 hexadecimal
    /// digits.
    DeviceId, "a device id (16 hexadecimal digits)"
}

hex_id! {
    /// A join token, without its secret. Shown as 16 hexadecimal digits.
    TokenId, "a token id (16 hexadecimal digits)"
}

hex_id! {
    /// An API token, without its secret. Shown as 16 hexadecimal digits.
    ApiTokenId, "the id of an API token (16 hexadecimal digits)"
}

hex_id! {
    /// A user: a random number, never used again for another of the same name. Shown as 16 hexadecimal
    /// digits.
    UserId, "the id of a user (16 hexadecimal digits)"
}

hex_id! {
    /// A task. Shown as 16 hexadecimal digits.
    TaskId, "a task id (16 hexadecimal digits)"
}

hex_id! {
    /// One execution of a task on one device: a random number, never used again, so that a device knows one
    /// that it has had. Shown as 16 hexadecimal digits.
    RunId, "a run id (16 hexadecimal digits)"
}

hex_id! {
    /// One unbroken history of a peer's state. A peer that lost or rolled back its state draws a new one.
    Epoch, "an epoch (16 hexadecimal digits)"
}

macro_rules! hash {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Hashes bytes.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self::from(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
            }
        }

        impl From<aws_lc_rs::digest::Digest> for $name {
            fn from(digest: aws_lc_rs::digest::Digest) -> Self {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest.as_ref());
                Self(hash)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let mut hash = [0; 32];
                let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let read =
                    |(byte, digits): (&mut u8, &str)| u8::from_str_radix(digits, 16).map(|read| *byte = read);
                let pairs = (0..64).step_by(2).map_while(|at| text.get(at..at + 2));
                if !is_hex || hash.iter_mut().zip(pairs).try_for_each(read).is_err() {
                    return Err(ParseError::is_not(text, $wanted));
                }
                Ok(Self(hash))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

hash! {
    /// SHA-256 (FIPS 180-4) of a certificate's DER: how a certificate is named and looked up.
    CertificateHash, "the SHA-256 of a certificate (64 hexadecimal digits)"
}

hash! {
    /// SHA-256 (FIPS 180-4) of an artifact's content: how an artifact is named, everywhere.
    ArtifactHash, "the SHA-256 of an artifact (64 hexadecimal digits)"
}

as_text!(ArtifactHash);

impl<Ctx> Encode<Ctx> for ArtifactHash {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut Ctx,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.bytes(&self.0).map(drop)
    }
}

impl<'b, Ctx> Decode<'b, Ctx> for ArtifactHash {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        context: &mut Ctx,
    ) -> Result<Self, minicbor::decode::Error> {
        minicbor::bytes::decode::<Ctx, [u8; 32]>(decoder, context).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = DeviceId(0x00ab_cdef_0123_4567);
        assert_eq!(id.to_string(), "00abcdef01234567");
        assert_eq!("00abcdef01234567".parse::<DeviceId>().unwrap(), id);
        let hash = CertificateHash::of(b"x");
        assert_eq!(hash.to_string().parse::<CertificateHash>(), Ok(hash));
        for text in ["", "0f", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<CertificateHash>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_id_is_named() {
        for text in ["", "12", "+0abcdef01234567", "zzzzzzzzzzzzzzzz", "00abcdef0123456789"] {
            let error = text.parse::<DeviceId>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not a device id (16 hexadecimal digits)"));
        }
    }
}
