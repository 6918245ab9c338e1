//! TLS handshakes of accepted connections. Their number and duration are bounded.

use std::io;
use std::time::Duration;

use c3_tls::{Credentials, PeerIdentity, explain_to_server};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::meter;
use crate::throttle::Throttle;

/// Maximum time from the acceptance of a connection to the end of its handshake.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum handshakes in progress. Each takes some tens of kilobytes. Further connections wait.
const IN_PROGRESS_MAX: usize = 512;
/// While connections wait, a handshake that takes longer than this is cut off.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time, and maximum bytes, for which a refused connection is read before it is closed. If it were closed with
/// unread bytes, the system would reset it, and the peer might lose the alert that names the reason.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 64 << 10);

/// First byte of a TLS connection: the type of a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// Answer to an HTTP/1 request in plain text.
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 35\r\n\r\nthis port speaks TLS: use https://\n";
/// Answer to an HTTP/2 connection in plain text: empty SETTINGS, then GOAWAY with INADEQUATE_SECURITY and the message.
const HTTP2_ANSWER: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x2a\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0c\
    this port speaks TLS: use https://";

/// Performs the handshakes of a server.
pub(crate) struct Handshakes {
    credentials: Credentials,
    permits: Semaphore,
    /// Sends a message whenever a connection has to wait for a permit.
    crowded: watch::Sender<()>,
    counter: Counter<u64>,
    role: &'static str,
    lines: Throttle<String>,
}

/// Outcome of a handshake that failed.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The peer speaks plain text.
    PlainText,
    /// The handshake took too long, or the connection broke.
    Abandoned,
    /// A side refused the other's certificate or version of TLS.
    Refused,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Self::PlainText => "plain_text",
            Self::Abandoned => "abandoned",
            Self::Refused => "refused",
        }
    }
}

impl Handshakes {
    /// Returns the handshakes of a server, or `None` if the server has no certificate.
    pub(crate) fn new(credentials: Credentials, role: &'static str) -> Option<Self> {
        credentials.has_certificate().then(|| Self {
            credentials,
            permits: Semaphore::new(IN_PROGRESS_MAX),
            crowded: watch::Sender::new(()),
            counter: meter().u64_counter("c3_tls_handshakes").with_description("TLS handshakes, by outcome").build(),
            role,
            lines: Throttle::new(),
        })
    }

    /// Performs the handshake of a connection. Returns the encrypted connection and the identity of the peer, if it
    /// presented a certificate. Returns `None` if the handshake failed, after the peer was told why.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<(TlsStream<TcpStream>, Option<PeerIdentity>)> {
        let peer = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.ip().to_string());
        let outcome = match timeout(TIMEOUT, self.handshake(stream)).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Failure::Abandoned, "the handshake took too long".to_owned())),
        };
        let label = outcome.as_ref().map_or_else(|(failure, _)| failure.as_str(), |_| "ok");
        self.counter.add(1, &[KeyValue::new("role", self.role), KeyValue::new("outcome", label)]);
        match outcome {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let identity = certificates.and_then(<[_]>::first).map(PeerIdentity::of_verified);
                Some((stream, identity))
            }
            Err((Failure::Abandoned, reason)) => {
                tracing::debug!(peer, reason, "TLS handshake failed");
                None
            }
            Err((_, reason)) => {
                // Without the details, which the client may choose, there are few reasons.
                let kind = reason.split(" (").next().unwrap_or_default().to_owned();
                if let Some(suppressed) = self.lines.permit(kind) {
                    tracing::warn!(role = self.role, peer, reason, suppressed, "refused a connection");
                }
                None
            }
        }
    }

    async fn handshake(&self, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, (Failure, String)> {
        let broken = |error: io::Error| (Failure::Abandoned, error.to_string());
        let mut start = [0; 3];
        let bytes = stream.peek(&mut start).await.map_err(broken)?;
        if bytes == 0 {
            return Err((Failure::Abandoned, "the peer sent nothing".to_owned()));
        }
        if start[0] != TLS_HANDSHAKE {
            let is_http2 = start[..bytes] == b"PRI"[..bytes] && bytes > 1;
            let answer = if is_http2 { HTTP2_ANSWER } else { HTTP1_ANSWER };
            // Fails only if the peer is gone.
            let _ = stream.write_all(answer).await;
            linger(stream).await;
            return Err((
                Failure::PlainText,
                "it speaks plain text, but this port speaks TLS: use https://".to_owned(),
            ));
        }
        let (_permit, mut crowded) = (self.permit().await, self.crowded.subscribe());
        let Some(config) = self.credentials.server_config() else {
            return Err((Failure::Refused, "the server has no certificate".to_owned()));
        };
        let accepting = TlsAcceptor::from(config).accept(stream).into_fallible();
        tokio::pin!(accepting);
        let accepted = match timeout(CROWDED_TIMEOUT, &mut accepting).await {
            Ok(accepted) => accepted,
            Err(_) => tokio::select! {
                accepted = &mut accepting => accepted,
                _ = crowded.changed() => {
                    return Err((Failure::Abandoned, "it made way for other handshakes".to_owned()));
                }
            },
        };
        match accepted {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                let Some(reason) = explain_to_server(&error) else { return Err(broken(error)) };
                linger(stream).await;
                Err((Failure::Refused, reason))
            }
        }
    }

    /// Waits for a permit. While none is free, cuts off slow handshakes.
    async fn permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Some(permit);
        }
        loop {
            self.crowded.send_replace(());
            // Fails only if the semaphore were closed, which it never is.
            if let Ok(permit) = timeout(CROWDED_TIMEOUT, self.permits.acquire()).await {
                return permit.ok();
            }
        }
    }
}

