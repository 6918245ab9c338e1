//! Certificates that `c3 certs` makes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use c3_tls::{ClientAuth, Credentials, TlsFiles};
use tempfile::TempDir;

use crate::harness::process::{Launch, Program};

/// Folder of a CA with certificates for the roles `gateway`, `node` and `client`.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes a CA and the certificates of the roles. All are valid for this machine's loopback addresses.
    pub async fn init() -> Result<Self> {
        let certificates = Self(TempDir::with_prefix("c3-certs-")?);
        run(&["init", &certificates.0.path().display().to_string()]).await?;
        Ok(certificates)
    }

    /// Issues another certificate for `role`, whose files are called `name`.
    pub async fn issue(&self, role: &str, name: &str, valid_for: &str) -> Result<()> {
        let folder = self.0.path().display().to_string();
        run(&["issue", "--dir", &folder, "--role", role, "--name", name, "--valid-for", valid_for]).await
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Returns the path of the CA's certificate.
    pub fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// Returns the files of the certificate called `name`, and the CA.
    pub fn files(&self, name: &str) -> TlsFiles {
        let path = |extension: &str| Some(self.path(&format!("{name}.{extension}")));
        TlsFiles { cert: path("pem"), key: path("key"), ca: Some(self.path("ca.pem")), ..TlsFiles::default() }
    }

    /// Returns the flags that use the certificate called `name`, and the CA.
    pub fn flags(&self, name: &str) -> Vec<String> {
        let mut flags = self.flags_without_ca(name);
        flags.extend(["--tls-ca".to_owned(), self.ca()]);
        flags
    }

    /// Returns the flags that use the certificate called `name`.
    pub fn flags_without_ca(&self, name: &str) -> Vec<String> {
        let path = |extension: &str| self.path(&format!("{name}.{extension}")).display().to_string();
        vec!["--tls-cert".to_owned(), path("pem"), "--tls-key".to_owned(), path("key")]
    }

    /// Returns the credentials of a client with the certificate called `name`.
    pub fn credentials(&self, name: &str) -> Result<Credentials> {
        Ok(Credentials::load(self.files(name), ClientAuth::None)?)
    }

    /// Replaces the file `to` by `content` atomically, as certificate managers do.
    pub fn replace(&self, to: &str, content: &str) -> Result<()> {
        let new = self.path("new");
        fs::write(&new, content)?;
        Ok(fs::rename(new, self.path(to))?)
    }
}

async fn run(args: &[&str]) -> Result<()> {
    let output = Launch::new(Program::C3).arg("certs").args(args.iter().copied()).output().await?;
    ensure!(output.status.success(), "c3 certs failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
