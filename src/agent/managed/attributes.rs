//! Extended attributes of a settings file (xattr(7)), its access control list (acl(5)) and SELinux label
//! among them.

use std::fs::File;
use std::io;

use minicbor::{Decode, Encode};

/// Most of one file's attributes, names and values together: more is refused, not cut.
#[cfg(target_os = "linux")]
const BYTES_MAX: usize = 256 * 1024;

/// The access control list. The permission bits of the group are its mask, so that without it the group would
/// get what the list gives to others.
#[cfg(target_os = "linux")]
const ACCESS_LIST: &str = "system.posix_acl_access";

/// The kernel's attributes of the content: another content has others.
#[cfg(target_os = "linux")]
const OF_CONTENT: [&str; 2] = ["security.ima", "security.evm"];

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Attribute {
    #[n(0)]
    name: String,
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "minicbor::bytes::decode")]
    value: Vec<u8>,
}

/// The attributes of a file; none where there is no such thing.
#[cfg(target_os = "linux")]
pub(super) fn read(file: &File) -> io::Result<Vec<Attribute>> {
    use rustix::fs::{fgetxattr, flistxattr};
    use rustix::io::Errno;

    // Names and each value have 64 KiB at most (XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h).
    let mut buffer = vec![0; 64 * 1024];
    let length = match flistxattr(file, &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = String::from_utf8(buffer[..length].to_vec())
        .map_err(|_| io::Error::other("the name of one of its attributes is not UTF-8"))?;
    let (mut attributes, mut bytes) = (Vec::new(), 0);
    for name in names.split('\0').filter(|name| !name.is_empty() && !OF_CONTENT.contains(name)) {
        let length = match fgetxattr(file, name, &mut buffer[..]) {
            Ok(length) => length,
            // Gone meanwhile.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(refusal(name, error)),
        };
        bytes += name.len() + length;
        if bytes > BYTES_MAX {
            return Err(io::Error::other(format!("its attributes have more than {BYTES_MAX} bytes")));
        }
        attributes.push(Attribute { name: name.to_owned(), value: buffer[..length].to_vec() });
    }
    Ok(attributes)
}

/// Gives a file these attributes; an access control list that it has and should not have goes.
#[cfg(target_os = "linux")]
pub(super) fn give(file: &File, attributes: &[Attribute]) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fremovexattr, fsetxattr};

    let own = read(file)?;
    // One that it has inherited from its directory.
    if own.iter().any(|own| own.name == ACCESS_LIST) && attributes.iter().all(|one| one.name != ACCESS_LIST) {
        fremovexattr(file, ACCESS_LIST).map_err(|error| refusal(ACCESS_LIST, error))?;
    }
    for attribute in attributes.iter().filter(|attribute| !own.contains(attribute)) {
        fsetxattr(file, &*attribute.name, &attribute.value, XattrFlags::empty())
            .map_err(|error| refusal(&attribute.name, error))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn refusal(name: &str, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("its attribute '{name}' can't be carried over: {error}"))
}

/// Elsewhere files have none that are known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_: &File) -> io::Result<Vec<Attribute>> {
    Ok(Vec::new())
}

/// Nothing is given.
#[cfg(not(target_os = "linux"))]
pub(super) fn give(_: &File, _: &[Attribute]) -> io::Result<()> {
    Ok(())
}
