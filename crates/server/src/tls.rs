//! TLS of a server: settings, metrics, and logs about the certificate's end.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use c3_tls::{ClientAuth, Credentials, Error, TlsFiles, TlsVersion};
use opentelemetry::KeyValue;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::meter;

/// Interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Remaining validity below which the end of the certificate is logged once a day.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// Certificate, key and CAs of a program.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// Certificate chain of this program, in PEM. Peers see it when they connect and when this program connects to them
    #[arg(long, env = "C3_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, env = "C3_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// CAs, in PEM, that sign the certificates of peers [default: the system's CAs for servers, none for clients]
    #[arg(long, env = "C3_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Lowest accepted version of TLS, 1.2 or 1.3
    #[arg(long, env = "C3_TLS_MIN", value_name = "VERSION", default_value_t = TlsVersion::Tls13)]
    pub tls_min: TlsVersion,
}

impl TlsArgs {
    /// Reads the files, for a program that only connects to servers.
    pub fn load(&self) -> Result<Credentials, Error> {
        Credentials::load(self.files(), ClientAuth::None)
    }

    fn files(&self) -> TlsFiles {
        let Self { tls_cert, tls_key, tls_ca, tls_min } = self.clone();
        TlsFiles { cert: tls_cert, key: tls_key, ca: tls_ca, min: tls_min }
    }
}

/// TLS settings of a server.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServerTlsArgs {
    /// Certificate, key and CAs.
    #[command(flatten)]
    pub files: TlsArgs,
    /// Demand for client certificates: none, optional or required [default with --tls-ca: required on nodes, optional
    /// on gateways; none without]
    #[arg(long, env = "C3_TLS_CLIENT", value_name = "DEMAND")]
    pub tls_client: Option<ClientAuth>,
}

impl ServerTlsArgs {
    /// Reads the files. If CAs are given without `--tls-client`, the demand for client certificates is `default`.
    pub fn load(&self, default: ClientAuth) -> Result<Credentials, Error> {
        let default = if self.files.tls_ca.is_some() { default } else { ClientAuth::None };
        Credentials::load(self.files.files(), self.tls_client.unwrap_or(default))
    }
}

/// Checks the files for changes and logs the approaching end of the certificate, until the future is dropped. Returns
/// immediately if there are no files.
pub(crate) async fn follow(credentials: Credentials, role: &'static str) {
    if *credentials.files() == TlsFiles::default() {
        return;
    }
    let label = [KeyValue::new("role", role)];
    let help = "Time until the end of the server's certificate; negative after it";
    let gauge = meter().f64_gauge("c3_tls_certificate_remaining_seconds").with_description(help).build();
    let (mut ticks, mut warned) = (interval(CHECK_INTERVAL), None::<(SystemTime, bool)>);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        credentials.refresh();
        let (Some(end), now) = (credentials.not_after(), SystemTime::now()) else { continue };
        let remaining = seconds_until(end, now);
        gauge.record(remaining, &label);
        let has_expired = remaining <= 0.0;
        let is_due = warned.is_none_or(|(at, had_expired)| {
            has_expired != had_expired || now.duration_since(at).is_ok_and(|since| since >= DAY)
        });
        if remaining < EXPIRY_WARNING.as_secs_f64() && is_due {
            warned = Some((now, has_expired));
            let days = (remaining / DAY.as_secs_f64()).floor();
            if has_expired {
                tracing::error!(role, "the certificate has expired: peers refuse it; issue a new one");
            } else {
                tracing::warn!(role, days, "the certificate expires soon: issue a new one");
            }
        }
    }
}

/// Returns the seconds from `now` to `end`; negative if `end` has passed.
fn seconds_until(end: SystemTime, now: SystemTime) -> f64 {
    match end.duration_since(now) {
        Ok(remaining) => remaining.as_secs_f64(),
        Err(passed) => -passed.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_negative_after_the_end() {
        let now = SystemTime::now();
        assert_eq!(seconds_until(now + DAY, now), 86_400.0);
        assert_eq!(seconds_until(now - DAY, now), -86_400.0);
    }
}
