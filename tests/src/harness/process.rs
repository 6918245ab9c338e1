//! A program of the workspace as a child process, with its output in a log file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use c3_tls::{Credentials, Target};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::limit::{self, Permit};
use crate::harness::wait::until;

/// Maximum time from start to ready. An unoptimised build takes long to load a model on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Maximum time from SIGTERM to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(60);
/// Maximum attempts to start a server on a free port. Another process may bind the chosen port first.
const PORT_TRIES: usize = 5;
/// Number of log lines that an error message quotes.
const LOG_TAIL_LINES: usize = 20;

/// One of the workspace's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Compressor node.
    CompressorNode,
    /// Decoder node.
    DecoderNode,
    /// Gateway.
    Gateway,
    /// Command-line program `c3`.
    C3,
}

impl Program {
    /// Returns the name of the binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::CompressorNode => "compressor-node",
            Self::DecoderNode => "decoder-node",
            Self::Gateway => "gateway",
            Self::C3 => "c3",
        }
    }

    /// Returns the program with this binary name, or `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        [Self::CompressorNode, Self::DecoderNode, Self::Gateway, Self::C3].into_iter().find(|p| p.name() == name)
    }

    /// Returns the path of the binary, in the folder of this executable or, for a test executable, in its parent.
    pub fn path(self) -> Result<PathBuf> {
        let here = std::env::current_exe().context("this executable has no path")?;
        let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join(self.name()));
        let found = beside.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("{} is not built: run `cargo build --workspace --bins` first", self.name()))
    }
}

/// Command line of a program, as a builder.
#[derive(Clone, Debug)]
pub struct Launch {
    program: Program,
    /// Folder of the binary; `None` for that of [`Program::path`].
    binaries: Option<PathBuf>,
    /// Wrapper command, which must exec the program. Empty for none.
    under: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    /// Credentials with which the harness connects to the server; `None` for plain text.
    credentials: Option<Credentials>,
}

impl Launch {
    /// Creates a command line without arguments.
    pub fn new(program: Program) -> Self {
        Self { program, binaries: None, under: Vec::new(), args: Vec::new(), env: Vec::new(), credentials: None }
    }

    /// Sets the folder of the binary, such as that of another version.
    pub fn from_folder(mut self, binaries: Option<&Path>) -> Self {
        self.binaries = binaries.map(Path::to_owned);
        self
    }

    /// Sets a wrapper command, such as `setpriv` or `env`, that must exec the program. An empty one means no wrapper.
    pub fn under(mut self, program: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.under = program.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the credentials with which the harness connects to the server, which must speak TLS.
    pub fn over_tls(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Returns the command, with standard input from `/dev/null`.
    pub fn command(&self) -> Result<Command> {
        let path = match &self.binaries {
            Some(folder) => folder.join(self.program.name()),
            None => self.program.path()?,
        };
        let mut command = match self.under.split_first() {
            None => Command::new(path),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(path);
                command
            }
        };
        command.args(&self.args).envs(self.env.iter().cloned()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs the program until it ends and returns its output.
    pub async fn output(&self) -> Result<Output> {
        let mut command = self.command()?;
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Starts a server on a free loopback port, logging to a file in `folder`. Waits until the server is healthy.
    pub async fn serve(&self, folder: &Path) -> Result<Process> {
        for _ in 0..PORT_TRIES {
            let address = free_address()?;
            let mut process = self.clone().arg("--listen").arg(&address).spawn(folder, address).await?;
            match process.ready().await {
                Ok(()) => return Ok(process),
                Err(_) if process.log().contains("in use") => continue,
                Err(error) => return Err(error),
            }
        }
        bail!("no free port after {PORT_TRIES} tries")
    }

    /// Starts a server that is configured to listen on `address`. Waits for the test's permit, but not until the server
    /// listens.
    pub async fn spawn(&self, folder: &Path, address: String) -> Result<Process> {
        let permit = limit::permit().await?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let log = folder.join(format!("{}-{port}.log", self.program.name()));
        let out = File::create(&log)?;
        let mut command = self.command()?;
        let child = command.stdout(out.try_clone()?).stderr(out).spawn();
        let child = child.with_context(|| format!("{} does not start", self.program.name()))?;
        let credentials = self.credentials.clone();
        Ok(Process { program: self.program, child, address, log, credentials, _permit: permit })
    }
}

/// Sends an HTTP request and returns the response, up to the end of the connection.
async fn answer(connection: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Result<String> {
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Returns a loopback address, as `HOST:PORT`, whose port is free now. Another process may bind the port later.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A running server process. Dropping the value kills the process.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
    address: String,
    log: PathBuf,
    /// Credentials with which the harness connects; `None` for plain text.
    credentials: Option<Credentials>,
    _permit: Permit,
}

impl Process {
    /// Waits until the health service reports `SERVING`. Fails if the process ends, or after [`READY_LIMIT`].
    pub async fn ready(&mut self) -> Result<()> {
        let mut health = HealthClient::new(self.channel()?);
        let name = self.program.name();
        let what = format!("{name} to be ready");
        let ended = until(&what, READY_LIMIT, async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Some(status));
            }
            let answer = health.check(HealthCheckRequest::default()).await.ok()?;
            (answer.get_ref().status() == ServingStatus::Serving).then_some(None)
        });
        match ended.await.with_context(|| self.log_tail())? {
            None => Ok(()),
            Some(status) => bail!("{name} ended with {status}:\n{}", self.log_tail()),
        }
    }

    /// Returns a gRPC channel to the server that connects on first use.
    pub fn channel(&self) -> Result<Channel> {
        self.channel_as(&self.credentials.clone().unwrap_or_default())
    }

    /// Returns a gRPC channel with other credentials, which connects on first use.
    pub fn channel_as(&self, credentials: &Credentials) -> Result<Channel> {
        Ok(Target::new(&self.url(), credentials).map_err(Error::msg)?.connect_lazy())
    }

    /// Returns the server's address as `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the server's `http://` or `https://` URL.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.credentials.is_some() { "https" } else { "http" }, self.address)
    }

    /// Returns the HTTP response of `/metrics`, including its headers. Fails unless the status is 200.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.http_get("/metrics").await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(answer)
    }

