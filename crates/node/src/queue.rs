//! The admission queue between calls and the model's thread, bounded in text tokens.
//!
//! A call pushes its jobs without waiting; jobs that do not fit are refused with a retry delay. The model's thread
//! waits for jobs and takes those that fit its next batch, round-robin over principals (callers). Jobs of cancelled
//! calls are dropped when a batch forms, or when a push needs their space.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use c3_server::metrics::Metrics;
use c3_server::principal::Principal;

use crate::{CallError, Operation};

/// Minimum and maximum of the delay after which a refused caller should retry.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// Work for the model.
pub trait Job: Send + 'static {
    /// Returns the number of text tokens, which is the job's size in the queue.
    fn tokens(&self) -> usize;

    /// Returns the operation that the job needs.
    fn operation(&self) -> Operation;

    /// Returns the principal that the job is done for.
    fn principal(&self) -> Principal;

    /// Returns whether the caller no longer waits for the answer.
    fn is_cancelled(&self) -> bool;
}

/// A handle on a queue; clones share the queue.
#[derive(Debug)]
pub struct Queue<J>(Arc<Shared<J>>);

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<J> {
    waiting: Mutex<Waiting<J>>,
    /// Notified when jobs are pushed and when the queue closes.
    wakeup: Condvar,
    running_tokens: Arc<OperationTokens>,
    tokens_max: usize,
    metrics: Metrics,
}

/// Text tokens of each operation.
type OperationTokens = [AtomicU64; Operation::ALL.len()];

/// Jobs that wait and run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Text tokens of each operation that wait for the model.
    pub queued_tokens: [u64; Operation::ALL.len()],
    /// Text tokens of each operation that the model computes.
    pub running_tokens: [u64; Operation::ALL.len()],
    /// Age of the oldest job that waits; zero if none waits.
    pub oldest: Duration,
}

#[derive(Debug)]
struct Waiting<J> {
    /// Oldest first.
    jobs: VecDeque<Queued<J>>,
    tokens: usize,
    is_closed: bool,
    /// Time when the model's thread last asked for jobs; `None` while the thread waits for a job.
    last_take: Option<Instant>,
}

#[derive(Debug)]
struct Queued<J> {
    job: J,
    since: Instant,
}

/// A job that was taken from the queue.
#[derive(Debug)]
pub struct Dequeued<J> {
    /// The job.
    pub job: J,
    /// Guard that counts the job as running until the guard is dropped.
    pub running: RunningGuard,
}

/// Guard that counts a job's text tokens as running until the guard is dropped.
#[derive(Debug)]
pub struct RunningGuard {
    operation: Operation,
    tokens: u64,
    running_tokens: Arc<OperationTokens>,
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running_tokens[self.operation as usize].fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

impl<J: Job> Queue<J> {
    /// Creates a queue that holds up to `tokens_max` text tokens. An empty queue admits jobs of any size.
    pub fn new(tokens_max: usize, metrics: Metrics) -> Self {
        let waiting = Waiting { jobs: VecDeque::new(), tokens: 0, is_closed: false, last_take: None };
        Self(Arc::new(Shared {
            waiting: Mutex::new(waiting),
            wakeup: Condvar::new(),
            running_tokens: Arc::default(),
            tokens_max,
            metrics,
        }))
    }

    /// Queues all of `jobs` or none. Errors: [`CallError::QueueFull`], and [`CallError::Stopping`] after
    /// [`Queue::close`].
    pub fn push(&self, jobs: Vec<J>) -> Result<(), CallError> {
        let (tokens, tokens_max) = (jobs.iter().map(Job::tokens).sum(), self.0.tokens_max);
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(CallError::Stopping);
        }
        if !waiting.fits(tokens, tokens_max) {
            waiting.drop_cancelled();
        }
        if !waiting.fits(tokens, tokens_max) {
            let retry_after_ms = waiting.retry_after().as_millis() as u64;
            return Err(CallError::QueueFull { queued_tokens: waiting.tokens, tokens_max, retry_after_ms });
        }
        let since = Instant::now();
        waiting.tokens += tokens;
        waiting.jobs.extend(jobs.into_iter().map(|job| Queued { job, since }));
        self.0.metrics.queue(waiting.tokens as u64);
        drop(waiting);
        self.0.wakeup.notify_one();
        Ok(())
    }

