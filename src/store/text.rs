//! Texts for people, in a form that every store can keep.

use std::borrow::Cow;

/// The longest cause that is kept, in bytes: room to quote a key. A longer one is cut, and ends in
/// `…`.
pub const MAX_CAUSE: usize = 2048;

/// The longest name of a holder, in bytes.
pub(super) const MAX_HOLDER: usize = 255;

const ELLIPSIS: &str = "…";

/// The text with `�` for each NUL, which some databases cannot keep, and no longer than `max`
/// bytes.
///
/// Such a text is not refused, as such a key is: a failure has to be counted, whatever is said of
/// it.
pub(super) fn storable(text: &str, max: usize) -> Cow<'_, str> {
    let text = if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    };
    if text.len() <= max {
        return text;
    }
    let mut end = max.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (beginning, _) = text.split_at(end);
    Cow::Owned([beginning, ELLIPSIS].concat())
}
