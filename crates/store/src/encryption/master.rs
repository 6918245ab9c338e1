//! Master keys: wrap the keys of the store. A master key is 256 bits from a file or a variable, or is held by a key
//! management service and never leaves it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::encryption::kms::AwsKms;
use crate::encryption::secret::{Secret, fill_random};
use crate::encryption::{KeyError, MasterKey};

const FORMS: &str = "give file:PATH, env:VARIABLE or aws-kms:KEY";
const CONTENT: &str = "it must contain 32 bytes, as 64 hexadecimal digits or in base64";
const WRAP: &str = "c3 store, master key, version 1";
const ID: &str = "c3 store, id of a master key, version 1";
const NONCE_BYTES: usize = 12;

/// Source of a master key.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// A file that contains the key. Only its owner and group may have access to it.
    File(PathBuf),
    /// The key itself.
    Secret(Secret),
    /// Id, ARN or alias of a key in AWS KMS.
    AwsKms(String),
    /// A source that cannot be used, with the reason. The reason does not repeat the source, which may be a secret that
    /// was given by mistake.
    Invalid(String),
}

impl MasterKeySource {
    /// Parses `file:PATH`, `env:VARIABLE` or `aws-kms:KEY`. `variable` returns the value of an environment variable.
    pub fn parse(typed: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        match typed.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Self::File(path.into()),
            Some(("env", name)) if !name.is_empty() => match variable(name).map(Zeroizing::new) {
                None => Self::Invalid(format!("{name} is not set")),
                Some(value) => Secret::parse(value.as_bytes())
                    .map_or_else(|| Self::Invalid(format!("{name}: {CONTENT}")), Self::Secret),
            },
            Some(("aws-kms", key)) if !key.is_empty() => Self::AwsKms(key.to_owned()),
            _ => Self::Invalid(FORMS.to_owned()),
        }
    }
}

/// The given master keys. The first one wraps new keys; each of them unwraps the keys that it has wrapped.
#[derive(Clone, Default)]
pub(crate) struct MasterKeys(Arc<[Box<dyn MasterKey>]>);

impl MasterKeys {
    /// Reads the key files, and prepares the clients of key management services. `variables` configure these clients.
    pub(crate) fn open(
        sources: &[MasterKeySource],
        variables: &[(String, String)],
        timeout: Duration,
    ) -> Result<Self, KeyError> {
        let open = |source: &MasterKeySource| -> Result<Box<dyn MasterKey>, KeyError> {
            Ok(match source {
                MasterKeySource::File(path) => {
                    let secret = read_file(path);
                    let secret = secret.map_err(|problem| format!("{}: {problem}", path.display()));
                    Box::new(LocalKey::new(&secret.map_err(KeyError::MasterKey)?))
                }
                MasterKeySource::Secret(secret) => Box::new(LocalKey::new(secret)),
                MasterKeySource::Invalid(problem) => return Err(KeyError::MasterKey(problem.clone())),
                MasterKeySource::AwsKms(key) => Box::new(AwsKms::new(key, variables, timeout)?),
            })
        };
        Ok(Self(sources.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// Returns whether no key was given, so that the store is not encrypted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn first(&self) -> Option<&dyn MasterKey> {
        self.0.first().map(Box::as_ref)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&dyn MasterKey> {
        self.0.iter().find(|key| key.id() == id).map(Box::as_ref)
    }

    /// Returns the ids of the keys, for messages.
    pub(crate) fn ids(&self) -> String {
        Vec::from_iter(self.0.iter().map(|key| key.id())).join(", ")
    }

    /// Returns keys made of these secrets.
    #[cfg(test)]
    pub(crate) fn of_secrets(secrets: impl Iterator<Item = Secret>) -> Self {
        Self(secrets.map(|secret| Box::new(LocalKey::new(&secret)) as Box<dyn MasterKey>).collect())
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.id())).finish()
    }
}

/// A master key in this process. A wrapped key is a random nonce of 12 bytes, followed by the ciphertext and tag of
/// AES-256-GCM-SIV.
struct LocalKey {
    id: String,
    cipher: Aes256GcmSiv,
}

impl LocalKey {
    fn new(secret: &Secret) -> Self {
        let id = format!("local:{}", hex::encode(&secret.derive(ID).expose()[..8]));
        Self { id, cipher: Aes256GcmSiv::new(secret.derive(WRAP).expose().into()) }
    }
}

#[async_trait]
impl MasterKey for LocalKey {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, context: &str, secret: &Secret) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        let payload = Payload { msg: secret.expose(), aad: context.as_bytes() };
        let text = self.cipher.encrypt(&nonce.into(), payload).expect("a key is shorter than the limit of the cipher");
        Ok([&nonce[..], &text].concat())
    }

    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Secret, KeyError> {
        let open = || {
            let (nonce, text) = wrapped.split_first_chunk::<NONCE_BYTES>()?;
            let payload = Payload { msg: text, aad: context.as_bytes() };
            let plain = Zeroizing::new(self.cipher.decrypt(nonce.into(), payload).ok()?);
            Secret::from_bytes(&plain)
        };
        open().ok_or_else(|| KeyError::Damaged(context.to_owned()))
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    check_mode(path)?;
    let content = Zeroizing::new(fs::read(path).map_err(|error| error.to_string())?);
    Secret::parse(&content).ok_or_else(|| CONTENT.to_owned())
}

/// Fails if others than the owner and the group may read the file, or others than the owner may write it. The group
/// may read it, because Kubernetes mounts secrets so.
#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    match mode & 0o027 {
        0 => Ok(()),
        _ => Err(format!("its mode is {:o}: run `chmod 600` on it", mode & 0o777)),
    }
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &str) -> MasterKeySource {
        MasterKeySource::parse(typed, |name| (name == "KEY").then(|| "07".repeat(32)))
    }

    #[test]
    fn a_source_is_parsed_and_its_secret_not_printed() {
        assert!(matches!(parse("file:/run/key"), MasterKeySource::File(path) if path == Path::new("/run/key")));
        assert!(matches!(parse("aws-kms:alias/c3"), MasterKeySource::AwsKms(key) if key == "alias/c3"));
        let printed = format!("{:?}", parse("env:KEY"));
        assert!(!printed.contains("07"), "{printed}");
        for wrong in ["", "file:", "env:", "env:NO_SUCH", "aws-kms:", "vault:x", &"07".repeat(32)] {
            let MasterKeySource::Invalid(problem) = parse(wrong) else { panic!("{wrong}") };
            assert!(!problem.is_empty() && !problem.contains("0707"), "{problem}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let open = |mode: u32, content: &str| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let opened = MasterKeys::open(&[MasterKeySource::File(path.clone())], &[], Duration::from_secs(1));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            opened.map(|keys| keys.ids()).map_err(|error| error.to_string())
        };
        let key = "07".repeat(32);
        assert!(open(0o600, &key).unwrap().starts_with("local:"));
        assert_eq!(open(0o440, &key), open(0o400, &key));
        for (mode, content, problem) in [(0o644, &*key, "mode is 644"), (0o660, &key, "mode"), (0o600, "x", "32 bytes")]
        {
            let error = open(mode, content).unwrap_err();
            assert!(error.starts_with("--master-key: ") && error.contains(problem), "{error}");
            assert!(!error.contains("0707"), "{error}");
        }
    }
}
