//! The tier that gateways share: Redis or Valkey, where the operator has one.
//!
//! It makes reads faster and is never needed. Every question has a short time-out; after one that failed none is asked
//! for a moment, so that a server that is gone costs next to nothing; the connection comes back by itself. Writes are
//! queued, and go several in one pipeline; what the queue has no room for is not written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, Pipeline, RedisError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::value;
use crate::OpenError;
use crate::Shard;
use crate::object::key::ShardKeys;

/// Longest time that a read waits: about what a store nearby takes.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Longest time of a pipeline of writes, for which nobody waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is asked after a failure.
const REST: Duration = Duration::from_millis(500);
/// Writes that wait, each a shard of some kilobytes.
const WRITES_QUEUED_MAX: usize = 256;
/// Writes of one pipeline.
const WRITES_AT_ONCE: usize = 32;

/// What Redis said.
#[derive(Debug)]
pub enum Answer {
    /// It has the shard.
    Shard(Shard),
    /// It has it not, or something else in its place.
    Nothing,
    /// It did not answer, or was not asked since it lately did not.
    Silent,
}

/// A shared cache of shards.
pub struct Redis {
    connection: ConnectionManager,
    health: Arc<Health>,
    writes: mpsc::Sender<(Bytes, Bytes)>,
}

impl Redis {
    /// Will connect when first asked. What is written is kept for `ttl`.
    pub fn new(url: &str, ttl: Duration) -> Result<Self, OpenError> {
        let wrong = |error: RedisError| OpenError::Redis(error.to_string());
        let client = Client::open(url).map_err(wrong)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(WRITE_TIMEOUT))
            .set_response_timeout(Some(WRITE_TIMEOUT));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(wrong)?;
        let (writes, queued) = mpsc::channel(WRITES_QUEUED_MAX);
        let health = Arc::<Health>::default();
        let writer = Writer { connection: connection.clone(), health: Arc::clone(&health), ttl };
        // Ends when the sender is dropped.
        tokio::spawn(writer.run(queued));
        Ok(Self { connection, health, writes })
    }

    /// The shard, if it is there and whole.
    pub async fn get(&self, names: &ShardKeys) -> Answer {
        if self.health.rests() {
            return Answer::Silent;
        }
        let key = value::key(names);
        let mut connection = self.connection.clone();
        let (get, asked) = (Cmd::get(key.as_ref()), Instant::now());
        let answer = timeout(READ_TIMEOUT, get.query_async::<Option<Bytes>>(&mut connection)).await;
        match self.health.note(asked, answer) {
            Some(Some(found)) => value::unseal(&key, &found).map_or(Answer::Nothing, Answer::Shard),
            Some(None) => Answer::Nothing,
            None => Answer::Silent,
        }
    }

    /// Takes a shard in the place of what was there, soon, if all is well.
    pub fn put(&self, names: &ShardKeys, shard: &Shard) {
        if self.health.rests() {
            return;
        }
        let key = value::key(names);
        let value = value::seal(&key, shard);
        // A full queue: others read from the store for a while.
        let _ = self.writes.try_send((key, value));
    }
}

struct Writer {
    connection: ConnectionManager,
    health: Arc<Health>,
    ttl: Duration,
}

impl Writer {
    async fn run(mut self, mut queued: mpsc::Receiver<(Bytes, Bytes)>) {
        let mut batch = Vec::with_capacity(WRITES_AT_ONCE);
        while queued.recv_many(&mut batch, WRITES_AT_ONCE).await > 0 {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for (key, value) in batch.drain(..) {
                pipeline.set_ex(key.as_ref(), value.as_ref(), self.ttl.as_secs()).ignore();
            }
            if !self.health.rests() {
                let asked = Instant::now();
                let written = timeout(WRITE_TIMEOUT, pipeline.exec_async(&mut self.connection)).await;
                self.health.note(asked, written);
            }
        }
    }
}

/// When the server last failed.
#[derive(Default)]
struct Health {
    failed: Mutex<Option<Instant>>,
}

impl Health {
    /// Whether it failed so lately that it is not asked.
    fn rests(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failed.is_some_and(|failed| failed.elapsed() < REST)
    }

    /// What it said to a question, if it said anything. Logs where that changes.
    fn note<T>(
        &self,
        asked: Instant,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Option<T> {
        let mut failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let problem = match answer {
            Ok(Ok(said)) => {
                // An answer to an older question says nothing about a failure since.
                if failed.is_some_and(|failed| failed < asked) {
                    tracing::info!("the shared cache answers again");
                    *failed = None;
                }
                return Some(said);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if failed.is_none() {
            tracing::warn!(problem, "the shared cache fails: reads go to the store until it answers");
        }
        *failed = Some(Instant::now());
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::value::tests::{names, whole};
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_address_that_cannot_be_is_refused() {
        let error = Redis::new("http://127.0.0.1", TTL).err().expect("must be refused").to_string();
        assert!(error.starts_with("--redis: ") && !error.contains('\n'), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_gone_or_mute_costs_a_moment_once() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [mute.local_addr().unwrap(), gone.local_addr().unwrap()];
        drop(gone);
        for address in addresses {
            let redis = Redis::new(&format!("redis://{address}"), TTL).unwrap();
            let begun = Instant::now();
            for number in 0..50 {
                let answer = redis.get(&names(number, true)).await;
                assert!(matches!(answer, Answer::Silent), "{answer:?}");
                redis.put(&names(number, true), &whole(&[40], true));
            }
            assert!(begun.elapsed() < REST, "{:?}", begun.elapsed());
        }
    }

    /// Answers every command with the same bytes.
    async fn says(answer: &'static [u8]) -> String {
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
    async fn what_is_no_shard_is_nothing() {
        let redis = Redis::new(&says(b"$4\r\nevil\r\n").await, TTL).unwrap();
        let answer = redis.get(&names(1, true)).await;
        assert!(matches!(answer, Answer::Nothing), "{answer:?}");
    }
}
