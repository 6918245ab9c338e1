//! Colours. They appear only on terminals, unless `NO_COLOR` is set or `TERM` is `dumb`; `CLICOLOR_FORCE` forces them.

use anstyle::{AnsiColor, Style};

/// Title of a column.
pub(crate) const TITLE: Style = Style::new().bold();
/// Good state.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// State that deserves attention; prefix of a warning.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Bad state; prefix of an error.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Detail of little importance.
pub(crate) const DIM: Style = Style::new().dimmed();
/// No style.
pub(crate) const PLAIN: Style = Style::new();

/// Returns `text` between the escape sequences of `style`. The caller must have escaped control characters.
pub(super) fn paint(style: Style, text: &str) -> String {
    if style == PLAIN { text.to_owned() } else { format!("{style}{text}{style:#}") }
}
