//! Configuration of the gateway.

use std::ffi::OsString;

use c3_routing::RoutingConfig;
use c3_server::units::{Size, TimeSpan};
use c3_server::{Credentials, ServerArgs};
use c3_store::cache::Redis;
use c3_store::{BackendSettings, CloudSettings, MasterKeySource, OpenError};
use c3_types::LatentCodec;
use clap::builder::BoolishValueParser;
use etcetera::app_strategy::choose_native_strategy;
use etcetera::{AppStrategy, AppStrategyArgs};

use crate::access::AccessArgs;
use crate::error::StartError;

const DEFAULT_COMPRESSOR: &str = "http://127.0.0.1:7301";
const DEFAULT_DECODER: &str = "http://127.0.0.1:7302";

/// Prefixes of the environment variables that configure object stores.
const CLOUD_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Configuration of the gateway.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address of a compressor node, http:// or https://, or dns://HOST:PORT (dnss:// with TLS) for a node at each IP
    /// address of HOST; repeatable [default: http://127.0.0.1:7301; none with --accept-nodes]
    #[arg(long = "compressor", env = "C3_COMPRESSORS", value_name = "URL", value_delimiter = ',')]
    pub compressors: Vec<String>,
    /// Address of a decoder node, http:// or https://, or dns://HOST:PORT (dnss:// with TLS) for a node at each IP
    /// address of HOST; repeatable [default: http://127.0.0.1:7302; none with --accept-nodes]
    #[arg(long = "decoder", env = "C3_DECODERS", value_name = "URL", value_delimiter = ',')]
    pub decoders: Vec<String>,
    /// Accept nodes that announce themselves. With --tls-ca, a node needs a certificate for the address that it
    /// announces. Without, anyone who can reach this gateway can add a node and receive texts
    #[arg(long, env = "C3_ACCEPT_NODES", value_parser = BoolishValueParser::new())]
    pub accept_nodes: bool,
    /// Folder of the document store, or URL of an object store: s3://, gs:// or az://
    #[arg(long, env = "C3_DATA", value_name = "FOLDER", default_value_t = Self::default().data)]
    pub data: String,
    /// Timeout of one request to an object store
    #[arg(long, env = "C3_STORE_TIMEOUT", value_name = "DURATION", default_value_t = Self::default().store_timeout)]
    pub store_timeout: TimeSpan,
    /// Maximum time for which a failing request to an object store is retried
    #[arg(long, env = "C3_STORE_RETRY_TIMEOUT", value_name = "DURATION",
        default_value_t = Self::default().store_retry_timeout)]
    pub store_retry_timeout: TimeSpan,
    /// Maximum concurrent requests to an object store
    #[arg(long, env = "C3_STORE_REQUESTS_MAX", value_name = "REQUESTS",
        default_value_t = Self::default().store_requests_max)]
    pub store_requests_max: usize,
    /// Master key that encrypts the store: file:PATH, env:VARIABLE or aws-kms:KEY; repeatable. The first one is used
    /// for new keys, the others open keys that they have wrapped [default: none, the store is not encrypted]
    #[arg(long = "master-key", env = "C3_MASTER_KEY", value_name = "SOURCE", value_delimiter = ',',
        value_parser = master_key, hide_env_values = true)]
    pub master_keys: Vec<MasterKeySource>,
    /// Environment variables that configure object stores, including credentials. See [`Config::with_cloud`].
    #[arg(skip)]
    pub cloud: CloudSettings,
    /// Maximum size of a document
    #[arg(long, env = "C3_DOCUMENT_SIZE_MAX", value_name = "SIZE", default_value_t = Self::default().document_size_max)]
    pub document_size_max: Size,
    /// Minimum logit margin by which a token of the text must win to need no correction
    #[arg(long, env = "C3_MARGIN", value_name = "LOGITS", default_value_t = Self::default().margin)]
    pub margin: f32,
    /// Codec of stored latents: f32, bf16, q8_0 or q4_0 [default: the checkpoint's codec]
    #[arg(long, env = "C3_CODEC", value_name = "CODEC")]
    pub codec: Option<LatentCodec>,
    /// Maximum memory for cached shards and manifests
    #[arg(long, env = "C3_CACHE_SIZE", value_name = "SIZE", default_value_t = Self::default().cache_size)]
    pub cache_size: Size,
    /// Maximum memory of the search index; 0 turns search off, and documents are stored without sketches of their words
    #[arg(long, env = "C3_SEARCH_MEMORY", value_name = "SIZE", default_value_t = Self::default().search_memory)]
    pub search_memory: Size,
    /// Redis or Valkey cache that gateways share: redis://HOST:PORT, or rediss:// with TLS [default: none]
    #[arg(long, env = "C3_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// Time to live of a shard in Redis
    #[arg(long, env = "C3_REDIS_TTL", value_name = "DURATION", default_value_t = Self::default().redis_ttl)]
    pub redis_ttl: TimeSpan,
    /// Maximum shards of one text that are written concurrently [default: enough for the ready nodes]
    #[arg(long, env = "C3_SHARDS_IN_FLIGHT", value_name = "SHARDS")]
    pub shards_in_flight: Option<usize>,
    /// Maximum windows of one text that are decoded ahead of the caller [default: enough for the ready decoders]
    #[arg(long, env = "C3_LOOK_AHEAD", value_name = "WINDOWS")]
    pub look_ahead: Option<usize>,
    /// Maximum calls in flight on one node; further calls wait in the gateway [default: enough for two batches of the
    /// node, at least 32]
    #[arg(long, env = "C3_NODE_CALLS_MAX", value_name = "CALLS")]
    pub node_calls_max: Option<usize>,
    /// Expected wait for a node above which new reads are refused (RESOURCE_EXHAUSTED). New writes are refused above
    /// half of it
    #[arg(long, env = "C3_BACKLOG_MAX", value_name = "DURATION", default_value_t = Self::default().backlog_max)]
    pub backlog_max: TimeSpan,
    /// Maximum wait for a suitable node to become ready. Clients do not retry a call that waited so long
    #[arg(long, env = "C3_NODE_WAIT", value_name = "DURATION", default_value_t = Self::default().node_wait)]
    pub node_wait: TimeSpan,
    /// Timeout of one attempt of a call on a node, including its wait in the node's queue
    #[arg(long, env = "C3_NODE_TIMEOUT", value_name = "DURATION", default_value_t = Self::default().node_timeout)]
    pub node_timeout: TimeSpan,
    /// Maximum attempts of a call whose nodes fail. 1 disables retries, for tests that must see the failure
    #[arg(long, hide = true, env = "C3_ATTEMPTS_MAX", value_name = "ATTEMPTS",
        default_value_t = Self::default().attempts_max)]
    pub attempts_max: usize,
    /// Interval of garbage collection; 0 disables it
    #[arg(long, env = "C3_GC_INTERVAL", value_name = "DURATION", default_value_t = Self::default().gc_interval)]
    pub gc_interval: TimeSpan,
    /// Minimum age of unreferenced objects that garbage collection removes; if too short, writes may fail
    #[arg(long, env = "C3_GC_GRACE", value_name = "DURATION", default_value_t = Self::default().gc_grace)]
    pub gc_grace: TimeSpan,
    /// Host name under which HTTP clients reach this gateway; repeatable. IP addresses and localhost are always
    /// accepted. Checked on loopback addresses, and on all addresses if it is given
    #[arg(long, env = "C3_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// Origin of web pages that may call this gateway over HTTP, such as `https://app.example`; repeatable; `*` allows
    /// all [default: none]
    #[arg(long, env = "C3_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origins: Vec<String>,
    /// Settings of access control.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Settings that every server has.
    #[command(flatten)]
    pub server: ServerArgs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compressors: Vec::new(),
            decoders: Vec::new(),
            accept_nodes: false,
            data: default_data(),
            store_timeout: TimeSpan::from_secs(10),
            // Not longer than clients wait for a response by default.
            store_retry_timeout: TimeSpan::from_secs(30),
            store_requests_max: 64,
            master_keys: Vec::new(),
            cloud: CloudSettings::default(),
            document_size_max: Size::mib(256),
            // In all measurements, other kernels or batch shapes changed a margin by at most 1.6 logits.
            margin: 2.0,
            codec: None,
            // Holds the latents of about half a gigabyte of text, at 20 text tokens per latent and 4 bits per value.
            cache_size: Size::mib(64),
            // Holds the sketches of about 200 million tokens.
            search_memory: Size::mib(256),
            redis: None,
            redis_ttl: TimeSpan::from_secs(86_400),
            shards_in_flight: None,
            look_ahead: None,
            node_calls_max: None,
            // About a hundred concurrent puts of long texts, which take GPUs minutes.
            backlog_max: TimeSpan::from_secs(300),
            // Longer than a node takes to restart.
            node_wait: TimeSpan::from_secs(10),
            // Longer than a node on a small CPU takes to process a full queue.
            node_timeout: TimeSpan::from_secs(300),
            // High, because a rolling restart may fail a call on several nodes. There is a limit, because a call may
            // crash every node that it reaches.
            attempts_max: 8,
            gc_interval: TimeSpan::from_secs(3600),
            gc_grace: TimeSpan::from_secs(3600),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            access: AccessArgs::default(),
            server: ServerArgs::default(),
        }
    }
}

