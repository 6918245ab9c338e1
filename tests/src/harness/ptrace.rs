//! Stops single threads of another process with ptrace, as a device that never answers would.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Stopped threads of a process whose other threads keep running. Dropping this resumes them.
#[derive(Debug)]
pub struct StoppedThreads {
    /// Closed to resume the threads.
    hold: Option<mpsc::SyncSender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl StoppedThreads {
    /// Stops the threads called `name`, `name-0`, `name-1` and so on of process `id`. Fails if there are none, or if
    /// the system forbids tracing a child process.
    pub fn stop(id: u32, name: &str) -> Result<Self> {
        let threads = threads(id, name)?;
        ensure!(!threads.is_empty(), "process {id} has no thread {name}");
        let (hold, released) = mpsc::sync_channel::<()>(0);
        let (tell, held) = mpsc::sync_channel(1);
        // Only the tracing thread may detach from a thread.
        let tracer = thread::spawn(move || {
            let all = threads.iter().try_for_each(|thread| stop(*thread));
            let _ = tell.send(all);
            let _ = released.recv();
            for thread in threads {
                // The thread may have ended.
                let _ = ptrace::detach(thread, None);
            }
        });
        held.recv().map_err(|_| anyhow!("the tracing thread ended"))??;
        Ok(Self { hold: Some(hold), tracer: Some(tracer) })
    }
}

impl Drop for StoppedThreads {
    fn drop(&mut self) {
        drop(self.hold.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

/// Returns the threads of a process that are called `name`, with or without a numeric suffix.
fn threads(id: u32, name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let thread = thread?;
        let comm = fs::read_to_string(thread.path().join("comm"))?;
        if comm.trim_end().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            let number = thread.file_name().into_string().ok().and_then(|name| name.parse().ok());
            found.push(Pid::from_raw(number.context("a thread without a number")?));
        }
    }
    Ok(found)
}

fn stop(thread: Pid) -> Result<()> {
    let stopped = ptrace::seize(thread, Options::empty()).and_then(|()| ptrace::interrupt(thread));
    stopped.context("the threads of a program cannot be held here (ptrace)")?;
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    Ok(())
}