    /// Blocks until the queue has a job or is closed. Returns `false` if the queue is closed.
    pub fn wait(&self) -> bool {
        let mut waiting = self.lock();
        waiting.last_take = None;
        let is_idle = |waiting: &mut Waiting<J>| waiting.jobs.is_empty() && !waiting.is_closed;
        let waiting = self.0.wakeup.wait_while(waiting, is_idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.last_take = Some(Instant::now());
        !waiting.is_closed
    }

    /// Returns whether `predicate` holds for any queued job.
    pub fn any(&self, predicate: impl Fn(&J) -> bool) -> bool {
        self.lock().jobs.iter().any(|queued| predicate(&queued.job))
    }

    /// Offers the queued jobs to `pick`, round-robin over principals and oldest first within each principal. Takes the
    /// jobs for which `pick` returns `Ok` and keeps the others. Drops jobs of cancelled calls first.
    pub fn take<T>(&self, mut pick: impl FnMut(J) -> Result<T, J>) -> Vec<Dequeued<T>> {
        let mut taken = Vec::new();
        let mut waiting = self.lock();
        waiting.last_take = Some(Instant::now());
        waiting.drop_cancelled();
        let mut jobs = Vec::from_iter(std::mem::take(&mut waiting.jobs).into_iter().map(Some));
        for index in round_robin(jobs.iter().flatten().map(|queued| queued.job.principal())) {
            let Some(Queued { job, since }) = jobs[index].take() else { continue };
            let (operation, tokens) = (job.operation(), job.tokens());
            match pick(job) {
                Ok(job) => {
                    waiting.tokens -= tokens;
                    self.0.metrics.queue_wait(operation.as_str(), since.elapsed());
                    taken.push(Dequeued { job, running: self.running(operation, tokens as u64) });
                }
                Err(job) => jobs[index] = Some(Queued { job, since }),
            }
        }
        waiting.jobs.extend(jobs.into_iter().flatten());
        self.0.metrics.queue(waiting.tokens as u64);
        taken
    }

    /// Refuses further jobs, drops the queued jobs, and wakes the model's thread.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.jobs.clear();
        waiting.tokens = 0;
        self.0.metrics.queue(0);
        drop(waiting);
        self.0.wakeup.notify_all();
    }