/// Parses the value of `--master-key`. An unusable value is refused when the store is opened, with a message that does
/// not repeat it: it may be the key itself.
pub fn master_key(typed: &str) -> Result<MasterKeySource, String> {
    Ok(MasterKeySource::parse(typed, |name| std::env::var(name).ok()))
}

/// Returns this platform's folder for application data, or `./c3-data` if no home folder is known.
fn default_data() -> String {
    let name = || "c3".to_owned();
    let app = AppStrategyArgs { top_level_domain: "org".to_owned(), author: name(), app_name: name() };
    choose_native_strategy(app)
        .map_or_else(|_| "./c3-data".to_owned(), |platform| platform.data_dir().display().to_string())
}

impl Config {
    /// Fails if a setting is out of its range.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let minimums = [
            ("--shards-in-flight", self.shards_in_flight.map_or(1, |shards| shards as u64), 1),
            ("--look-ahead", self.look_ahead.map_or(1, |windows| windows as u64), 1),
            ("--node-calls-max", self.node_calls_max.map_or(1, |calls| calls as u64), 1),
            ("--attempts-max", self.attempts_max as u64, 1),
            ("--store-requests-max", self.store_requests_max as u64, 1),
        ];
        if let Some((flag, _, minimum)) = minimums.into_iter().find(|(_, value, minimum)| value < minimum) {
            return Err(StartError::Setting { flag, problem: format!("must be at least {minimum}") });
        }
        // Redis counts whole seconds.
        if self.redis_ttl < TimeSpan::from_secs(1) {
            return Err(StartError::Setting { flag: "--redis-ttl", problem: "must be at least 1s".to_owned() });
        }
        if !(self.margin.is_finite() && self.margin >= 0.0) {
            let problem = format!("{} is not a finite number of 0 or more", self.margin);
            return Err(StartError::Setting { flag: "--margin", problem });
        }
        Ok(())
    }

    /// Sets [`Config::cloud`] to the non-empty variables whose names start with `AWS_`, `GOOGLE_` or `AZURE_`.
    pub fn with_cloud(self, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let unicode = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let cloud = unicode
            .filter(|(name, value)| !value.is_empty() && CLOUD_PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        Self { cloud: CloudSettings(cloud.collect()), ..self }
    }

    /// Returns the settings of the durable store.
    pub(crate) fn backend(&self) -> BackendSettings {
        BackendSettings {
            data: self.data.clone(),
            cloud: self.cloud.clone(),
            timeout: self.store_timeout.0,
            retry_timeout: self.store_retry_timeout.0,
            requests_max: self.store_requests_max,
            master_keys: self.master_keys.clone(),
        }
    }

    /// Returns the Redis cache if one is configured. It connects on first use. Fails if the URL is invalid.
    pub(crate) fn redis(&self) -> Result<Option<Redis>, OpenError> {
        self.redis.as_deref().map(|url| Redis::new(url, self.redis_ttl.0)).transpose()
    }

    /// Returns the settings of calls on nodes, which are made with these credentials.
    pub(crate) fn routing(&self, credentials: Credentials) -> RoutingConfig {
        // If nodes may announce themselves, there are no default addresses.
        let given_or = |given: &[String], default: &str| {
            if given.is_empty() && !self.accept_nodes { vec![default.to_owned()] } else { given.to_vec() }
        };
        RoutingConfig {
            compressors: given_or(&self.compressors, DEFAULT_COMPRESSOR),
            decoders: given_or(&self.decoders, DEFAULT_DECODER),
            credentials,
            node_calls_max: self.node_calls_max,
            node_wait: self.node_wait.0,
            call_timeout: self.node_timeout.0,
            attempts_max: self.attempts_max,
            backlog_max: self.backlog_max.0,
        }
    }
}
