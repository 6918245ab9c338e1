//! Programs from outside the workspace, such as Redis or an S3 server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use crate::harness::certificates::Certificates;
use crate::harness::fixtures;
use crate::harness::process::free_address;
use crate::harness::wait::until;

/// Maximum time until a server accepts connections.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running server process. Dropping the value kills the process.
#[derive(Debug)]
pub struct ExternalServer {
    /// Address as `HOST:PORT`.
    pub address: String,
    child: Child,
}

impl ExternalServer {
    /// Starts a program and waits until it accepts connections at `address`. `args` must tell the program to listen at
    /// `address`.
    pub async fn start(
        program: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        address: String,
    ) -> Result<Self> {
        let args = args.into_iter().map(Into::into);
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;
        let tool = Self { address, child };
        let what = format!("{} to listen", program.display());
        let taken = until(&what, START_LIMIT, async || TcpStream::connect(&tool.address).await.ok().map(drop));
        taken.await?;
        Ok(tool)
    }

    /// Starts a Redis server without persistence at `address`, or at a free address. `folder` is its working folder.
    pub async fn redis(folder: &Path, address: Option<&str>) -> Result<Self> {
        let address = address.map_or_else(free_address, |address| Ok(address.to_owned()))?;
        let port = address.rsplit(':').next().context("no port")?.to_owned();
        Self::redis_with(folder, &["--port", &port], address.clone()).await
    }

    /// Starts a Redis server without persistence at a free address that speaks only TLS, with the certificate of nodes.
    pub async fn redis_over_tls(folder: &Path, certificates: &Certificates) -> Result<Self> {
        let address = free_address()?;
        let port = address.rsplit(':').next().context("no port")?.to_owned();
        let [cert, key] = ["node.pem", "node.key"].map(|file| certificates.path(file).display().to_string());
        let args = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &certificates.ca()];
        Self::redis_with(folder, &[&args[..], &files].concat(), address.clone()).await
    }

    async fn redis_with(folder: &Path, args: &[&str], address: String) -> Result<Self> {
        let program = path_of("redis-server", "apt-get install redis-server")?;
        let dir = folder.display().to_string();
        let args = [args, &["--bind", "127.0.0.1", "--save", "", "--dir", &dir]].concat();
        Self::start(&program, args, address).await
    }

    /// Kills the process with SIGKILL and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for ExternalServer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.kill();
    }
}

/// Runs a program and blocks until it ends. Fails unless the exit code is 0.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    let ended = Command::new(program).args(args).output();
    let ended = ended.with_context(|| format!("{program} is missing: install it with apt-get"))?;
    let printed = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "`{program} {}` failed: {}", args.join(" "), printed.trim());
    Ok(())
}

/// Runs a command until it ends, and returns its output.
pub async fn output(mut command: Command) -> Result<Output> {
    Ok(spawn_blocking(move || command.output()).await??)
}

/// Installs the npm packages of a folder on first use.
pub fn install_packages(folder: &Path) -> Result<()> {
    match folder.join("node_modules").is_dir() {
        true => Ok(()),
        false => run("npm", &["--prefix", &folder.display().to_string(), "ci", "--silent", "--no-audit"]),
    }
}

/// Finds a program in `target/tools/bin` or on `PATH`. `install` is the installation command for the error message.
pub fn path_of(name: &str, install: &str) -> Result<PathBuf> {
    let target = std::env::current_exe()?;
    let ours = target.ancestors().map(|folder| folder.join("tools/bin"));
    let ours = ours.chain([fixtures::root().join("target/tools/bin")]);
    let systems = std::env::var_os("PATH").unwrap_or_default();
    let systems = Vec::from_iter(std::env::split_paths(&systems));
    let found = ours.chain(systems).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is missing: {install}"))
}
