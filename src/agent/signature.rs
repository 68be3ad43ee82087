//! Signatures of artifacts, as minisign(1) makes them, and the key that the device trusts for them.
//!
//! The key is not the server's: a server can pass on what was signed, and can't sign. It stands in the
//! device's configuration (`[releases] key`), or was pinned: by the one who enrolled the device, or by the
//! first policy that names one. A pinned key is never replaced from afar.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize as _, Deserializer};

use super::checksummed::{self, Content};
use super::open;
use super::settings::Settings;
use crate::wire::limits::SIGNATURE_BYTES_MAX;

/// Name of the file that holds the pinned key.
const KEY_FILE: &str = "release-key";

/// Bytes that are read of an artifact at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Looks whether a text is a public key as `minisign -G` prints it: 56 characters.
///
/// # Errors
/// When it is none.
pub fn parse_key(text: &str) -> Result<String, String> {
    PublicKey::from_base64(text).map(|_| text.to_owned()).map_err(|_| {
        format!(
            "'{text}' is no public key of minisign: the 56 characters of the second line of minisign.pub, which begin with RW"
        )
    })
}

/// Reads a key in a file of settings.
///
/// # Errors
/// As [`parse_key`].
pub fn optional_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_key(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The key that is pinned in a data directory.
///
/// # Errors
/// When it can't be read: none is trusted then.
pub fn pinned_key(directory: &Path) -> Result<Option<String>, String> {
    let path = key_path(directory);
    match checksummed::read::<String>(&path, SIGNATURE_BYTES_MAX as u64) {
        Ok(Content::Whole(key)) => Ok(Some(key)),
        Ok(Content::Absent) => Ok(None),
        Ok(Content::Torn) => {
            Err(format!("{} is damaged: pin the key anew, with 'muster-agent enroll'", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Pins a key, which was [read](parse_key), unless another one is.
///
/// # Errors
/// When another key is pinned, or the system refuses.
pub fn pin_key(directory: &Path, key: &str) -> Result<(), String> {
    match pinned_key(directory)? {
        Some(pinned) if pinned == key => Ok(()),
        Some(pinned) => Err(format!(
            "this device trusts the release key {pinned}, and no other from afar: to change it, remove {} on the device",
            key_path(directory).display()
        )),
        None => set_key(directory, key),
    }
}

/// Pins a key in the place of the one that is: for who is on the device.
///
/// # Errors
/// When the system refuses.
pub fn set_key(directory: &Path, key: &str) -> Result<(), String> {
    let path = key_path(directory);
    checksummed::write(&path, &key).map_err(|error| format!("{}: {error}", path.display()))
}

fn key_path(directory: &Path) -> PathBuf {
    directory.join(KEY_FILE)
}

/// Pins the key that a policy names, where the device's file has none.
///
/// # Errors
/// When the device trusts another one, or the system refuses.
pub fn pin_key_of_policy(directory: &Path, settings: &Settings, key: &str) -> Result<(), String> {
    match &settings.releases.key {
        Some(own) if own == key => Ok(()),
        Some(own) => Err(format!("'[releases] key' in the device's muster-agent.toml is {own}, which wins")),
        None => pin_key(directory, key),
    }
}

/// Looks whether a file was signed by the key that the device trusts. Returns the trusted comment, which was
/// signed with it. The file is read once, in pieces.
///
/// # Errors
/// Why it does not count as signed.
pub fn check(path: &Path, signature: &str, settings: &Settings, directory: &Path) -> Result<String, String> {
    let key = match &settings.releases.key {
        Some(key) => key.clone(),
        None => pinned_key(directory)?.ok_or(
            "this device trusts no release key: set '[releases] key' in muster-agent.toml, or 'release_key' in a policy for muster-agent",
        )?,
    };
    let wrong = |error: minisign_verify::Error| format!("its signature is not one of the key {key}: {error}");
    let public_key = PublicKey::from_base64(&key).map_err(wrong)?;
    let signature = Signature::decode(signature).map_err(wrong)?;
    let mut verifier = public_key.verify_stream(&signature).map_err(wrong)?;
    let unread = |error| format!("{}: {error}", path.display());
    let mut file = open::file(path).map_err(unread)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(unread)? {
            0 => break,
            read => verifier.update(&chunk[..read]),
        }
    }
    verifier.finalize().map_err(wrong)?;
    Ok(signature.trusted_comment().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with minisign 0.10: `minisign -G -W`, `minisign -S -t 'shop 2.1'`.
    const KEY: &str = "RWQfKLQ0h3SVJPD3TgU2kdoFRn6hY/Q73dcL0x5KnQNWq0by1p4TTkgK";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUQfKLQ0h3SVJHeq/wf6JUMmL8dW065wDhJu2xu9kVQHfIDffzl9seHP2CTOhvSyceTU5pdnQByQt0p0GgrzjlLD7JqSOQtCqwg=\n\
        trusted comment: shop 2.1\n\
        Rzjzh+usLDifEnnBaaWkJ1q7aJiMm3nRmktH7FxVvKH1Aw50kHnlipKB4XfIbZYpqO0mz7+1/xkCgRsHrF1tDw==";

    fn settings(key: Option<&str>) -> Settings {
        let mut settings = Settings::default();
        settings.releases.key = key.map(str::to_owned);
        settings
    }

    #[test]
    fn what_the_trusted_key_signed_counts_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (path, data) = (directory.path().join("file"), directory.path());
        std::fs::write(&path, "the content\n").unwrap();
        let with = |key: Option<&str>, signature: &str| check(&path, signature, &settings(key), data);
        assert_eq!(with(Some(KEY), SIGNATURE), Ok("shop 2.1".to_owned()));
        assert!(with(None, SIGNATURE).unwrap_err().contains("trusts no release key"));
        pin_key(data, KEY).unwrap();
        assert_eq!(with(None, SIGNATURE), Ok("shop 2.1".to_owned()));
        let other = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert!(with(Some(other), SIGNATURE).is_err(), "another key");
        assert!(with(None, &SIGNATURE.replace("shop 2.1", "shop 2.2")).is_err(), "another comment");
        for cut in 0..SIGNATURE.len() - 2 {
            assert!(with(None, &SIGNATURE[..cut]).is_err(), "cut at {cut}");
        }
        std::fs::write(&path, "the content\n\n").unwrap();
        assert!(with(None, SIGNATURE).is_err(), "another content");
    }

    #[test]
    fn a_pinned_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        assert_eq!(pinned_key(data), Ok(None));
        pin_key(data, KEY).unwrap();
        pin_key(data, KEY).unwrap();
        let other = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert!(pin_key(data, other).unwrap_err().contains("no other from afar"));
        assert_eq!(pinned_key(data), Ok(Some(KEY.to_owned())));
        std::fs::write(key_path(data), "torn").unwrap();
        assert!(pinned_key(data).is_err() && pin_key(data, other).is_err(), "a damaged pin is no invitation");
        for text in ["", "RW", "é", &KEY[..55]] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }
}
