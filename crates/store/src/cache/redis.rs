//! Shared tier: Redis or Valkey.
//!
//! The tier is optional and only makes reads faster. Reads have a short timeout. After a failure, reads and writes skip
//! the server for a cooldown, so that an unreachable server costs almost nothing. The client reconnects by itself.
//! Writes are queued and pipelined, and dropped if the queue is full.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use c3_types::TenantId;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, Pipeline, RedisError};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::value;
use crate::object::key::ShardKeys;
use crate::{OpenError, Shard};

/// Timeout of a read. A read from a local store takes about as long.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Timeout of connecting, and of a pipeline of writes. No caller waits for writes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which reads and writes skip the server after a failure.
const COOLDOWN: Duration = Duration::from_millis(500);
/// Capacity of the write queue in shards. A shard has a few kilobytes.
const WRITES_QUEUED_MAX: usize = 256;
/// Maximum writes in one pipeline.
const PIPELINE_MAX: usize = 32;

/// Result of a read.
#[derive(Debug)]
pub(crate) enum Reply {
    Hit(Shard),
    /// The key is absent, or its value failed a check.
    Miss,
    /// The server did not answer, returned an error, or was skipped after a failure.
    Failed,
}

/// A tenant's cache of shards that gateways share.
pub struct Redis {
    tenant: TenantId,
    connection: ConnectionManager,
    cooldown: Arc<Cooldown>,
    writes: mpsc::Sender<(Bytes, Bytes)>,
}

impl Redis {
    /// Creates the client of the tenant `default`, which connects on first use. Fails if `url` is invalid. Entries expire after `ttl`, rounded down
    /// to whole seconds.
    pub fn new(url: &str, ttl: Duration) -> Result<Self, OpenError> {
        let wrong = |error: RedisError| OpenError::Redis(error.to_string());
        let client = Client::open(url).map_err(wrong)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(WRITE_TIMEOUT))
            .set_response_timeout(Some(WRITE_TIMEOUT));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(wrong)?;
        let (writes, queued) = mpsc::channel(WRITES_QUEUED_MAX);
        let cooldown = Arc::<Cooldown>::default();
        let writer = Writer { connection: connection.clone(), cooldown: Arc::clone(&cooldown), ttl };
        // The task ends when the sender is dropped.
        tokio::spawn(writer.run(queued));
        Ok(Self { tenant: TenantId::default(), connection, cooldown, writes })
    }

    /// Returns the cache of another tenant, which shares the connection and nothing else.
    pub fn of_tenant(&self, tenant: TenantId) -> Self {
        let (connection, cooldown) = (self.connection.clone(), Arc::clone(&self.cooldown));
        Self { tenant, connection, cooldown, writes: self.writes.clone() }
    }

    /// Reads a shard and checks its checksum.
    pub(crate) async fn get(&self, keys: &ShardKeys) -> Reply {
        if self.cooldown.is_active() {
            return Reply::Failed;
        }
        let key = value::key(&self.tenant, keys);
        let mut connection = self.connection.clone();
        let (get, start) = (Cmd::get(key.as_ref()), Instant::now());
        let result = timeout(READ_TIMEOUT, get.query_async::<Option<Bytes>>(&mut connection)).await;
        match self.cooldown.record(start, result) {
            Some(Some(value)) => value::unseal(&key, &value).map_or(Reply::Miss, Reply::Hit),
            Some(None) => Reply::Miss,
            None => Reply::Failed,
        }
    }

    /// Queues the write of a shard. Drops the write if the queue is full, or while the server is skipped after a
    /// failure.
    pub(crate) fn put(&self, keys: &ShardKeys, shard: &Shard) {
        if self.cooldown.is_active() {
            return;
        }
        let key = value::key(&self.tenant, keys);
        let value = value::seal(&key, shard);
        // Fails if the queue is full. Without the write, other gateways read this shard from the store.
        let _ = self.writes.try_send((key, value));
    }
}

struct Writer {
    connection: ConnectionManager,
    cooldown: Arc<Cooldown>,
    ttl: Duration,
}

impl Writer {
    async fn run(mut self, mut queued: mpsc::Receiver<(Bytes, Bytes)>) {
        let mut batch = Vec::with_capacity(PIPELINE_MAX);
        while queued.recv_many(&mut batch, PIPELINE_MAX).await > 0 {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for (key, value) in batch.drain(..) {
                pipeline.set_ex(key.as_ref(), value.as_ref(), self.ttl.as_secs()).ignore();
            }
            if !self.cooldown.is_active() {
                let start = Instant::now();
                let result = timeout(WRITE_TIMEOUT, pipeline.exec_async(&mut self.connection)).await;
                self.cooldown.record(start, result);
            }
        }
    }
}

/// Time of the last failure. Reads and writes share it.
#[derive(Default)]
struct Cooldown {
    failed: Mutex<Option<Instant>>,
}

impl Cooldown {
    fn is_active(&self) -> bool {
        self.lock().is_some_and(|failed| failed.elapsed() < COOLDOWN)
    }

    /// Records a request that began at `start`, and logs when failures begin and end. Returns `None` if the request
    /// failed.
    fn record<T>(&self, start: Instant, result: Result<Result<T, RedisError>, Elapsed>) -> Option<T> {
        let mut failed = self.lock();
        let problem = match result {
            Ok(Ok(value)) => {
                // A request that began before the failure does not show that the server has recovered.
                if failed.is_some_and(|failed| failed < start) {
                    tracing::info!("the shared cache answers again");
                    *failed = None;
                }
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out".to_owned(),
        };
        if failed.is_none() {
            tracing::warn!(problem, "the shared cache fails: reads go to the store until it answers");
        }
        *failed = Some(Instant::now());
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        // The lock is never poisoned: no code panics while it holds it.
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::value::tests::{keys, whole};
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_invalid_url_is_refused() {
        let error = Redis::new("http://127.0.0.1", TTL).err().expect("must be refused").to_string();
        assert!(error.starts_with("--redis: ") && !error.contains('\n'), "{error}");
    }

    #[tokio::test]
    async fn a_dead_or_silent_server_is_waited_for_once() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [mute.local_addr().unwrap(), gone.local_addr().unwrap()];
        drop(gone);
        for address in addresses {
            let redis = Redis::new(&format!("redis://{address}"), TTL).unwrap();
            let start = Instant::now();
            for number in 0..50 {
                let answer = redis.get(&keys(number, true)).await;
                assert!(matches!(answer, Reply::Failed), "{answer:?}");
                redis.put(&keys(number, true), &whole(&[40], true));
            }
            assert!(start.elapsed() < COOLDOWN, "{:?}", start.elapsed());
        }
    }

    /// Starts a server that answers every command with the same bytes. Returns its URL.
    async fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/?protocol=resp2", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut commands = [0; 4096];
                while socket.read(&mut commands).await.is_ok_and(|bytes| bytes > 0) {
                    let asked = commands.windows(4).filter(|bytes| bytes == b"\r\nGE" || bytes == b"LIEN");
                    for _ in 0..asked.count().max(1) {
                        socket.write_all(answer).await.unwrap();
                    }
                    commands = [0; 4096];
                }
            }
        });
        url
    }

    #[tokio::test]
    async fn an_invalid_value_is_a_miss() {
        let redis = Redis::new(&server(b"$4\r\nevil\r\n").await, TTL).unwrap();
        let answer = redis.get(&keys(1, true)).await;
        assert!(matches!(answer, Reply::Miss), "{answer:?}");
    }
}
