//! Runs the compose file without a container engine: starts its commands as local processes with their environment.
//!
//! Replaces service addresses by loopback addresses, and volumes by folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::harness::fixtures;
use crate::harness::process::{Launch, Process, Program, free_address};

/// Variable that sets a program's listen address.
const LISTEN: &str = "C3_LISTEN";

/// The parts of a compose file that the tests use.
#[derive(Debug, Deserialize)]
pub struct Compose {
    /// Services by name.
    pub services: BTreeMap<String, Service>,
}

/// A service of a compose file.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Name of the program, then its arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Volumes, as `NAME:FOLDER`.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Published ports, with host address and host port.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Names of the services that must start before this one.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Health check, if there is one.
    pub healthcheck: Option<Healthcheck>,
    /// Reserved hardware, as the file has it.
    #[serde(default)]
    pub deploy: serde_yaml_ng::Value,
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
    /// Reads a file in `deploy`.
    pub fn read(file: &str) -> Result<Self> {
        let path = fixtures::root().join("deploy").join(file);
        let mut page: serde_yaml_ng::Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
        page.apply_merge()?;
        Ok(serde_yaml_ng::from_value(page)?)
    }

    /// Starts all services one after another, those with fewer dependencies first. Logs and volumes go to `folder`.
    pub async fn start(&self, folder: &Path) -> Result<BTreeMap<String, Process>> {
        let mut addresses = Vec::new();
        for (name, service) in &self.services {
            let listen = service.environment.get(LISTEN).with_context(|| format!("{name} has no {LISTEN}"))?;
            let port = listen.rsplit(':').next().unwrap_or_default();
            addresses.push((format!("//{name}:{port}"), free_address()?));
        }
        let mut order: Vec<_> = self.services.iter().zip(&addresses).collect();
        order.sort_by_key(|((_, service), _)| service.depends_on.len());
        let mut started = BTreeMap::new();
        for ((name, service), (_, address)) in order {
            let mut process = service.launch(&addresses, address, folder)?.spawn(folder, address.clone()).await?;
            process.ready().await.with_context(|| name.clone())?;
            started.insert(name.clone(), process);
        }
        Ok(started)
    }
}

impl Service {
    fn launch(&self, addresses: &[(String, String)], address: &str, folder: &Path) -> Result<Launch> {
        let (program, args) = self.command.split_first().context("a service without a command")?;
        let program = Program::named(program).with_context(|| format!("no program is called {program}"))?;
        let mut launch = Launch::new(program).args(args);
        for (name, value) in &self.environment {
            let mut value = value.clone();
            if name == LISTEN {
                ensure!(value.starts_with("0.0.0.0:"), "{LISTEN}={value} is not reached from other containers");
                value = address.to_owned();
            }
            for (service, address) in addresses {
                value = value.replace(service, &format!("//{address}"));
            }
            for (volume, mounted) in self.volumes.iter().filter_map(|volume| volume.split_once(':')) {
                if value == mounted {
                    value = folder.join(volume).display().to_string();
                }
            }
            launch = launch.env(name, value);
        }
        Ok(launch)
    }
}
