//! `c3 certs`: makes a CA and certificates for gateways, nodes and clients.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use c3_server::units::TimeSpan;
use clap::{Subcommand, ValueEnum};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::Serialize;
use serde_json::json;

use crate::error::CliError;
use crate::output::Format;

/// Files of the CA in the folder that `c3 certs init` makes.
const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// Permissions of keys: only the owner may read them.
const KEY_MODE: u32 = 0o600;
/// Permissions of certificates, which are public.
const CERT_MODE: u32 = 0o644;
/// Time before the current time at which certificates become valid, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// Validity of the CA.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a CA, and certificates for gateways, nodes and a client
    #[command(after_help = "Example:\n  c3 certs init certs --name gateway.example")]
    Init(InitArgs),
    /// Issue another certificate with the CA of `c3 certs init`
    #[command(after_help = "Example:\n  c3 certs issue --dir certs --role node --name decoder-2 --ip 10.0.0.7")]
    Issue(IssueArgs),
}

/// Arguments of `certs init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder to write; it is created
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Arguments of `certs issue`.
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    /// Folder that `c3 certs init` made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Role of the program that gets the certificate
    #[arg(long)]
    role: Role,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Names and validity of a certificate.
#[derive(Debug, clap::Args)]
struct SubjectArgs {
    /// DNS name under which the program is reached, besides localhost; repeatable. `issue` names the files after the
    /// first
    #[arg(long = "name", value_name = "DNS")]
    names: Vec<String>,
    /// IP address under which the program is reached, besides 127.0.0.1 and ::1; repeatable
    #[arg(long = "ip", value_name = "IP")]
    ips: Vec<IpAddr>,
    /// Validity of the certificates, from now
    #[arg(long, value_name = "DURATION", value_parser = TimeSpan::positive, default_value = "365days")]
    valid_for: TimeSpan,
    #[command(flatten)]
    format: Format,
}

/// Role that a certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Serves clients and calls nodes
    Gateway,
    /// Serves gateways
    Node,
    /// Calls gateways
    Client,
}

impl Role {
    const ALL: [Self; 3] = [Self::Gateway, Self::Node, Self::Client];

    /// Returns the name that every certificate of this role has. Nodes accept calls from holders of `c3-gateway`.
    fn identity(self) -> &'static str {
        match self {
            Self::Gateway => "c3-gateway",
            Self::Node => "c3-node",
            Self::Client => "c3-client",
        }
    }

    /// Returns the name of the certificate's files, without extension.
    fn file(self) -> &'static str {
        self.identity().trim_start_matches("c3-")
    }

    /// Returns the programs that use a certificate of this role.
    fn program(self) -> &'static str {
        match self {
            Self::Gateway => "gateway, c3 serve",
            Self::Node => "compressor-node, decoder-node",
            Self::Client => "c3",
        }
    }

    /// Returns the settings of a certificate of this role.
    fn params(self, subject: &SubjectArgs) -> Result<CertificateParams, CliError> {
        let mut names = vec![self.identity().to_owned()];
        names.extend(subject.names.iter().cloned());
        let mut ips = subject.ips.clone();
        if self != Self::Client {
            names.push("localhost".to_owned());
            ips.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        names.extend(ips.iter().map(IpAddr::to_string));
        names.dedup();
        let mut params = CertificateParams::new(names).map_err(|error| CliError::Usage(format!("--name: {error}")))?;
        params.distinguished_name.push(DnType::CommonName, self.identity());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if self != Self::Client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + subject.valid_for.0).into());
        Ok(params)
    }
}

/// Files of a certificate. The JSON fields have the names of the flags that take them.
#[derive(Serialize)]
struct Issued {
    role: &'static str,
    tls_cert: PathBuf,
    tls_key: PathBuf,
    tls_ca: PathBuf,
    #[serde(skip)]
    program: &'static str,
}

impl Issued {
    /// Returns the line that says which flags use the certificate.
    fn flags(&self) -> String {
        let [cert, key, ca] = [&self.tls_cert, &self.tls_key, &self.tls_ca].map(|path| path.display());
        format!("{}:\n  --tls-cert {cert} --tls-key {key} --tls-ca {ca}", self.program)
    }
}

/// Makes the CA or a certificate, and prints the flags that use it.
pub(crate) fn run(command: CertsCommand) -> Result<(), CliError> {
    match command {
        CertsCommand::Init(args) => init(&args),
        CertsCommand::Issue(args) => {
            let ca = read_ca(&args.dir)?;
            let file = args.subject.names.first().map_or(args.role.file(), String::as_str);
            let issued = issue(&args.dir, file, args.role, &args.subject, &ca)?;
            args.subject.format.print(issued.flags(), &issued)
        }
    }
}