/// Reads and discards what the peer has sent, up to [`LINGER`], so that the peer can read the last answer.
async fn linger(mut stream: TcpStream) {
    // Fails only if the peer is gone.
    let _ = stream.shutdown().await;
    let (time, bytes) = LINGER;
    let discard = async {
        let (mut buffer, mut read) = ([0; 4096], 0);
        while let Ok(more @ 1..) = stream.read(&mut buffer).await {
            read += more;
            if read > bytes {
                return;
            }
        }
    };
    let _ = timeout(time, discard).await;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::Path;

    use c3_proto::pb::gateway_client::GatewayClient;
    use c3_proto::pb::{NodesRequest, StatRequest};
    use c3_tls::{ClientAuth, Target, TlsFiles, explain_status};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tempfile::TempDir;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;
    use tonic::service::Routes;
    use tonic::{Code, Status};

    use super::*;
    use crate::connections::Connections;
    use crate::server::ServerArgs;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Makes a CA in the folder, and a certificate for `127.0.0.1` that it signs.
    fn issue(folder: &Path) -> TlsFiles {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        // Distinct names, because a certificate names its CA.
        ca.distinguished_name.push(DnType::CommonName, folder.display().to_string());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let write = |name: &str, pem: String| {
            fs::write(folder.join(name), pem).unwrap();
            Some(folder.join(name))
        };
        TlsFiles {
            cert: write("cert.pem", leaf.pem()),
            key: write("key.pem", key.serialize_pem()),
            ca: write("ca.pem", ca_pem),
            ..TlsFiles::default()
        }
    }

    /// Starts a server without routes that requires client certificates.
    async fn start(files: TlsFiles) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handshakes = Handshakes::new(Credentials::load(files, ClientAuth::Required).unwrap(), "handshake-test");
        assert!(handshakes.is_some());
        let args = ServerArgs::default();
        let connections = Connections::new(Routes::default(), handshakes, &args, CancellationToken::new());
        tokio::spawn(connections.serve(listener, None));
        address
    }

    async fn call(url: &str, files: TlsFiles) -> Status {
        let credentials = Credentials::load(files, ClientAuth::None).unwrap();
        let channel = Target::new(url, &credentials).unwrap().connect_lazy();
        let mut client = GatewayClient::new(channel);
        // A refusal of the client's certificate may reach the client after its first call.
        let first = client.stat(StatRequest::default()).await.unwrap_err();
        if first.code() == Code::Unimplemented { first } else { client.nodes(NodesRequest {}).await.unwrap_err() }
    }

    #[tokio::test]
    async fn both_sides_are_verified() {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (files, foreign) = (issue(folder.path()), issue(other.path()));
        let address = start(files.clone()).await;
        let url = format!("https://{address}");
        assert_eq!(call(&url, files.clone()).await.code(), Code::Unimplemented, "the call reaches the server");
        let cases = [
            (TlsFiles { cert: None, key: None, ..files.clone() }, "requires a certificate"),
            (TlsFiles { ca: files.ca.clone(), ..foreign.clone() }, "not one of its CAs"),
            (TlsFiles { ca: foreign.ca.clone(), ..files.clone() }, "no trusted CA signed"),
        ];
        for (files, reason) in cases {
            let status = call(&url, files).await;
            assert!(explain_status(&status).contains(reason), "{reason}: {status:?}");
        }
        let elsewhere = call(&format!("https://localhost:{}", address.port()), files.clone()).await;
        assert!(explain_status(&elsewhere).contains("for 127.0.0.1, not for `localhost`"), "{elsewhere:?}");
        let plain = call(&format!("http://{address}"), files).await;
        assert!(explain_status(&plain).contains("this port speaks TLS: use https://"), "{plain:?}");
    }

    #[tokio::test]
    async fn a_request_in_plain_text_is_answered() {
        let folder = TempDir::new().unwrap();
        let mut peer = TcpStream::connect(start(issue(folder.path())).await).await.unwrap();
        peer.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, peer.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("content-length: {}", body.len())));
        assert!(body.contains("https://"), "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_handshake_is_cut_off() {
        let folder = TempDir::new().unwrap();
        let mut peer = TcpStream::connect(start(issue(folder.path())).await).await.unwrap();
        peer.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap();
        assert_eq!(timeout(TIMEOUT + LIMIT, peer.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
}
