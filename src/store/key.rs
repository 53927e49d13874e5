//! Which texts are keys.

use std::fmt;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// The longest namespace, in bytes.
pub const MAX_NAMESPACE: usize = 255;

/// Why a text is not a key, or not the name of a namespace. No tracker takes it, whatever its store:
/// what one of them can keep, another cannot.
///
/// Everything else is a key: quotes, newlines, any script, the empty string.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It holds the character NUL, which some databases cannot keep.
    Nul {
        /// At which byte.
        at: usize,
    },
    /// It is too long to be indexed everywhere.
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
}

impl InvalidKey {
    /// Checks that a text is a key.
    ///
    /// # Errors
    ///
    /// A NUL, or more than [`MAX_KEY`] bytes.
    pub fn check(key: &str) -> Result<(), InvalidKey> {
        within(key, MAX_KEY)
    }

    /// Checks that a text can name a namespace.
    ///
    /// # Errors
    ///
    /// A NUL, or more than [`MAX_NAMESPACE`] bytes.
    pub fn check_namespace(namespace: &str) -> Result<(), InvalidKey> {
        within(namespace, MAX_NAMESPACE)
    }
}

fn within(key: &str, max: usize) -> Result<(), InvalidKey> {
    let length = key.len();
    if length > max {
        return Err(InvalidKey::TooLong { length, max });
    }
    key.find('\0')
        .map_or(Ok(()), |at| Err(InvalidKey::Nul { at }))
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidKey::Nul { at } => write!(
                f,
                "key: NUL at byte {at} cannot be stored everywhere; escape or leave it out"
            ),
            InvalidKey::TooLong { length, max } => write!(
                f,
                "key: {length} bytes are more than the {max} that can be indexed; use a digest of it"
            ),
        }
    }
}

impl std::error::Error for InvalidKey {}
