//! The browser of this machine.

use std::path::PathBuf;

/// Names of the browser's program.
const BROWSERS: [&str; 3] = ["chromium", "google-chrome", "chromium-browser"];

/// Returns the path of an installed browser; `None` if there is none.
pub fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = Vec::from_iter(std::env::split_paths(&path));
    BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}
