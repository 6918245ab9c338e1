//! A running gateway for the tests of the command line.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Maximum time until the gateway and its nodes are ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A gateway with both nodes. Dropping it kills it.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) url: String,
    folder: TempDir,
}

impl Gateway {
    /// Starts `c3 serve` with a temporary store, and waits until both stages are ready.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut serve = c3(folder.path());
        serve.args(["serve", "--quiet", "--listen", &address, "--data"]).arg(folder.path().join("data"));
        let child = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let gateway = Self { child, url: format!("http://{address}"), folder };
        let started = Instant::now();
        while !gateway.run(&["nodes", "--check"]).status.success() {
            assert!(started.elapsed() < READY_LIMIT, "the gateway is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        gateway
    }

    /// Returns the folder for the files of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `c3` with this gateway.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        c3(self.folder()).env("C3_GATEWAY", &self.url).args(args).output().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that runs `c3` in `folder`, without the settings of the caller.
pub(crate) fn c3(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_c3"));
    command.current_dir(folder);
    isolate(&mut command, folder);
    command
}

/// Removes the variables of `c3` from a command's environment, and gives it a home folder of its own.
pub(crate) fn isolate(command: &mut Command, folder: &Path) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("C3_") || name.starts_with("XDG_")) {
        command.env_remove(name);
    }
    command.env("HOME", folder).env("NO_COLOR", "1");
}
