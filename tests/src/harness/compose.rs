//! Runs the compose file without a container engine: starts its commands as local processes with their environment.
//!
//! Replaces service addresses by loopback addresses, and volumes by folders. A service that does not listen runs first,
//! to its end. Leaves out services with images of others, such as the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use c3_tls::{ClientAuth, Credentials, TlsFiles};
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::harness::fixtures;
use crate::harness::process::{Launch, Process, Program, free_address};

/// Variable that sets a program's listen address.
const LISTEN: &str = "C3_LISTEN";
/// Variable that sets the address that serves only metrics.
const METRICS_LISTEN: &str = "C3_METRICS_LISTEN";
/// Beginning of the names of our images.
const OUR_IMAGES: &str = "c3-serve";

/// The parts of a compose file that the tests use.
#[derive(Debug, Deserialize)]
pub struct Compose {
    /// Services by name.
    pub services: BTreeMap<String, Service>,
}

/// A service of a compose file.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Image of the container.
    #[serde(default)]
    pub image: String,
    /// Name of the program, then its arguments. Images of others have a default.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Volumes, as `NAME:FOLDER` or `NAME:FOLDER:ro`.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Published ports, with host address and host port.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Services that must start or end before this one, with the condition.
    #[serde(default)]
    pub depends_on: BTreeMap<String, Value>,
    /// Health check, if there is one.
    pub healthcheck: Option<Healthcheck>,
    /// Reserved hardware, as the file has it.
    #[serde(default)]
    pub deploy: Value,
    /// User and group of the container, as `UID:GID`.
    #[serde(default)]
    pub user: String,
    /// True if the root filesystem is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Capabilities that the container does not get.
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// Security options.
    #[serde(default)]
    pub security_opt: Vec<String>,
}

/// Health check of a service.
#[derive(Clone, Debug, Deserialize)]
pub struct Healthcheck {
    /// `CMD`, then the program and its arguments.
    pub test: Vec<String>,
}

impl Compose {
    /// Reads files in `deploy`. Each file overrides those before it.
    pub fn read(files: &[&str]) -> Result<Self> {
        let mut merged = Value::Null;
        for file in files {
            let path = fixtures::root().join("deploy").join(file);
            let mut page: Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
            // A merged mapping may itself merge another one, and so may that one.
            for _ in 0..3 {
                page.apply_merge()?;
            }
            merge(&mut merged, page);
        }
        Ok(serde_yaml_ng::from_value(merged)?)
    }

    /// Starts all services one after another, those with fewer dependencies first. Logs and volumes go to `folder`.
    pub async fn start(&self, folder: &Path) -> Result<BTreeMap<String, Process>> {
        let mut addresses = Vec::new();
        let (servers, setups): (Vec<_>, Vec<_>) = self
            .services
            .iter()
            .filter(|(_, service)| service.is_ours())
            .partition(|(_, service)| service.environment.contains_key(LISTEN));
        for (name, setup) in setups {
            setup.run(folder).with_context(|| name.clone())?;
        }
        for (name, service) in &servers {
            let port = service.environment[LISTEN].rsplit(':').next().unwrap_or_default();
            addresses.push((format!("//{name}:{port}"), free_address()?));
        }
        let mut order: Vec<_> = servers.into_iter().zip(&addresses).collect();
        order.sort_by_key(|((_, service), _)| service.depends_on.len());
        let mut started = BTreeMap::new();
        for ((name, service), (_, address)) in order {
            let launch = service.launch(&addresses, address, folder)?.over_tls(service.credentials(folder)?);
            let mut process = launch.spawn(folder, address.clone()).await?;
            process.ready().await.with_context(|| name.clone())?;
            started.insert(name.clone(), process);
        }
        Ok(started)
    }
}

/// Merges `over` into `base` as a container engine merges compose files. Lists replace lists, which suffices here.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Mapping(base), Value::Mapping(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (base, over) => *base = over,
    }
}

impl Service {
    /// Returns whether the image is one of ours.
    pub fn is_ours(&self) -> bool {
        self.image.starts_with(OUR_IMAGES)
    }

    /// Returns the environment with the folders of volumes in `folder`. Leaves out values with variables of the
    /// caller's environment, whose default is empty.
    pub fn environment_in(&self, folder: &Path) -> BTreeMap<String, String> {
        let constant = self.environment.iter().filter(|(_, value)| !value.starts_with("${"));
        constant.map(|(name, value)| (name.clone(), self.local(value, folder))).collect()
    }

    /// Replaces the folders at which volumes are mounted by local folders.
    fn local(&self, text: &str, folder: &Path) -> String {
        let mounts = self.volumes.iter().filter_map(|volume| {
            let mut parts = volume.split(':');
            Some((parts.next()?, parts.next()?))
        });
        mounts.fold(text.to_owned(), |text, (volume, mounted)| {
            text.replace(mounted, &folder.join(volume).display().to_string())
        })
    }

    /// Runs the command to its end, with our programs in its path.
    fn run(&self, folder: &Path) -> Result<()> {
        for (volume, _) in self.volumes.iter().filter_map(|volume| volume.split_once(':')) {
            fs::create_dir_all(folder.join(volume))?;
        }
        let programs = Program::C3.path()?.parent().context("a program without a folder")?.display().to_string();
        let args = self.command.iter().map(|arg| self.local(arg, folder)).collect::<Vec<_>>();
        let (program, args) = args.split_first().context("a service without a command")?;
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let ran = Command::new(program).args(args).envs(self.environment_in(folder)).env("PATH", path).output()?;
        ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    }

    /// Returns the credentials of the service, with which the harness connects to it.
    fn credentials(&self, folder: &Path) -> Result<Credentials> {
        let environment = self.environment_in(folder);
        let file = |name: &str| environment.get(name).map(Into::into);
        let (cert, key, ca) = (file("C3_TLS_CERT"), file("C3_TLS_KEY"), file("C3_TLS_CA"));
        ensure!(cert.is_some() && ca.is_some(), "a service without TLS");
        Ok(Credentials::load(TlsFiles { cert, key, ca, ..TlsFiles::default() }, ClientAuth::None)?)
    }

    fn launch(&self, addresses: &[(String, String)], address: &str, folder: &Path) -> Result<Launch> {
        let (program, args) = self.command.split_first().context("a service without a command")?;
        let program = Program::named(program).with_context(|| format!("no program is called {program}"))?;
        let mut launch = Launch::new(program).args(args);
        for (name, mut value) in self.environment_in(folder) {
            if name == LISTEN {
                ensure!(value.starts_with("0.0.0.0:"), "{LISTEN}={value} is not reached from other containers");
                value = address.to_owned();
            }
            if name == METRICS_LISTEN {
                value = free_address()?;
            }
            for (service, address) in addresses {
                value = value.replace(service, &format!("//{address}"));
            }
            launch = launch.env(name, value);
        }
        Ok(launch)
    }
}
