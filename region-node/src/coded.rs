//! Enums whose variants have a name in the store and in the API, and perhaps a sentence for a
//! person.

/// Declares an enum with the name of each variant.
macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the store and in the API.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// By its name.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.code() == code)
            }
        }
    };
}

/// The same with a sentence for each, in which something may have to be put in its place.
macro_rules! told {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$of:meta])* $variant:ident = $code:literal, $sentence:literal;)*
    }) => {
        $crate::coded::coded! {
            $(#[$meta])*
            $name { $($(#[$of])* $variant = $code,)* }
        }

        impl $name {
            fn template(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

pub(crate) use {coded, told};
