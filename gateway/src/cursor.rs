//! Cursors of paged lists.
//!
//! A cursor has the position at which the next page begins, and a hash of the list's filters. It is therefore not
//! accepted by a list with other filters, where it would silently skip entries.

use std::fmt::Debug;

use c3_types::Invalid;

/// Separates the hash of the filters from the position.
const SEPARATOR: char = '.';
/// Hexadecimal digits of the hash.
const HASH_DIGITS: usize = 16;

/// A list with certain filters, which makes and reads cursors.
pub(crate) struct Cursor {
    listing: String,
}

impl Cursor {
    /// Returns the cursors of the list called `name` with these filters.
    pub(crate) fn of_listing(name: &str, filters: &impl Debug) -> Self {
        let hash = blake3::hash(format!("{name} {filters:?}").as_bytes());
        Self { listing: hash.to_hex()[..HASH_DIGITS].to_owned() }
    }

    /// Returns the cursor of a position.
    pub(crate) fn cursor(&self, position: &str) -> String {
        let position: String = position.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{SEPARATOR}{position}", self.listing)
    }

    /// Returns the position of a cursor. Fails if the cursor is malformed or belongs to another list.
    pub(crate) fn position(&self, cursor: &str) -> Result<String, Invalid> {
        let (listing, digits) = cursor.split_once(SEPARATOR).ok_or_else(|| self.malformed())?;
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
            u8::from_str_radix(pair, 16).ok()
        });
        let position = pairs.collect::<Option<Vec<_>>>().and_then(|bytes| String::from_utf8(bytes).ok());
        let position = position.filter(|_| listing.len() == HASH_DIGITS).ok_or_else(|| self.malformed())?;
        match listing == self.listing {
            true => Ok(position),
            false => Err(Invalid::new("cursor", "is of a list with other filters: use the same filters, or omit it")),
        }
    }

    /// Returns the error of a malformed cursor.
    pub(crate) fn malformed(&self) -> Invalid {
        Invalid::new("cursor", "must be the next_cursor of a page")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_accepted_only_by_its_list() {
        let list = Cursor::of_listing("names", &("default", "book"));
        assert_eq!(list.position(&list.cursor("book/書")).as_deref(), Ok("book/書"));
        let other = Cursor::of_listing("names", &("default", "boo")).position(&list.cursor("x"));
        assert!(other.unwrap_err().problem.contains("other filters"));
        for malformed in ["", ".", "abc", "0123456789abcdef.1", "0123456789abcdef.+1", "0123456789abcdef.ff", "a.61"] {
            assert_eq!(list.position(malformed), Err(list.malformed()), "{malformed}");
        }
    }
}
