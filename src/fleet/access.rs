//! Rights of those who administer: a role on a group and all below it.

use crate::wire::role::Role;

/// A role, and where it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Path of the group, in its one form: it holds there and in the groups below.
    pub group: String,
}

impl Grant {
    /// That of root at the socket: everything, everywhere.
    #[must_use]
    pub fn everything() -> Self {
        Self { role: Role::Administrator, group: "/".to_owned() }
    }

    /// Whether somebody with this grant may do what needs the role `least` on a group.
    #[must_use]
    pub fn allows(&self, least: Role, group: &str) -> bool {
        self.role >= least && is_within(group, &self.group)
    }

    /// Whether somebody with this grant may give another one: none that may more than it does itself.
    #[must_use]
    pub fn may_give(&self, other: &Self) -> bool {
        self.role == Role::Administrator && self.allows(other.role, &other.group)
    }
}

/// Whether a group is another one, or lies below it.
#[must_use]
pub fn is_within(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, group: &str) -> Grant {
        Grant { role, group: group.to_owned() }
    }

    #[test]
    fn a_grant_holds_on_its_group_and_below_and_for_lesser_roles() {
        for role in Role::ALL {
            for least in Role::ALL {
                let may = grant(role, "/berlin");
                assert_eq!(may.allows(least, "/berlin"), role >= least, "{role} {least}");
                assert_eq!(may.allows(least, "/berlin/kiosks"), role >= least, "{role} {least}");
                for elsewhere in ["/", "/berlin2", "/ber", "/potsdam/berlin", "", "berlin"] {
                    assert!(!may.allows(least, elsewhere), "{role} {least} {elsewhere}");
                }
                assert_eq!(grant(role, "/").allows(least, "/any/where"), role >= least);
            }
        }
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        let own = grant(Role::Administrator, "/berlin");
        assert!(own.may_give(&grant(Role::Administrator, "/berlin/kiosks")));
        assert!(own.may_give(&grant(Role::Reader, "/berlin")));
        assert!(!own.may_give(&grant(Role::Reader, "/")));
        assert!(!own.may_give(&grant(Role::Reader, "/potsdam")));
        assert!(!grant(Role::PolicyAuthor, "/").may_give(&grant(Role::Reader, "/")));
        assert!(Grant::everything().may_give(&Grant::everything()));
    }
}
