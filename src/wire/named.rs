//! Values that have a name, in JSON, logs and for people, and what is said of a text that names none.

/// A text is not what was wanted: which one, and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    /// The text is not `wanted`, which says what is allowed too.
    pub(crate) fn is_not(text: &str, wanted: &str) -> Self {
        Self(format!("'{text}' is not {wanted}"))
    }
}

impl From<ParseError> for String {
    fn from(error: ParseError) -> Self {
        error.0
    }
}

impl From<String> for ParseError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

/// Makes an enum whose values have names: lists them and shows them, and reads them where it is said what a
/// text is that names none of them.
macro_rules! named {
    (
        $(#[$about:meta])*
        $type:ident $(, else $wanted:literal)? { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }
    ) => {
        $(#[$about])*
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// All of them, in the order of their declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        $(impl std::str::FromStr for $type {
            type Err = $crate::wire::named::ParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.into_iter().find(|known| known.name() == text);
                known.ok_or_else(|| $crate::wire::named::ParseError::is_not(text, $wanted))
            }
        })?
    };
}

/// Makes an enum of reasons, each of which has a name, and a place for its counter.
macro_rules! reasons {
    ($(#[$about:meta])* $type:ident { $($reasons:tt)* }) => {
        $crate::wire::named::named! {
            $(#[$about])*
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
            $type { $($reasons)* }
        }

        impl $type {
            /// Its place among all of them.
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use {named, reasons};
