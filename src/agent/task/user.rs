//! The user that a run's program runs as.

use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::open;

/// Largest list of users that is read: some ten thousand of them.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// A user of this system, as passwd(5) has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct User {
    /// Name.
    #[n(0)]
    pub name: String,
    /// Number.
    #[n(1)]
    pub user: u32,
    /// Number of its group.
    #[n(2)]
    pub group: u32,
    /// Home directory.
    #[n(3)]
    pub home: String,
}

/// Finds a user, and looks whether this process may become it.
///
/// # Errors
/// Why not.
pub fn find(passwd: &Path, name: &str) -> Result<User, String> {
    let text =
        open::text(passwd, PASSWD_BYTES_MAX).map_err(|error| format!("{}: {error}", passwd.display()))?;
    let user = text.lines().find_map(|line| parse(line).filter(|user| user.name == name));
    let user = user.ok_or_else(|| format!("there is no user '{name}' in {}", passwd.display()))?;
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() != user.user {
        return Err(format!(
            "the agent may not run anything as '{name}': it runs as user {}, and only root may change (run the agent as root, or leave 'user' out)",
            own.as_raw()
        ));
    }
    Ok(user)
}

/// `name:password:number:group:comment:home:shell`
fn parse(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, user, group, _, home, ..] = fields[..] else { return None };
    Some(User {
        name: name.to_owned(),
        user: user.parse().ok()?,
        group: group.parse().ok()?,
        home: home.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = rustix::process::geteuid().as_raw();
        std::fs::write(file.path(), format!("nonsense\nme:x:{own}:7:Me, myself:/home/me:/bin/sh\n+::::::\n"))
            .unwrap();
        let user = find(file.path(), "me").unwrap();
        assert_eq!((user.user, user.group, user.home.as_str()), (own, 7, "/home/me"));
        assert!(find(file.path(), "m").unwrap_err().contains("there is no user 'm'"));
        assert!(find(file.path(), &own.to_string()).is_err());
    }
}
