//! Registry of temporary files and directories. Their owners remove them when dropped. If the program has to exit while
//! an owner's thread is blocked, for example in a write to a full pipe, [`remove_all`] removes them instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Keeps a path registered until it is dropped.
pub(crate) struct Registration(PathBuf);

impl Registration {
    pub(crate) fn of(path: &Path) -> Self {
        paths().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        paths().retain(|path| *path != self.0);
    }
}

/// Removes all registered files and directories. Errors are ignored, since the program is about to exit.
pub(crate) fn remove_all() {
    for path in paths().drain(..) {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
}

fn paths() -> MutexGuard<'static, Vec<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}
