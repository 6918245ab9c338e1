//! Configuration file of `c3`: named profiles with values for the flags of client commands.
//!
//! The values become the defaults of the flags, so flags and environment variables take precedence over them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command, ValueHint};
use etcetera::base_strategy::choose_base_strategy;
use etcetera::{BaseStrategy, home_dir};
use serde::Deserialize;
use toml::Value;

use crate::args::{KEY_VARIABLE, RemoteArgs};
use crate::error::CliError;

/// Profile that applies if the caller names none. It need not exist.
const DEFAULT: &str = "default";
/// Client flags that a profile cannot set: they choose the profile and the format of one call.
const NOT_KEYS: [&str; 2] = ["profile", "json"];
/// Key that the environment variable with the API key overrides.
const KEY_FILE: &str = "api_key_file";
/// Prefix of the keys for the API key.
const KEY_PREFIX: &str = "api_key";
const GATEWAY: &str = "gateway";

/// Values for flags, by the ids of their arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

/// Content of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    profiles: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Profile {
    /// Loads the profile with this name, or else the profile `default`. Fails if the file is invalid, or if it lacks a
    /// profile that the caller named.
    pub(crate) fn load(name: Option<&str>) -> Result<Self, CliError> {
        let path = path()?;
        let profiles = read(&path)?.profiles;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::find(profiles, name, folder).map_err(|problem| CliError::Usage(format!("{}: {problem}", path.display())))
    }

    fn find(
        mut profiles: BTreeMap<String, BTreeMap<String, Value>>,
        name: Option<&str>,
        folder: &Path,
    ) -> Result<Self, String> {
        let keys = keys();
        for (profile, values) in &profiles {
            if let Some(key) = values.keys().find(|key| !keys.iter().any(|arg| arg.get_id() == key.as_str())) {
                let known = Vec::from_iter(keys.iter().map(|arg| arg.get_id().as_str()));
                return Err(format!("unknown key `{key}` in profile {profile}: use one of {}", known.join(", ")));
            }
        }
        let values = match (profiles.remove(name.unwrap_or(DEFAULT)), name) {
            (Some(values), _) => values,
            (None, None | Some(DEFAULT)) => return Ok(Self::default()),
            (None, Some(name)) => {
                let known = Vec::from_iter(profiles.into_keys()).join(", ");
                let known = if known.is_empty() { "has no profiles".to_owned() } else { format!("has {known}") };
                return Err(format!("there is no profile {name}; the file {known}: add [profiles.{name}]"));
            }
        };
        let name = name.unwrap_or(DEFAULT).to_owned();
        let typed = values.into_iter().map(|(key, value)| {
            let is_path = keys.iter().any(|arg| arg.get_id() == key.as_str() && is_path(arg));
            let value =
                typed(value).ok_or_else(|| format!("{key} in profile {name}: give a string or true or false"))?;
            Ok((key, if is_path { absolute(&value, folder) } else { value }))
        });
        let values = typed.collect::<Result<_, String>>()?;
        Ok(Self { name, values })
    }

    /// Drops the API key if the flag or the variable names another gateway than the profile does: the key is a secret
    /// between the user and that gateway.
    pub(crate) fn for_gateway(mut self, given: Option<&str>) -> Self {
        let own = self.values.get(GATEWAY).map(String::as_str);
        if given.is_some() && own.is_some() && given != own {
            self.values.retain(|key, _| !key.starts_with(KEY_PREFIX));
        }
        self
    }

    /// Returns the command with the values as defaults of the global flags. The environment variable with the API key
    /// takes precedence over a file with one.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let has_key = std::env::var_os(KEY_VARIABLE).is_some_and(|key| !key.is_empty());
        let values = self.values.iter().filter(|(key, _)| !(has_key && key.as_str() == KEY_FILE));
        values.fold(command, |command, (key, value)| command.mut_arg(key, |arg| arg.default_value(value.clone())))
    }

    /// Returns true if the profile sets nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds the name of the profile to an error that one of its values caused.
    pub(crate) fn blame(&self, message: &str) -> CliError {
        CliError::Usage(format!("{message}; see profile {} in the configuration file", self.name))
    }
}

