//! Inventory: the applications that are installed on a device, and differences between two inventories.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::digest::{Digest, Hasher};
use super::limits::NAME_BYTES_MAX;

/// Longest state of a package: dpkg's longest is 17.
const STATE_BYTES_MAX: usize = 64;

/// One installed application, as the system's own package database names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Application {
    /// The package's name; with `:architecture` where it is not the machine's own.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub name: String,
    /// Its version, as the package system writes it. Behind that of a package that is there and not wholly
    /// installed stands its state in parentheses, such as `1.2-3 (half-configured)` ([`version_in_state`]).
    #[cbor(n(1), decode_with = "bounded::name")]
    pub version: String,
    /// Its publisher: maintainer, vendor or packager. May be empty.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub publisher: String,
}

/// Memory that an entry with three texts takes beside their bytes; a rough figure.
pub(crate) const ENTRY_BYTES: usize = 96;

impl Application {
    /// About how much memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        ENTRY_BYTES + self.name.len() + self.version.len() + self.publisher.len()
    }

    /// The digest of this entry. An inventory's digest is the sum of its entries' ([`Digest::with`]).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.bytes(self.name.as_bytes()).bytes(self.version.as_bytes()).bytes(self.publisher.as_bytes());
        hasher.finish()
    }
}

/// The version of a package that is not wholly installed, with its state. No version has a space and a
/// parenthesis in it (Debian policy 5.6.12), so that the two can be told apart. It is cut to what travels.
#[must_use]
pub fn version_in_state(version: &str, state: &str) -> String {
    let state = bounded::clip(state, STATE_BYTES_MAX);
    let text = format!("{} ({state})", bounded::clip(version, NAME_BYTES_MAX - STATE_BYTES_MAX - 3));
    text.trim_start().to_owned()
}

/// A version without the state that may stand behind it.
#[must_use]
pub fn version_alone(version: &str) -> &str {
    match version.strip_suffix(')').and_then(|version| version.rsplit_once('(')) {
        Some((version, _)) if version.is_empty() || version.ends_with(' ') => version.trim_end(),
        _ => version,
    }
}

/// The digest of a whole inventory, in any order. Each entry must be in it once.
#[must_use]
pub fn digest_of(applications: &[Application]) -> Digest {
    applications.iter().fold(Digest::EMPTY, |sum, application| sum.with(application.digest()))
}

/// A difference between two inventories. Whole inventories travel as the difference from the empty one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InventoryChange {
    /// In the new one, not in the old one.
    pub added: Vec<Application>,
    /// Digests of the entries that are in the old one and not in the new one.
    pub removed: Vec<Digest>,
}

impl InventoryChange {
    /// The difference that leads from `old` to `new`. Both must be sorted and free of repetitions.
    #[must_use]
    pub fn between(old: &[Application], new: &[Application]) -> Self {
        let mut change = Self::default();
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => return change,
                (Some(a), Some(b)) if a == b => {
                    old.next();
                    new.next();
                }
                (Some(a), b) if b.is_none_or(|b| a < b) => {
                    change.removed.push(a.digest());
                    old.next();
                }
                (_, Some(b)) => {
                    change.added.push((*b).clone());
                    new.next();
                }
                (Some(_), None) => unreachable!("an old entry beyond the end of the new is removed above"),
            }
        }
    }

    /// Whether there is no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_inventory() -> impl Strategy<Value = Vec<Application>> {
        let application = ("[a-d]{1,2}", "[0-3]", "[xy]?")
            .prop_map(|(name, version, publisher)| Application { name, version, publisher });
        prop::collection::btree_set(application, 0..20).prop_map(|set| set.into_iter().collect())
    }

    #[test]
    fn a_state_behind_a_version_can_be_taken_off_again() {
        for version in ["1:2.0~rc1-3+b1", "", "9"] {
            let text = version_in_state(version, "half-configured");
            assert_eq!(version_alone(&text), version, "{text}");
            assert_eq!(version_alone(version), version);
        }
        assert_eq!(version_in_state("1.0", "unpacked"), "1.0 (unpacked)");
        assert_eq!(version_in_state("", "half-installed"), "(half-installed)");
        let longest = version_in_state(&"9".repeat(300), &"x".repeat(300));
        assert!(longest.len() <= NAME_BYTES_MAX && longest.ends_with("x)"));
        assert_eq!(version_alone("1.0(a)"), "1.0(a)", "no state: no space");
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_old_to_new(old in any_inventory(), new in any_inventory()) {
            let change = InventoryChange::between(&old, &new);
            let mut set: BTreeSet<Application> = old.iter().cloned().collect();
            set.retain(|application| !change.removed.contains(&application.digest()));
            set.extend(change.added.iter().cloned());
            prop_assert_eq!(set.into_iter().collect::<Vec<_>>(), new.clone());
            let sum = change.removed.iter().fold(digest_of(&old), |sum, entry| sum.without(*entry));
            let sum = change.added.iter().fold(sum, |sum, entry| sum.with(entry.digest()));
            prop_assert_eq!(sum, digest_of(&new));
            prop_assert_eq!(change.is_empty(), old == new);
        }
    }
}
