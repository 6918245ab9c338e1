//! Master keys in AWS KMS. The key never leaves the service: it encrypts and decrypts the store's keys over HTTPS.
//!
//! The service is called once for each key of a tenant when the tenant is first used, and when a key is created. It is
//! not called for objects.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::encryption::secret::Secret;
use crate::encryption::{KeyError, MasterKey};

/// Variables that name the endpoint, such as that of a VPC; the first one that is set applies.
const ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"];
/// Variables that name the region; the first one that is set applies.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// Name of the entry in the encryption context of a key. It appears in the audit log of the service.
const CONTEXT: &str = "c3-key";
/// Maximum attempts of a request that the service does not answer, or answers with an error of its own.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before the first retry. It doubles with each retry.
const PAUSE: Duration = Duration::from_millis(200);
/// Length of messages of the service that errors contain.
const MESSAGE_CHARS_MAX: usize = 300;

/// A key in AWS KMS.
pub(crate) struct AwsKms {
    id: String,
    key: String,
    region: String,
    endpoint: String,
    credentials: AwsCredentialProvider,
    client: reqwest::Client,
}

impl AwsKms {
    /// Prepares the client of a key, which is given by its id, ARN or alias. `variables` give the region, the endpoint
    /// and the credentials, as for S3. Sends nothing.
    pub(crate) fn new(key: &str, variables: &[(String, String)], timeout: Duration) -> Result<Self, KeyError> {
        let variable = |names: &[&str]| {
            let value = |name: &&str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            names.iter().find_map(value)
        };
        let of_arn = key.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).map(str::to_owned);
        let region = of_arn.or_else(|| variable(&REGION));
        let region =
            region.ok_or_else(|| KeyError::MasterKey("set AWS_REGION, or give the ARN of the key".to_owned()))?;
        let endpoint = variable(&ENDPOINT).unwrap_or_else(|| format!("https://kms.{region}.amazonaws.com"));
        let failed = |error: &dyn fmt::Display| KeyError::MasterKey(format!("AWS KMS: {error}"));
        // Another part of the program may have installed a provider of TLS already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The S3 client finds the credentials. The bucket is never accessed.
        let known = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_lowercase().parse::<AmazonS3ConfigKey>().ok()?, value)));
        let builder = AmazonS3Builder::new().with_bucket_name("none").with_allow_http(true);
        let builder = known.fold(builder, |builder, (name, value)| builder.with_config(name, value));
        let credentials = builder.with_region(&region).build().map_err(|error| failed(&error))?.credentials().clone();
        let client = reqwest::Client::builder().timeout(timeout).build().map_err(|error| failed(&error))?;
        Ok(Self { id: format!("aws-kms:{key}"), key: key.to_owned(), region, endpoint, credentials, client })
    }

    async fn call(&self, action: &str, body: &Value) -> Result<Value, KeyError> {
        let (mut attempt, mut pause) = (1, PAUSE);
        loop {
            match self.attempt(action, body).await {
                Err(Attempt::Transient(_)) if attempt < ATTEMPTS_MAX => tokio::time::sleep(pause).await,
                Err(Attempt::Transient(problem) | Attempt::Refused(problem)) => return Err(KeyError::Kms(problem)),
                Ok(answer) => return Ok(answer),
            }
            (attempt, pause) = (attempt + 1, 2 * pause);
        }
    }

    async fn attempt(&self, action: &str, body: &Value) -> Result<Value, Attempt> {
        let refused = |error: &dyn fmt::Display| Attempt::Refused(error.to_string());
        let request = http::Request::post(&self.endpoint)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{action}"));
        let mut request: HttpRequest = request.body(body.to_string().into()).map_err(|error| refused(&error))?;
        let credential =
            self.credentials.get_credential().await.map_err(|error| Attempt::Transient(error.to_string()))?;
        let signed = AwsAuthorizer::new(&credential, "kms", &self.region).try_authorize(&mut request, None);
        signed.map_err(|error| refused(&error))?;
        let (parts, body) = request.into_parts();
        let body = body.as_bytes().cloned().unwrap_or_default();
        let sent = self.client.post(&self.endpoint).headers(parts.headers).body(body).send().await;
        let answer = sent.map_err(|error| Attempt::Transient(error.without_url().to_string()))?;
        let status = answer.status();
        let answer = answer.bytes().await.map_err(|error| Attempt::Transient(error.without_url().to_string()))?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|_| Attempt::Refused("it sent no JSON".to_owned()));
        }
        let message = serde_json::from_slice::<Value>(&answer).ok();
        let message = message.as_ref().map(|error| {
            let text = |name: &str| error[name].as_str().unwrap_or_default();
            format!("{} {}", text("__type"), [text("message"), text("Message")].concat())
        });
        let message = format!("{status} {}", message.unwrap_or_default());
        let message = message.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect();
        match status.is_server_error() || status.as_u16() == 429 {
            true => Err(Attempt::Transient(message)),
            false => Err(Attempt::Refused(message)),
        }
    }
}

