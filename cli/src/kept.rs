//! Note on what a command has kept so far. If a signal ends the command, its error message contains the note.

use std::sync::{Mutex, MutexGuard, PoisonError};

static NOTE: Mutex<String> = Mutex::new(String::new());

/// Replaces the note.
pub(crate) fn set(note: impl Into<String>) {
    *lock() = note.into();
}

/// Returns the note, or an empty string if the command set none.
pub(crate) fn note() -> String {
    lock().clone()
}

fn lock() -> MutexGuard<'static, String> {
    NOTE.lock().unwrap_or_else(PoisonError::into_inner)
}