    /// Returns whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Returns the time since the model's thread last asked for jobs. If the thread is idle, returns the age of the
    /// oldest queued job, or zero if the queue is empty.
    pub fn busy_for(&self) -> Duration {
        let waiting = self.lock();
        let oldest = || waiting.jobs.front().map(|queued| queued.since);
        waiting.last_take.or_else(oldest).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns the jobs that wait and run.
    pub fn load(&self) -> QueueLoad {
        let mut load = QueueLoad::default();
        for (running, tokens) in load.running_tokens.iter_mut().zip(self.0.running_tokens.iter()) {
            *running = tokens.load(Ordering::Relaxed);
        }
        let waiting = self.lock();
        for Queued { job, .. } in &waiting.jobs {
            load.queued_tokens[job.operation() as usize] += job.tokens() as u64;
        }
        load.oldest = waiting.jobs.front().map_or(Duration::ZERO, |oldest| oldest.since.elapsed());
        load
    }

    fn running(&self, operation: Operation, tokens: u64) -> RunningGuard {
        self.0.running_tokens[operation as usize].fetch_add(tokens, Ordering::Relaxed);
        RunningGuard { operation, tokens, running_tokens: self.0.running_tokens.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<J>> {
        // A panic in `pick` may leave a wrong token count. It also ends the model's thread, and the queue then closes.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> Waiting<J> {
    /// Returns whether jobs of `tokens` text tokens fit. An empty queue admits jobs of any size, because a job above
    /// `tokens_max` would otherwise be refused for ever.
    fn fits(&self, tokens: usize, tokens_max: usize) -> bool {
        self.jobs.is_empty() || self.tokens.saturating_add(tokens) <= tokens_max
    }

    fn drop_cancelled(&mut self) {
        let tokens = &mut self.tokens;
        self.jobs.retain(|queued| {
            let is_cancelled = queued.job.is_cancelled();
            *tokens -= if is_cancelled { queued.job.tokens() } else { 0 };
            !is_cancelled
        });
    }

    /// Estimates the time until a full queue has space. The estimate is the age of the oldest job, within limits.
    fn retry_after(&self) -> Duration {
        let [min, max] = RETRY_AFTER;
        self.jobs.front().map_or(min, |oldest| oldest.since.elapsed().clamp(min, max))
    }
}

/// Returns the indices of `principals` in round-robin order: the first occurrence of each principal, then the second
/// occurrence of each, and so on.
fn round_robin(principals: impl Iterator<Item = Principal>) -> Vec<usize> {
    let mut rounds = HashMap::<_, usize>::new();
    let mut order = Vec::from_iter(principals.enumerate().map(|(index, principal)| {
        let round = rounds.entry(principal).or_default();
        *round += 1;
        (*round, index)
    }));
    order.sort_unstable();
    Vec::from_iter(order.into_iter().map(|(_, index)| index))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::batch::BatchBudget;

    struct TestJob {
        tokens: usize,
        principal: Principal,
        reply: oneshot::Sender<()>,
    }

    impl Job for TestJob {
        fn tokens(&self) -> usize {
            self.tokens
        }

        fn operation(&self) -> Operation {
            Operation::Compress
        }

        fn principal(&self) -> Principal {
            self.principal
        }

        fn is_cancelled(&self) -> bool {
            self.reply.is_closed()
        }
    }

    fn job(tokens: usize) -> (TestJob, oneshot::Receiver<()>) {
        let (reply, answer) = oneshot::channel();
        (TestJob { tokens, principal: Principal::default(), reply }, answer)
    }

    fn queue(tokens_max: usize) -> Queue<TestJob> {
        Queue::new(tokens_max, Metrics::new("test"))
    }

    /// Takes the jobs that fit and returns their tokens; `size` returns the part of the budget that a job spends.
    fn take(queue: &Queue<TestJob>, budget: usize, size: impl Fn(&TestJob) -> usize) -> Vec<usize> {
        let mut budget = BatchBudget::new(budget, 0);
        let taken = queue.take(|job| if budget.take(size(&job)) { Ok(job) } else { Err(job) });
        taken.iter().map(|dequeued| dequeued.job.tokens).collect()
    }

    fn take_all(queue: &Queue<TestJob>) -> Vec<usize> {
        take(queue, usize::MAX, |_| 0)
    }

    #[test]
    fn jobs_that_do_not_fit_are_refused_together_with_a_time_to_retry() {
        let queue = queue(10);
        let ((a, _a), (b, _b), (c, _c)) = (job(6), job(3), job(3));
        queue.push(vec![a]).unwrap();
        let refused = queue.push(vec![b, c]).unwrap_err();
        let CallError::QueueFull { queued_tokens: 6, tokens_max: 10, retry_after_ms: 100..=10_000 } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(queue.load().queued_tokens, [6, 0, 0]);
    }

    #[test]
    fn a_job_larger_than_the_bound_is_admitted_to_an_empty_queue_only() {
        let queue = queue(10);
        let ((large, _l), (small, _s), (other, _o)) = (job(50), job(1), job(50));
        queue.push(vec![large]).unwrap();
        assert!(queue.push(vec![small]).is_err());
        assert_eq!(take_all(&queue), [50]);
        queue.push(vec![other]).unwrap();
    }

    #[test]
    fn cancelled_jobs_give_their_room_to_a_push() {
        let queue = queue(10);
        let ((cancelled, answer), (next, _n)) = (job(10), job(10));
        queue.push(vec![cancelled]).unwrap();
        drop(answer);
        queue.push(vec![next]).unwrap();
        assert_eq!(queue.load().queued_tokens, [10, 0, 0]);
        assert_eq!(take_all(&queue), [10]);
    }

    #[test]
    fn cancelled_jobs_are_dropped_when_a_batch_forms() {
        let queue = queue(10);
        let ((cancelled, answer), (stays, _s)) = (job(4), job(5));
        queue.push(vec![cancelled, stays]).unwrap();
        drop(answer);
        assert_eq!(take_all(&queue), [5]);
    }

    #[test]
    fn a_taken_job_counts_as_running_until_its_guard_is_dropped() {
        let queue = queue(10);
        let (job, _answer) = job(7);
        queue.push(vec![job]).unwrap();
        let taken = queue.take(Ok);
        assert_eq!(queue.load(), QueueLoad { running_tokens: [7, 0, 0], ..QueueLoad::default() });
        drop(taken);
        assert_eq!(queue.load(), QueueLoad::default());
    }

    #[test]
    fn a_batch_is_taken_in_order_and_the_rest_keeps_its_order() {
        let queue = queue(100);
        let (jobs, _answers): (Vec<_>, Vec<_>) = [4, 5, 3, 1].map(job).into_iter().unzip();
        queue.push(jobs).unwrap();
        assert_eq!(take(&queue, 9, |job| job.tokens), [4, 5]);
        assert_eq!(take_all(&queue), [3, 1]);
    }

    #[test]
    fn principals_alternate_and_each_ones_jobs_keep_their_order() {
        let queue = queue(100);
        let jobs = [(1, 10), (1, 11), (1, 12), (2, 20), (2, 21), (3, 30)];
        let (jobs, _answers): (Vec<_>, Vec<_>) = jobs
            .map(|(principal, tokens)| {
                let (job, answer) = job(tokens);
                (TestJob { principal: Principal(principal), ..job }, answer)
            })
            .into_iter()
            .unzip();
        queue.push(jobs).unwrap();
        assert_eq!(take(&queue, 2, |_| 1), [10, 20]);
        assert_eq!(take(&queue, 3, |_| 1), [11, 21, 30]);
        assert_eq!(take(&queue, 9, |_| 1), [12]);
    }

    #[test]
    fn a_thread_that_leaves_a_job_waiting_counts_as_busy() {
        let queue = queue(10);
        assert_eq!(queue.busy_for(), Duration::ZERO);
        let (job, _answer) = job(3);
        queue.push(vec![job]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(queue.busy_for() >= Duration::from_millis(2));
        assert!(queue.wait());
        assert!(queue.busy_for() < Duration::from_secs(60));
    }

    #[test]
    fn closing_wakes_the_model_and_drops_the_jobs() {
        let queue = queue(10);
        let waiter = std::thread::spawn({
            let queue = queue.clone();
            move || queue.wait()
        });
        let (waiting, mut answer) = job(3);
        queue.push(vec![waiting]).unwrap();
        queue.close();
        // `wait` returns in any case: it may have seen the job before the queue closed.
        waiter.join().unwrap();
        assert!(!queue.wait());
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (late, _answer) = job(1);
        assert_eq!(queue.push(vec![late]), Err(CallError::Stopping));
    }
}