    /// Returns the sum of a metric's samples whose label list contains `labels`, such as `method="Decode"`. Returns 0
    /// if there are none.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        Self::sum(&self.metrics().await?, name, labels)
    }

    /// Returns the sum of a metric as [`Process::metric`] does, from a server with access control.
    pub async fn metric_with_key(&self, key: &str, name: &str, labels: &str) -> Result<f64> {
        let answer = self.http_get_with("/metrics", &format!("authorization: Bearer {key}\r\n")).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Self::sum(&answer, name, labels)
    }

    fn sum(page: &str, name: &str, labels: &str) -> Result<f64> {
        let samples = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap_or_default()).try_fold(0.0, |sum, value| {
            let value: f64 = value.parse()?;
            Ok(sum + value)
        })
    }

    /// Returns the whole HTTP response of a path, from its status line on.
    pub async fn http_get(&self, path: &str) -> Result<String> {
        self.http_get_with(path, "").await
    }

    /// Sends header lines, each with its line break, with a GET request. Returns the whole response.
    async fn http_get_with(&self, path: &str, headers: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n", self.address);
        let mut connection = TcpStream::connect(&self.address).await?;
        let Some(credentials) = &self.credentials else { return answer(&mut connection, &request).await };
        let mut config = ClientConfig::clone(&*credentials.client_config()?);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        answer(&mut TlsConnector::from(Arc::new(config)).connect(name, connection).await?, &request).await
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that the process has printed so far, or nothing if the log cannot be read.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills the process with SIGKILL and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal. `name` has no `SIG` prefix: `TERM`, `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status()?;
        ensure!(sent.success(), "SIG{name} was not sent");
        Ok(())
    }

    /// Waits until the process exits and returns its status. Fails after [`EXIT_LIMIT`].
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to exit", self.program.name());
        until(&what, EXIT_LIMIT, async || self.child.try_wait().ok().flatten()).await
    }

    /// Returns whether the process has exited.
    pub fn has_exited(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends SIGTERM and waits until the process exits. Fails unless the exit code is 0, or after [`EXIT_LIMIT`].
    pub async fn terminate(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let (status, name) = (self.exit().await?, self.program.name());
        ensure!(status.success(), "{name} ended with {status}:\n{}", self.log_tail());
        Ok(())
    }

    /// Returns the user and system time of the process so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        /// Clock ticks of `/proc` in a second.
        const TICKS: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let time = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).context("no time");
        Ok((time(11)? + time(12)?) / TICKS)
    }

    /// Returns the current resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Returns the peak resident memory in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib: u64 = line.with_context(|| format!("no {what}"))?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(LOG_TAIL_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.kill();
    }
}
