//! Audit log: one JSON line for each administrative or destructive call.
//!
//! A line has the time, the tenant, the name of the key, the method, the object that the call is about, and the
//! outcome. It never contains text, keys or tokens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde::Serialize;

use crate::throttle::Throttle;

/// Lines that wait for the disk. If the queue is full, calls wait, since no line may be lost.
const LINES_QUEUED_MAX: usize = 1024;

static FAILED_LINES: Throttle<()> = Throttle::new();

/// A line of the audit log.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    /// Time of the outcome, in RFC 3339.
    pub(crate) time: String,
    pub(crate) tenant: &'a str,
    /// Id of the API key, or subject of the token.
    pub(crate) key: &'a str,
    /// Method, such as `c3.v1.Gateway/Delete` or `DELETE /v1/documents/{ref}`.
    pub(crate) method: &'a str,
    /// The document, name or other object that the call is about, as the caller wrote it.
    pub(crate) subject: Option<&'a str>,
    /// `OK`, or the gRPC or HTTP status code.
    pub(crate) outcome: &'a str,
}

/// Returns the current time in RFC 3339.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// An open audit log. A thread of its own writes the lines. Dropping the log waits for the lines that were recorded.
#[derive(Debug)]
pub struct AuditLog {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens or creates the file. Its owner alone may read it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = LogFile::open(path)?;
        let (lines, queued) = sync_channel(LINES_QUEUED_MAX);
        let write = move || file.write_all(&queued);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(write)?;
        Ok(Self { lines: Some(lines), writer: Some(writer) })
    }

    /// Appends a line. Waits only if the disk is slower than the calls.
    pub(crate) fn record(&self, entry: &Entry<'_>) {
        let mut line = serde_json::to_string(entry).expect("strings are valid JSON");
        line.push('\n');
        if let Some(lines) = &self.lines {
            let _ = lines.send(line);
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self { path: path.to_owned(), file: options.open(path)? })
    }

    fn write_all(&mut self, lines: &Receiver<String>) {
        for line in lines.iter() {
            let written = self.follow().and_then(|()| self.file.write_all(line.as_bytes()));
            if let Err(error) = written
                && let Some(suppressed) = FAILED_LINES.permit(())
            {
                tracing::error!(path = %self.path.display(), %error, suppressed, "cannot write the audit log");
            }
        }
    }

    /// Opens the file again if it was moved or removed, as `logrotate` does.
    #[cfg(unix)]
    fn follow(&mut self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = identity(self.file.metadata()?);
        if std::fs::metadata(&self.path).map(identity).ok() != Some(ours) {
            *self = Self::open(&self.path)?;
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn follow(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_a_file_that_is_moved() {
        let folder = std::env::temp_dir().join(format!("c3-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("audit.log"), folder.join("audit.log.1"));
        let log = AuditLog::open(&path).unwrap();
        let entry = |subject| Entry {
            time: now(),
            tenant: "acme",
            key: "k1",
            method: "c3.v1.Gateway/Delete",
            subject,
            outcome: "OK",
        };
        log.record(&entry(Some("first\n\"")));
        while std::fs::read_to_string(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).unwrap();
        log.record(&entry(None));
        drop(log);
        let line = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text.lines().count(), 1, "{text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        assert_eq!(
            (line(&moved)["subject"].as_str(), line(&moved)["tenant"].as_str()),
            (Some("first\n\""), Some("acme"))
        );
        assert!(line(&path)["subject"].is_null());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
