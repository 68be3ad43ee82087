//! Whether a link stays open between syncs.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::wire::named::ParseError;

/// Whether links stay open between syncs: one's own setting, or the one above. In JSON `true`, `false` or
/// `"inherit"`; `"on"` and `"off"`, as commands have it, are understood too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// They do.
    On,
    /// They do not.
    Off,
    /// As the group says, or the nearest group above it that says anything; they do not when none does.
    Inherited,
}

impl Keep {
    /// The setting as it is stored; none: the one above.
    #[must_use]
    pub fn own(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Inherited => None,
        }
    }
}

impl From<bool> for Keep {
    fn from(keep: bool) -> Self {
        if keep { Self::On } else { Self::Off }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Inherited => "inherit",
        })
    }
}

impl FromStr for Keep {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        [Self::On, Self::Off, Self::Inherited]
            .into_iter()
            .find(|keep| keep.to_string() == text)
            .ok_or_else(|| format!("'{text}' is neither 'on' nor 'off' nor 'inherit'").into())
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.own() {
            Some(keep) => serializer.serialize_bool(keep),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"inherit\"")
            }

            fn visit_bool<E: de::Error>(self, keep: bool) -> Result<Keep, E> {
                Ok(keep.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_boolean_or_inherited() {
        for (json, keep, shown) in [
            ("true", Keep::On, "true"),
            ("\"on\"", Keep::On, "true"),
            ("false", Keep::Off, "false"),
            ("\"off\"", Keep::Off, "false"),
            ("\"inherit\"", Keep::Inherited, "\"inherit\""),
        ] {
            assert_eq!(serde_json::from_str::<Keep>(json).unwrap(), keep);
            assert_eq!(serde_json::to_string(&keep).unwrap(), shown);
        }
        for wrong in ["1", "\"yes\"", "[]", "\"true\""] {
            assert!(serde_json::from_str::<Keep>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::from_str::<Option<Keep>>("null").unwrap(), None);
    }
}
