//! Named reasons: why a link was closed, why a datagram was dropped. Each has a place, for its counter, and a
//! name, for logs and people.

/// Makes an enum of reasons, each with its name, that lists them and shows them.
macro_rules! reasons {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// All of them, in the order of their declaration: what `index` says is a place in it.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in counters, logs and `musterctl status`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its place among all of them.
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use reasons;
