//! Stops individual threads of another process with ptrace, to simulate a device that never answers them.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Stopped threads of a process. Its other threads keep running. Dropping this value resumes the stopped threads.
#[derive(Debug)]
pub struct StoppedThreads {
    /// Dropping this sender resumes the threads.
    hold: Option<mpsc::SyncSender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl StoppedThreads {
    /// Stops all threads of process `id` whose name is `name` or begins with `name-`, and waits until they have
    /// stopped. Fails if there are none, or if the system does not permit ptrace of a child process.
    pub fn stop(id: u32, name: &str) -> Result<Self> {
        let threads = threads(id, name)?;
        ensure!(!threads.is_empty(), "process {id} has no thread {name}");
        let (hold, released) = mpsc::sync_channel::<()>(0);
        let (tell, held) = mpsc::sync_channel(1);
        // One thread does all of this, since with ptrace only the thread that attached may detach.
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

/// Returns the ids of the threads of process `id` whose name is `name` or begins with `name-`.
fn threads(id: u32, name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let thread = thread?;
        let comm = fs::read_to_string(thread.path().join("comm"))?;
        if comm.trim_end().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            let number = thread.file_name().into_string().ok().and_then(|name| name.parse().ok());
            found.push(Pid::from_raw(number.context("/proc lists a thread without a numeric id")?));
        }
    }
    Ok(found)
}

fn stop(thread: Pid) -> Result<()> {
    let stopped = ptrace::seize(thread, Options::empty()).and_then(|()| ptrace::interrupt(thread));
    stopped.context("ptrace cannot stop a thread of a child process: run as root, or permit ptrace")?;
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    Ok(())
}
