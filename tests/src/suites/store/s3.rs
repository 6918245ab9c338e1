//! A local S3 server over a temporary folder.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external::{self, ExternalServer};
use crate::harness::process::free_address;

const BUCKET: &str = "documents";
const KEY: &str = "key";
const SECRET: &str = "secret";
const INSTALL: &str = "cargo install s3s-fs --version 0.14.1 --features binary --root target/tools";

/// A running S3 server with an empty bucket. Dropping the value stops the server and deletes its folder.
#[derive(Debug)]
pub struct S3 {
    server: ExternalServer,
    folder: TempDir,
}

impl S3 {
    /// Starts the server. Fails if s3s-fs is not installed.
    pub async fn start() -> Result<Self> {
        let program = external::path_of("s3s-fs", INSTALL)?;
        let folder = TempDir::with_prefix("c3-s3-")?;
        fs::create_dir(folder.path().join(BUCKET))?;
        let address = free_address()?;
        let port = address.rsplit(':').next().context("no port")?;
        let args = ["--host", "127.0.0.1", "--port", port, "--access-key", KEY, "--secret-key", SECRET];
        let args = args.map(Into::into).into_iter().chain([folder.path().as_os_str().to_owned()]);
        let server = ExternalServer::start(&program, args, address.clone()).await?;
        Ok(Self { server, folder })
    }

    /// Returns the folder that contains everything that is in the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Returns the server's address as `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.server.address
    }
}

impl ClusterSpec {
    /// Stores documents in S3, at the server or proxy with this address. Replaces [`ClusterSpec::env`].
    pub fn over_s3(self, address: impl Display) -> Self {
        let variables = [
            ("AWS_ENDPOINT", format!("http://{address}")),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ];
        let env = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { data: Some(format!("s3://{BUCKET}/c3")), env, ..self }
    }
}
