//! A program in the foreground of a user's session: its output is a terminal or a file, and it receives signals.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};

use crate::harness::process::Launch;
use crate::harness::wait::until;

/// Maximum time until the program reaches an awaited state.
const STATE_LIMIT: Duration = Duration::from_secs(60);
/// Size of the terminal, wide enough for every line.
const WINDOW: Winsize = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };

/// A running program. Dropping the value kills it.
#[derive(Debug)]
pub struct Foreground {
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Foreground {
    /// Starts the program with standard output on `stdout`. Discards standard error.
    pub fn start(launch: &Launch, stdout: impl Into<Stdio>) -> Result<Self> {
        let mut command = launch.command()?;
        let child = command.stdout(stdout).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, screen: Arc::default() })
    }

    /// Starts the program with standard input, output and error on a new terminal.
    pub fn start_on_terminal(launch: &Launch) -> Result<Self> {
        let terminal = openpty(&WINDOW, None)?;
        let end = || terminal.slave.try_clone();
        let mut command: Command = launch.command()?;
        let child = command.env("TERM", "xterm").stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut master, shown) = (File::from(terminal.master), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once the program has ended.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..count]);
            }
        });
        Ok(Self { child, screen })
    }

    /// Returns everything that the program has written to the terminal so far, including control sequences.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until the terminal has received `text`.
    pub async fn shows(&self, text: &str) -> Result<()> {
        let shows = until(text, STATE_LIMIT, async || self.screen().contains(text).then_some(()));
        shows.await.with_context(|| format!("the terminal shows {:?}", self.screen()))
    }

    /// Waits until a thread of the program is blocked in a system call whose first argument has these low 32 bits.
    pub async fn blocks_in_call_of(&self, argument: u32) -> Result<()> {
        let what = format!("a system call with the argument {argument:#x}");
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut polls = 0;
        until(&what, STATE_LIMIT, async || {
            let mut calls = fs::read_dir(&tasks).ok()?.filter_map(|task| first_argument(&task.ok()?.path()));
            // A call that two consecutive polls see is blocked, not merely in progress.
            polls = if calls.any(|first| first as u32 == argument) { polls + 1 } else { 0 };
            (polls >= 2).then_some(())
        })
        .await
    }

    /// Sends a signal. `name` has no `SIG` prefix.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent =
            Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "SIG{name} was not sent");
        Ok(())
    }

    /// Waits until the program ends. Fails after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        until("the program to end", limit, async || self.child.try_wait().ok().flatten()).await
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the first argument of the system call in which a thread waits, or `None` if it runs.
fn first_argument(task: &Path) -> Option<u64> {
    let call = fs::read_to_string(task.join("syscall")).ok()?;
    u64::from_str_radix(call.split(' ').nth(1)?.strip_prefix("0x")?, 16).ok()
}

/// Returns an output whose buffer is full, so that a write blocks, and the reader of the output. Keep the reader
/// without reading: writes fail once it is dropped.
pub fn full_output() -> Result<(OwnedFd, UnixStream)> {
    let (mut writer, reader) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    while !matches!(writer.write(&[0; 4096]), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {}
    writer.set_nonblocking(false)?;
    Ok((writer.into(), reader))
}
