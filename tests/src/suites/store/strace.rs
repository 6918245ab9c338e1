//! Attaches strace to a running program.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::harness::external;
use crate::harness::process::Process;
use crate::harness::wait::until;

/// Maximum time until strace has attached.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);

/// A running strace. Dropping the value detaches strace from the program.
#[derive(Debug)]
pub(super) struct Strace(Child);

impl Strace {
    /// Attaches strace, with additional arguments, to all threads of a process. Waits until strace is attached.
    pub(super) async fn attach(process: &Process, args: &[&str]) -> Result<Self> {
        let mut command = Command::new("strace");
        command.arg("-f").args(args).args(["-p", &process.id().to_string()]).stderr(Stdio::null());
        let strace = Self(command.spawn().context("strace is missing: `apt-get install strace`")?);
        let traced = format!("/proc/{}/status", process.id());
        let attached = until("strace to attach", ATTACH_LIMIT, async || {
            let status = fs::read_to_string(&traced).ok()?;
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
            (tracer.trim() != "0").then_some(())
        });
        attached.await?;
        Ok(strace)
    }

    /// Detaches strace and waits until it has ended. Later system calls are not traced.
    pub(super) fn detach(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_none() {
            external::run("kill", &["-INT", &self.0.id().to_string()])?;
            self.0.wait()?;
        }
        Ok(())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // If this fails, strace ends together with the traced process.
        let _ = self.stop();
    }
}
