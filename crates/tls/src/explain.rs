//! Messages about failed handshakes: each is one line that names the cause and the remedy.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};
use tonic::Status;

use crate::connector::ConnectError;

/// Beginning of every message about a server that refused this client's certificate.
const REFUSED: &str = "the server refused this client: ";

/// Explains to a client why its connection to the server `name` failed. Returns `None` if TLS is not the reason.
pub(crate) fn explain_to_client(error: &io::Error, name: &str) -> Option<String> {
    Some(match tls_error(error)? {
        TlsError::AlertReceived(alert) => explain_alert(*alert),
        TlsError::InvalidCertificate(problem) => explain_server_certificate(problem, name),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server speaks plain text on this port: use http://, or give the server a certificate with --tls-cert"
                .to_owned()
        }
        TlsError::PeerIncompatible(problem) => {
            format!("the server supports no version of TLS that is allowed here ({problem:?}): see --tls-min")
        }
        error => format!("TLS failed: {error}"),
    })
}

/// Returns the message of a status that a call ended with. If the connection failed, this is the innermost cause.
pub fn explain_status(status: &Status) -> String {
    // Only a status made by the transport has a source.
    let Some(mut cause) = status.source() else { return status.message().to_owned() };
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns the reason of a failed connection if TLS is the reason, for example a certificate that is not valid.
pub fn tls_problem<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    let mut cause = error;
    loop {
        match cause.downcast_ref() {
            Some(ConnectError::Tls(problem)) => return Some(problem),
            _ => cause = cause.source()?,
        }
    }
}

/// Returns whether the message, or the error that contains it, says that a server refused this client's certificate.
/// A repeated call would fail too.
pub fn is_refusal(message: &str) -> bool {
    message.contains(REFUSED)
}

/// Explains to a server why a client's handshake failed. Details that the client may choose are in parentheses. Returns
/// `None` if TLS is not the reason.
pub fn explain_to_server(error: &io::Error) -> Option<String> {
    Some(match tls_error(error)? {
        TlsError::NoCertificatesPresented => "the client has no certificate".to_owned(),
        TlsError::InvalidCertificate(problem) => match problem {
            // The signature is bad if another CA of the same name signed the certificate.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no CA of --tls-ca signed the client's certificate".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the client's certificate has expired".to_owned()
            }
            problem => format!("the client's certificate is invalid ({problem})"),
        },
        TlsError::AlertReceived(alert) => format!("the client refused this server's certificate ({alert:?})"),
        TlsError::PeerIncompatible(problem) => {
            format!("the client supports no version or cipher of TLS that is allowed here ({problem:?})")
        }
        error => format!("the client does not speak TLS correctly ({error})"),
    })
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    let mut error: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // The error in an `io::Error` is not its source, but the error itself.
        error = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => error.source()?,
        };
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    let refusal = match alert {
        AlertDescription::CertificateRequired => "it requires a certificate: give --tls-cert and --tls-key",
        AlertDescription::UnknownCA => "the CA of the certificate in --tls-cert is not one of its CAs",
        AlertDescription::CertificateExpired => "the certificate in --tls-cert has expired: issue a new one",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "it rejects the certificate in --tls-cert",
        AlertDescription::ProtocolVersion => "no version of TLS suits both sides: see --tls-min",
        alert => return format!("the server ended the TLS connection ({alert:?})"),
    };
    format!("{REFUSED}{refusal}")
}

fn explain_server_certificate(problem: &CertificateError, name: &str) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("no trusted CA signed the certificate of `{name}`: give the CA of the server with --tls-ca")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of `{name}` has expired: issue a new one")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of `{name}` is not valid yet: check the clocks")
        }
        CertificateError::NotValidForName => format!("the certificate of the server is not for `{name}`"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = Vec::from_iter(presented.iter().map(|name| undecorated(name)));
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("the certificate of the server is for {presented}, not for `{name}`: use one of its names")
        }
        problem => format!("the certificate of `{name}` is invalid: {problem}"),
    }
}

/// Returns the name in rustls' notation of a certificate's name, such as `DnsName("localhost")`.
fn undecorated(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_end_matches(')').trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_decoration() {
        for (name, plain) in [("DnsName(\"a.b\")", "a.b"), ("IpAddress(::1)", "::1"), ("a.b", "a.b")] {
            assert_eq!(undecorated(name), plain);
        }
    }
}
