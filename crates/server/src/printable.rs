//! Text that is safe to print.

use std::fmt::{self, Display, Write};

/// Displays a value with its control characters escaped, including line feeds. Control characters in file names or in
/// answers of other programs could otherwise move the cursor, change colours or forge lines. The escapes are those of
/// JSON.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                // Control characters, and the characters that change the direction of text.
                '\0'..' ' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "\\u{:04x}", u32::from(character))?;
                }
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(Printable("é\u{1b}[2J\n\u{9b}1m\u{202e}x").to_string(), r"é\u001b[2J\u000a\u009b1m\u202ex");
    }
}
