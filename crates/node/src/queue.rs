//! The bounded queue between gRPC calls and the model's thread, weighed by text tokens.
//!
//! Calls push without waiting: what does not fit is refused, and its caller told when to come back. The model's thread
//! waits for work and takes what fits its next batch, of each caller by turns. Whoever no longer has a caller is dropped when the batch forms,
//! and frees its place already when somebody else needs it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use c3_proto::pb;
use c3_server::{Kind, caller::Caller, metrics::Metrics};
use tonic::Status;

/// Shortest and longest time that a refused caller is asked to stay away.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// Work for the model.
pub trait Job: Send + 'static {
    /// Text tokens that it stands for.
    fn tokens(&self) -> usize;

    /// Whose it is.
    fn caller(&self) -> Caller;

    /// Whether nobody waits for its answer any more.
    fn is_gone(&self) -> bool;
}

/// A handle on the queue; clones are of the same queue.
#[derive(Debug)]
pub struct Queue<J>(Arc<Shared<J>>);

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<J> {
    state: Mutex<State<J>>,
    /// Rings when there is work, and when the queue closes.
    bell: Condvar,
    running_tokens: Arc<AtomicU64>,
    tokens_max: usize,
    metrics: Metrics,
}

#[derive(Debug)]
struct State<J> {
    waiting: VecDeque<Waiting<J>>,
    tokens: usize,
    closed: bool,
    /// When the model's thread last came for work; `None` while it waits for some.
    came: Option<Instant>,
}

#[derive(Debug)]
struct Waiting<J> {
    job: J,
    since: Instant,
}

/// A job that was taken: it counts as running until its place is dropped.
#[derive(Debug)]
pub struct Taken<J> {
    /// The job.
    pub job: J,
    /// What holds its place.
    pub place: Running,
}