fn init(args: &InitArgs) -> Result<(), CliError> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    // CAs need distinct names: a certificate names its CA, and other CAs are not tried.
    let number = blake3::hash(key.public_key_raw()).to_hex();
    params.distinguished_name.push(DnType::CommonName, format!("C3 Serve development CA {}", &number[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + CA_VALIDITY).into());
    let certificate = params.self_signed(&key).map_err(failed)?;
    fs::create_dir_all(&args.dir).map_err(|error| CliError::at(&args.dir, &error))?;
    // The key comes first: if the folder has a CA already, nothing is written.
    write_new(&args.dir.join(CA_KEY), &key.serialize_pem(), KEY_MODE)?;
    write_new(&args.dir.join(CA_CERT), &certificate.pem(), CERT_MODE)?;
    let ca = Issuer::new(params, key);
    let mut issued = Vec::new();
    for role in Role::ALL {
        issued.push(issue(&args.dir, role.file(), role, &args.subject, &ca)?);
    }
    let mut lines = Vec::from_iter(issued.iter().map(Issued::flags));
    let key = args.dir.join(CA_KEY);
    lines.push(format!("Keep {} secret: whoever has it can pose as any program.", key.display()));
    args.subject.format.print(lines.join("\n"), &json!({ "ca_key": key, "certificates": issued }))
}

fn read_ca(dir: &Path) -> Result<Issuer<'static, KeyPair>, CliError> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| CliError::at(&path, &error))
    };
    let (certificate, key) = (read(CA_CERT)?, read(CA_KEY)?);
    let invalid = |_| CliError::Failed(format!("{} does not contain the CA of `c3 certs init`", dir.display()));
    Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).map_err(invalid)?).map_err(invalid)
}

/// Issues a certificate and writes it and its key.
fn issue(
    dir: &Path,
    file: &str,
    role: Role,
    subject: &SubjectArgs,
    ca: &Issuer<'_, KeyPair>,
) -> Result<Issued, CliError> {
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = role.params(subject)?.signed_by(&key, ca).map_err(failed)?;
    let path = |name: String| dir.join(name);
    let issued = Issued {
        role: role.identity().trim_start_matches("c3-"),
        tls_cert: path(format!("{file}.pem")),
        tls_key: path(format!("{file}.key")),
        tls_ca: path(CA_CERT.to_owned()),
        program: role.program(),
    };
    write_new(&issued.tls_key, &key.serialize_pem(), KEY_MODE)?;
    write_new(&issued.tls_cert, &certificate.pem(), CERT_MODE)?;
    Ok(issued)
}

/// Writes a file with these permissions. Fails if the file exists.
#[cfg_attr(not(unix), expect(unused_variables, reason = "other systems have no modes"))]
fn write_new(path: &Path, pem: &str, mode: u32) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = options.open(path).and_then(|mut file| file.write_all(pem.as_bytes()));
    written.map_err(|error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Failed(format!(
            "{} exists and is not overwritten: choose another folder or --name, or remove the file",
            path.display()
        )),
        _ => CliError::at(path, &error),
    })
}

fn failed(error: rcgen::Error) -> CliError {
    CliError::Failed(format!("the certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use c3_server::tls::TlsArgs;
    use tempfile::TempDir;

    use super::*;

    fn subject(names: &[&str]) -> SubjectArgs {
        let names = names.iter().map(ToString::to_string).collect();
        SubjectArgs {
            names,
            ips: vec![Ipv4Addr::new(10, 0, 0, 7).into()],
            valid_for: TimeSpan::from_secs(3600),
            format: Format { json: false },
        }
    }

    #[test]
    fn files_are_secret_fit_together_and_are_not_overwritten() {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("certs");
        let init = || run(CertsCommand::Init(InitArgs { dir: dir.clone(), subject: subject(&[]) }));
        init().unwrap();
        let names = subject(&["decoder-1", "decoder.example"]);
        let issue = IssueArgs { dir: dir.clone(), role: Role::Node, subject: names };
        run(CertsCommand::Issue(issue)).unwrap();
        for file in ["gateway", "node", "client", "decoder-1"] {
            let path = |extension: &str| Some(dir.join(format!("{file}.{extension}")));
            let args = TlsArgs {
                tls_cert: path("pem"),
                tls_key: path("key"),
                tls_ca: Some(dir.join(CA_CERT)),
                ..TlsArgs::default()
            };
            args.load().unwrap();
            #[cfg(unix)]
            {
                let mode = fs::metadata(path("key").unwrap()).unwrap();
                assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
            }
        }
        let before = fs::read(dir.join(CA_KEY)).unwrap();
        assert!(init().unwrap_err().to_string().contains("not overwritten"));
        assert_eq!(fs::read(dir.join(CA_KEY)).unwrap(), before);
    }
}