/// Returns the names of all profiles. Fails as [`Profile::load`] does.
pub(crate) fn names() -> Result<Vec<String>, CliError> {
    Ok(read(&path()?)?.profiles.into_keys().collect())
}

/// Returns the path of the configuration file, which need not exist: `c3/config.toml` in the user's configuration
/// folder, as XDG defines it.
pub(crate) fn path() -> Result<PathBuf, CliError> {
    let strategy = choose_base_strategy().map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(strategy.config_dir().join("c3").join("config.toml"))
}

fn read(path: &Path) -> Result<File, CliError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(CliError::at(path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text[..offset].lines().count().max(1);
        let message = error.message().replace('\n', " ");
        CliError::Usage(format!("{} line {line}: {message}; the file has tables [profiles.NAME]", path.display()))
    })
}

/// Returns the client flags that a profile can set.
fn keys() -> Vec<Arg> {
    let flags = RemoteArgs::augment_args(Command::new("client"));
    flags.get_arguments().filter(|arg| !NOT_KEYS.contains(&arg.get_id().as_str())).cloned().collect()
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_hint() == ValueHint::AnyPath
}

/// Returns a value as it would be typed on the command line.
fn typed(value: Value) -> Option<String> {
    match value {
        Value::String(string) => Some(string),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Resolves `~/` to the user's home folder, and a relative path from the folder of the configuration file.
fn absolute(path: &str, folder: &Path) -> String {
    let path = match (path.strip_prefix("~/"), home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => folder.join(path),
    };
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, name: Option<&str>) -> Result<BTreeMap<String, String>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Profile::find(file.profiles, name, Path::new("/etc/c3")).map(|profile| profile.values)
    }

    #[test]
    fn values_belong_to_their_profile() {
        let text = "[profiles.default]\ngateway = 'http://a:1'\n[profiles.prod]\ntls_min = 1.2\ntls_ca = 'ca.pem'\n\
                    api_key_file = '/run/key'\napi_key_over_http = true";
        assert_eq!(find(text, None).unwrap()["gateway"], "http://a:1");
        let prod = find(text, Some("prod")).unwrap();
        let expected = [
            ("api_key_file", "/run/key"),
            ("api_key_over_http", "true"),
            ("tls_ca", "/etc/c3/ca.pem"),
            ("tls_min", "1.2"),
        ];
        assert_eq!(prod, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(find("", None), Ok(BTreeMap::new()));
    }

    #[test]
    fn an_api_key_goes_only_to_the_gateway_of_its_profile() {
        let keys = |given| {
            let values = [("gateway", "https://a"), ("api_key_file", "/key"), ("tls_ca", "/ca")];
            let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let profile = Profile { name: "a".to_owned(), values }.for_gateway(given);
            Vec::from_iter(profile.values.into_keys()).join(" ")
        };
        assert_eq!(keys(None), "api_key_file gateway tls_ca");
        assert_eq!(keys(Some("https://a")), "api_key_file gateway tls_ca");
        assert_eq!(keys(Some("https://b")), "gateway tls_ca");
    }

    #[test]
    fn errors_name_the_key_or_the_profiles() {
        let unknown = find("[profiles.a]\ngatway = 'x'", None).unwrap_err();
        assert!(unknown.contains("`gatway` in profile a") && unknown.contains("gateway, api_key_file"), "{unknown}");
        assert!(find("[profiles.a]\njson = true", None).is_err());
        assert!(find("[profile.a]", None).unwrap_err().contains("profile"));
        assert!(find("[profiles.a]\ngateway = ['x']", Some("a")).unwrap_err().contains("give a string"));
        assert!(find("[profiles.a]\n[profiles.b]", Some("c")).unwrap_err().contains("has a, b"));
    }
}