/// The place of a job that runs.
#[derive(Debug)]
pub struct Running {
    tokens: u64,
    running_tokens: Arc<AtomicU64>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running_tokens.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

impl<J: Job> Queue<J> {
    /// A queue in which up to `tokens_max` text tokens wait. A job larger than that waits alone.
    pub fn new(tokens_max: usize, metrics: Metrics) -> Self {
        let state = State { waiting: VecDeque::new(), tokens: 0, closed: false, came: None };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            bell: Condvar::new(),
            running_tokens: Arc::default(),
            tokens_max,
            metrics,
        }))
    }

    /// Queues all of `jobs` or none. Errors: RESOURCE_EXHAUSTED where they do not fit, UNAVAILABLE after
    /// [`Queue::close`].
    pub fn push(&self, jobs: Vec<J>) -> Result<(), Status> {
        let tokens: usize = jobs.iter().map(Job::tokens).sum();
        let mut state = self.state();
        if state.closed {
            return Err(stopping());
        }
        if !state.fits(tokens, self.0.tokens_max) {
            state.drop_gone();
        }
        if !state.fits(tokens, self.0.tokens_max) {
            let (waiting, most) = (state.tokens, self.0.tokens_max);
            return Err(Kind::Full { retry_after_ms: state.retry_after().as_millis() as u64 }.status(
                format!("{waiting} of {most} text tokens wait already: try again later, or another node"),
            ));
        }
        let since = Instant::now();
        state.tokens += tokens;
        state.waiting.extend(jobs.into_iter().map(|job| Waiting { job, since }));
        self.0.metrics.queued(state.tokens as u64);
        drop(state);
        self.0.bell.notify_one();
        Ok(())
    }

    /// Blocks until something waits; `false` once the queue is closed.
    pub fn wait(&self) -> bool {
        let idle = |state: &mut State<J>| state.waiting.is_empty() && !state.closed;
        let mut state = self.state();
        state.came = None;
        let state = self.0.bell.wait_while(state, idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.came = Some(Instant::now());
        !state.closed
    }

    /// Whether something waits that `is` such a job.
    pub fn any(&self, is: impl Fn(&J) -> bool) -> bool {
        self.state().waiting.iter().any(|waiting| is(&waiting.job))
    }

    /// Takes the jobs that `pick` turns into work; those that it gives back stay. Each caller's jobs are offered in the
    /// order in which they came, and a first one of each caller before a second one of any.
    pub fn take<T>(&self, mut pick: impl FnMut(J) -> Result<T, J>) -> Vec<Taken<T>> {
        let mut taken = Vec::new();
        let mut state = self.state();
        state.came = Some(Instant::now());
        state.drop_gone();
        let mut waiting = Vec::from_iter(std::mem::take(&mut state.waiting).into_iter().map(Some));
        for place in by_turns(waiting.iter().flatten().map(|waiting| waiting.job.caller())) {
            let Some(Waiting { job, since }) = waiting[place].take() else { continue };
            let tokens = job.tokens();
            match pick(job) {
                Ok(job) => {
                    state.tokens -= tokens;
                    taken.push(Taken { job, place: self.running(tokens as u64) });
                }
                Err(job) => waiting[place] = Some(Waiting { job, since }),
            }
        }
        state.waiting.extend(waiting.into_iter().flatten());
        self.0.metrics.queued(state.tokens as u64);
        taken
    }

    /// Lets nobody in any more, drops who waits, and tells the model's thread.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        state.tokens = 0;
        drop(state);
        self.0.bell.notify_all();
    }

    /// Whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// How long the model's thread has been at what it last took, or has not come for what waits.
    pub fn busy_for(&self) -> Duration {
        let state = self.state();
        let waits = || state.waiting.front().map(|oldest| oldest.since);
        state.came.or_else(waits).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What waits and what runs.
    pub fn load(&self) -> pb::NodeLoad {
        pb::NodeLoad {
            queued_tokens: self.state().tokens as u64,
            running_tokens: self.0.running_tokens.load(Ordering::Relaxed),
        }
    }

    fn running(&self, tokens: u64) -> Running {
        self.0.running_tokens.fetch_add(tokens, Ordering::Relaxed);
        Running { tokens, running_tokens: self.0.running_tokens.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        // No code panics while it holds the lock; were it to, the state would still be whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> State<J> {
    /// Whether `tokens` more may wait. Whatever is refused when nothing waits would be refused for ever.
    fn fits(&self, tokens: usize, most: usize) -> bool {
        self.waiting.is_empty() || self.tokens.saturating_add(tokens) <= most
    }

    fn drop_gone(&mut self) {
        let tokens = &mut self.tokens;
        self.waiting.retain(|waiting| {
            let gone = waiting.job.is_gone();
            *tokens -= if gone { waiting.job.tokens() } else { 0 };
            !gone
        });
    }

    /// As long as the oldest has waited: what joins a full queue waits about that long.
    fn retry_after(&self) -> Duration {
        let [least, most] = RETRY_AFTER;
        self.waiting.front().map_or(least, |oldest| oldest.since.elapsed().clamp(least, most))
    }
}

/// The places of jobs of these callers: a first one of each caller, then a second one, and so on.
fn by_turns(callers: impl Iterator<Item = Caller>) -> Vec<usize> {
    let mut turns = HashMap::<_, usize>::new();
    let mut places = Vec::from_iter(callers.enumerate().map(|(place, caller)| {
        let turn = turns.entry(caller).or_default();
        *turn += 1;
        (*turn, place)
    }));
    places.sort_unstable();
    Vec::from_iter(places.into_iter().map(|(_, place)| place))
}

/// What a batch has room for, in whatever unit its owner counts. The first always fits, or it would never run; none
/// fits behind one that did not, or large ones would be passed for ever.
#[derive(Debug)]
pub struct Room {
    left: usize,
    empty: bool,
}

impl Room {
    /// Room for `most` beside `used`.
    pub fn new(most: usize, used: usize) -> Self {
        Self { left: most.saturating_sub(used), empty: used == 0 }
    }

    /// Takes `size` if it fits.
    pub fn fits(&mut self, size: usize) -> bool {
        let fits = size <= self.left || self.empty;
        self.left = if fits { self.left.saturating_sub(size) } else { 0 };
        self.empty = false;
        fits
    }
}

/// What a caller hears whose job was dropped because the node stops.
pub fn stopping() -> Status {
    Kind::Unavailable.status("the node is stopping: try another")
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    struct Work {
        tokens: usize,
        caller: Caller,
        reply: oneshot::Sender<()>,
    }

    impl Job for Work {
        fn caller(&self) -> Caller {
            self.caller
        }

        fn tokens(&self) -> usize {
            self.tokens
        }

        fn is_gone(&self) -> bool {
            self.reply.is_closed()
        }
    }

    fn work(tokens: usize) -> (Work, oneshot::Receiver<()>) {
        let (reply, answer) = oneshot::channel();
        (Work { tokens, caller: Caller::default(), reply }, answer)
    }

    fn queue(tokens_max: usize) -> Queue<Work> {
        Queue::new(tokens_max, Metrics::new("test"))
    }

    fn take_all(queue: &Queue<Work>) -> Vec<Taken<Work>> {
        queue.take(Ok)
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_and_told_when_to_come_back() {
        let queue = queue(10);
        let ((a, _a), (b, _b), (c, _c)) = (work(6), work(3), work(3));
        queue.push(vec![a]).unwrap();
        let refused = queue.push(vec![b, c]).unwrap_err();
        assert!(matches!(Kind::of(&refused), Kind::Full { retry_after_ms: 100..=10_000 }));
        assert_eq!(queue.load().queued_tokens, 6);
    }

    #[test]
    fn a_job_larger_than_the_bound_passes_an_empty_queue_only() {
        let queue = queue(10);
        let ((large, _l), (small, _s), (other, _o)) = (work(50), work(1), work(50));
        queue.push(vec![large]).unwrap();
        assert!(queue.push(vec![small]).is_err());
        assert_eq!(take_all(&queue).len(), 1);
        queue.push(vec![other]).unwrap();
    }

    #[test]
    fn callers_that_left_free_their_place() {
        let queue = queue(10);
        let ((gone, answer), (next, _n)) = (work(10), work(10));
        queue.push(vec![gone]).unwrap();
        drop(answer);
        queue.push(vec![next]).unwrap();
        assert_eq!(queue.load().queued_tokens, 10);
        assert_eq!(take_all(&queue).len(), 1);
    }

    #[test]
    fn callers_that_left_are_dropped_when_a_batch_forms() {
        let queue = queue(10);
        let ((gone, answer), (stays, _s)) = (work(4), work(5));
        queue.push(vec![gone, stays]).unwrap();
        drop(answer);
        let taken = take_all(&queue);
        assert_eq!(taken.iter().map(|t| t.job.tokens).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_taken_job_counts_as_running_until_its_place_goes() {
        let queue = queue(10);
        let (job, _answer) = work(7);
        queue.push(vec![job]).unwrap();
        let taken = take_all(&queue);
        assert_eq!(queue.load(), pb::NodeLoad { queued_tokens: 0, running_tokens: 7 });
        drop(taken);
        assert_eq!(queue.load(), pb::NodeLoad::default());
    }

    #[test]
    fn a_batch_is_taken_in_order_and_the_rest_keeps_its_order() {
        let queue = queue(100);
        let (jobs, _answers): (Vec<_>, Vec<_>) = [4, 5, 3, 1].map(work).into_iter().unzip();
        queue.push(jobs).unwrap();
        let mut room = Room::new(9, 0);
        let mut batch = || -> Vec<usize> {
            let taken = queue.take(|job| if room.fits(job.tokens) { Ok(job) } else { Err(job) });
            taken.iter().map(|t| t.job.tokens).collect()
        };
        assert_eq!(batch(), [4, 5]);
        assert_eq!(take_all(&queue).iter().map(|t| t.job.tokens).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn callers_take_turns_and_each_ones_jobs_keep_their_order() {
        let queue = queue(100);
        let jobs = [(1, 10), (1, 11), (1, 12), (2, 20), (2, 21), (3, 30)];
        let (jobs, _answers): (Vec<_>, Vec<_>) = jobs
            .map(|(caller, tokens)| {
                let (job, answer) = work(tokens);
                (Work { caller: Caller(caller), ..job }, answer)
            })
            .into_iter()
            .unzip();
        queue.push(jobs).unwrap();
        let batch = |most: usize| {
            let mut room = Room::new(most, 0);
            let taken = queue.take(|job| if room.fits(1) { Ok(job) } else { Err(job) });
            Vec::from_iter(taken.iter().map(|taken| taken.job.tokens))
        };
        assert_eq!(batch(2), [10, 20]);
        assert_eq!(batch(3), [11, 21, 30]);
        assert_eq!(batch(9), [12]);
    }

    #[test]
    fn the_first_always_has_room_and_nobody_overtakes() {
        let mut room = Room::new(10, 0);
        assert!(room.fits(50));
        assert!(!room.fits(1));
        let mut room = Room::new(10, 5);
        assert!(!room.fits(6));
        assert!(!room.fits(1));
    }

    #[test]
    fn a_thread_that_does_not_come_for_work_counts_as_busy_with_it() {
        let queue = queue(10);
        assert_eq!(queue.busy_for(), Duration::ZERO);
        let (job, _answer) = work(3);
        queue.push(vec![job]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(queue.busy_for() >= Duration::from_millis(2));
        assert!(queue.wait());
        assert!(queue.busy_for() < Duration::from_secs(60));
    }

    #[test]
    fn closing_wakes_the_model_and_lets_callers_know() {
        let queue = queue(10);
        let waiter = std::thread::spawn({
            let queue = queue.clone();
            move || queue.wait()
        });
        let (job, mut answer) = work(3);
        queue.push(vec![job]).unwrap();
        queue.close();
        // The waiter may have seen the job first; once closed, nothing waits.
        waiter.join().unwrap();
        assert!(!queue.wait());
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (late, _answer) = work(1);
        assert_eq!(Kind::of(&queue.push(vec![late]).unwrap_err()), Kind::Unavailable);
    }
}
