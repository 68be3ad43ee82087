//! Identities that outlive a run: a second run against the same server enrols nobody again.
//!
//! A file for each server and group, mode 0600, since it holds keys. It is written beside and put in place
//! whole; one that is damaged is worth nothing and costs an enrolment.
//!
//! | bytes | what |
//! |---|---|
//! | 0..16 | `muster-load id 1` |
//! | 16..n-4 | identities, CBOR, one behind the other |
//! | n-4..n | CRC-32C of all before, big-endian |

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster::agent::identity::Identity;
use muster::wire::id::CertificateHash;

use crate::failure::Failure;

const MAGIC: &[u8; 16] = b"muster-load id 1";

/// Directory of caches when nothing names another: `$XDG_CACHE_HOME/muster-load` or `~/.cache/muster-load`
/// (XDG Base Directory Specification).
pub(crate) fn default_directory() -> Option<PathBuf> {
    let named =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")))?;
    Some(home.join("muster-load"))
}

/// The file of one server's devices in one group.
pub(crate) fn file(directory: &Path, server: &CertificateHash, group: &str) -> PathBuf {
    directory.join(format!("{server}-{group}.identities"))
}

/// Reads identities; `None` when there are none, or the file is damaged.
pub(crate) fn read(file: &Path) -> Option<Vec<Identity>> {
    from_bytes(&std::fs::read(file).ok()?)
}

/// Stores identities.
pub(crate) fn write(file: &Path, identities: &[Identity]) -> Result<(), Failure> {
    let failed = |what: &str| Failure::when(format!("{what} {} (--no-cache does without)", file.display()));
    if let Some(directory) = file.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed("make the directory of"))?;
    }
    let beside = file.with_extension(format!("new-{}", std::process::id()));
    let opened =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let mut opened = opened.map_err(failed("write"))?;
    let written = opened.write_all(&to_bytes(identities)).and_then(|()| std::fs::rename(&beside, file));
    written.inspect_err(|_| drop(std::fs::remove_file(&beside))).map_err(failed("write"))
}

fn to_bytes(identities: &[Identity]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for identity in identities {
        // A vector can always be written to.
        let _ = minicbor::encode(identity, &mut bytes);
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<Vec<Identity>> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
        return None;
    }
    let mut decoder = minicbor::Decoder::new(content.strip_prefix(MAGIC)?);
    let mut identities = Vec::new();
    while decoder.position() < decoder.input().len() {
        identities.push(decoder.decode().ok()?);
    }
    Some(identities)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster::wire::id::DeviceId;
    use muster::wire::time::WallTime;

    use super::*;

    fn identities() -> Vec<Identity> {
        let identity = |number: u64| Identity {
            server: "127.0.0.1:13000".into(),
            device: DeviceId(number),
            name: super::super::name(7),
            private_key: vec![1; 48],
            certificate: vec![2; 60],
            pins: vec![vec![3; 40]],
            wake_key: [5; 32],
            notice_key: [6; 32],
            enrolled_at: WallTime(1_795_514_400_000),
            trust_label: 0,
            voucher_floor: 0,
            previous: None,
        };
        (1..4).map(identity).collect()
    }

    #[test]
    fn identities_are_kept_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory.path().join("new"), &CertificateHash([7; 32]), "kept");
        assert_eq!(read(&file), None);
        write(&file, &identities()).unwrap();
        write(&file, &identities()).unwrap();
        assert_eq!(read(&file), Some(identities()));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let good = to_bytes(&identities());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(from_bytes(&bad), None, "byte {at}");
            assert_eq!(from_bytes(&good[..at]), None, "cut at {at}");
        }
        assert_eq!(from_bytes(&good), Some(identities()));
    }

    #[test]
    fn servers_and_groups_have_files_of_their_own() {
        let directory = Path::new("/cache");
        let (one, other) = (CertificateHash([1; 32]), CertificateHash([2; 32]));
        assert_ne!(file(directory, &one, "kept"), file(directory, &other, "kept"));
        assert_ne!(file(directory, &one, "kept"), file(directory, &one, "called"));
    }
}