/// Error of one attempt of a request.
enum Attempt {
    /// Another attempt may succeed.
    Transient(String),
    /// The service refuses the request.
    Refused(String),
}

/// Returns a field of an answer that contains bytes.
fn bytes_of(answer: &Value, field: &str) -> Result<Vec<u8>, KeyError> {
    let text = answer[field].as_str();
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    bytes.ok_or_else(|| KeyError::Kms(format!("its answer has no {field}")))
}

#[async_trait]
impl MasterKey for AwsKms {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, context: &str, secret: &Secret) -> Result<Vec<u8>, KeyError> {
        let plain = Zeroizing::new(STANDARD.encode(secret.expose()));
        let body = json!({ "KeyId": self.key, "Plaintext": *plain, "EncryptionContext": { CONTEXT: context } });
        bytes_of(&self.call("Encrypt", &body).await?, "CiphertextBlob")
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Secret, KeyError> {
        let wrapped = STANDARD.encode(wrapped);
        let body = json!({ "KeyId": self.key, "CiphertextBlob": wrapped, "EncryptionContext": { CONTEXT: context } });
        let answer = self.call("Decrypt", &body).await.map_err(|error| match error {
            // The service does not tell a damaged key from one with another context.
            KeyError::Kms(problem) if problem.contains("InvalidCiphertext") => KeyError::Damaged(context.to_owned()),
            error => error,
        })?;
        let plain = Zeroizing::new(bytes_of(&answer, "Plaintext")?);
        Secret::from_bytes(&plain).ok_or_else(|| KeyError::Damaged(context.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(key: &str, variables: &[(&str, &str)]) -> Result<AwsKms, String> {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        AwsKms::new(key, &Vec::from_iter(variables), Duration::from_secs(1)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_region_and_endpoint_come_from_the_arn_and_the_environment() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1234";
        let kms = client(arn, &[("AWS_REGION", "us-east-1")]).unwrap();
        assert_eq!((&*kms.region, &*kms.endpoint), ("eu-west-1", "https://kms.eu-west-1.amazonaws.com"));
        let variables = [("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")];
        let kms = client("alias/c3", &variables).unwrap();
        assert_eq!((&*kms.region, &*kms.endpoint), ("us-east-1", "http://127.0.0.1:9"));
        assert!(client("alias/c3", &[]).err().unwrap().contains("AWS_REGION"));
    }

    #[tokio::test]
    async fn an_unreachable_service_is_an_error_without_secrets() {
        let variables = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ];
        let kms = client("alias/c3", &variables).unwrap();
        let error = kms.wrap("meta/keys/1", &Secret::random()).await.unwrap_err().to_string();
        assert!(error.starts_with("the key management service failed: ") && !error.contains("hidden"), "{error}");
    }
}
