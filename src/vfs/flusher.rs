//! When the image is written: on request, when there is a pause between requests, and at the latest
//! a fixed time after the first change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{VfsResult, Volume};
use crate::error::{Error, Result};
use crate::fs::Fs;

/// Changes are flushed if there is no request for this time.
const PAUSE: Duration = Duration::from_millis(250);

/// What kind of change an operation made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Content,
    Entries,
}

#[derive(Default)]
struct State {
    /// When the oldest unflushed change was made.
    dirty_since: Option<Instant>,
    /// After a failed flush, when to try again.
    retry: Option<Instant>,
    stop: bool,
}

/// Keeps track of changes and requests for the thread that flushes.
pub(super) struct Clock {
    start: Instant,
    commit: Duration,
    /// Milliseconds from `start` to the last request.
    last_request: AtomicU64,
    /// Whether `state.dirty_since` is set, so that most operations need not lock `state`.
    dirty: AtomicBool,
    /// Milliseconds from `start` to the beginning of the running flush, plus one; 0 if no flush is
    /// running.
    flushing: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
}

impl Clock {
    pub fn new(commit: Duration) -> Self {
        Self {
            start: Instant::now(),
            commit,
            last_request: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            flushing: AtomicU64::new(0),
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Note that a request has arrived.
    pub fn request(&self) {
        let since = self.start.elapsed().as_millis();
        self.last_request.store(since as u64, Ordering::Relaxed);
    }

    /// Note a change that a flush must write.
    pub fn changed(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.state.lock().dirty_since.get_or_insert_with(Instant::now);
            self.wake.notify_all();
        }
    }

    /// Note that everything was written. The caller has locked the core, so no change can come in
    /// between.
    fn clean(&self) {
        if self.dirty.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            (state.dirty_since, state.retry) = (None, None);
            self.dirty.store(false, Ordering::Release);
        }
    }

    /// How long the volume has been mounted.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long the oldest change has waited to be flushed.
    pub fn dirty_for(&self) -> Option<Duration> {
        self.state.lock().dirty_since.map(|since| since.elapsed())
    }

    /// How long a flush has been running.
    pub fn flushing_for(&self) -> Option<Duration> {
        let began = self.flushing.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_millis(began)))
    }

    /// Note that a flush begins or has ended.
    fn flushing(&self, begins: bool) {
        let since = if begins { self.start.elapsed().as_millis() as u64 + 1 } else { 0 };
        self.flushing.store(since, Ordering::Relaxed);
    }

    /// The time of the next flush, if there is something to flush.
    fn due(&self, state: &State) -> Option<Instant> {
        let since = state.dirty_since?;
        let quiet = Duration::from_millis(self.last_request.load(Ordering::Relaxed)) + PAUSE;
        let due = (self.start + quiet).min(since + self.commit);
        Some(state.retry.map_or(due, |retry| due.max(retry)))
    }
}

impl Volume {
    /// Note that the kernel has sent a request. The pause that triggers a flush starts again.
    pub fn request(&self) {
        self.clock.request();
    }

    /// Make everything durable. If an earlier failure has not been reported yet, report it.
    ///
    /// # Errors
    /// The failure that was not reported yet, or that of this flush.
    pub fn fsync(&self) -> VfsResult<()> {
        let result = self.flush_core(&mut self.core());
        // If the mount became read-only because of the earlier failure, that one is the cause.
        match self.failed.lock().take() {
            Some(earlier) => Err(earlier.into()),
            None => Ok(result?),
        }
    }

    /// Make everything durable.
    ///
    /// # Errors
    /// The error of the core, or the earlier failure after which nothing can be written any more.
    /// The failure is logged.
    pub fn flush(&self) -> Result<()> {
        self.flush_and_log(&mut self.core())
    }

    fn flush_and_log(&self, core: &mut Fs) -> Result<()> {
        self.flush_core(core).map_err(|e| {
            log::error!("flush failed: {e}");
            let mut failed = self.failed.lock();
            match &*failed {
                Some(earlier) if matches!(e, Error::ReadOnly) => earlier.clone(),
                None if core.is_read_only() => failed.insert(e).clone(),
                _ => e,
            }
        })
    }

    /// Make everything durable, and do not answer any more requests: every later operation waits
    /// for the end of the process, so that no change is confirmed and then lost.
    ///
    /// # Errors
    /// Those of [`Volume::flush`].
    pub fn flush_and_freeze(&self) -> Result<()> {
        let core = MutexGuard::leak(self.core());
        self.flush_and_log(core)
    }

    /// Complete the map of free blocks in the background, before a write has to wait for it.
    pub fn run_mapper(&self) {
        if self.is_read_only() {
            return;
        }
        if let Err(e) = self.map_blocks(&|| self.clock.state.lock().stop) {
            log::error!("cannot find out which blocks are free: {e}");
        }
    }

    /// End [`Volume::run_flusher`] and [`Volume::run_mapper`].
    pub fn stop(&self) {
        self.clock.state.lock().stop = true;
        self.clock.wake.notify_all();
    }

    /// Flush in the background until stopped. `pull` makes the kernel send the pages that it holds
    /// back. If it is given, it is called about every `commit` seconds, and a flush follows, even
    /// if nothing is known to be dirty: only the kernel knows whether it holds back pages.
    pub fn run_flusher(&self, pull: Option<&dyn Fn()>) {
        let mut next_pull = Instant::now() + self.clock.commit;
        let mut state = self.clock.state.lock();
        while !state.stop {
            let now = Instant::now();
            let due = self.clock.due(&state);
            let pull_now = pull.filter(|_| now >= next_pull);
            if due.is_none_or(|due| now < due) && pull_now.is_none() {
                let wake = due.into_iter().chain(pull.map(|_| next_pull)).min();
                match wake {
                    Some(at) => {
                        self.clock.wake.wait_until(&mut state, at);
                    }
                    None => self.clock.wake.wait(&mut state),
                }
                continue;
            }
            drop(state);
            if let Some(pull) = pull_now {
                pull();
                next_pull = Instant::now() + self.clock.commit;
            }
            self.flush_in_background();
            state = self.clock.state.lock();
        }
    }

    /// Called by an operation after it has changed something, with the core still locked: flush, or
    /// note the change.
    pub(super) fn settle(&self, core: &mut Fs, change: Change) -> Result<()> {
        if self.options.sync || (self.options.dirsync && change == Change::Entries) {
            return self.flush_core(core);
        }
        if core.is_dirty() {
            self.clock.changed();
        }
        Ok(())
    }

    pub(super) fn flush_core(&self, core: &mut Fs) -> Result<()> {
        self.will_wait();
        self.clock.flushing(true);
        let result = core.flush();
        self.clock.flushing(false);
        result?;
        self.clock.clean();
        Ok(())
    }

    fn flush_in_background(&self) {
        let mut core = self.core();
        let Err(e) = self.flush_core(&mut core) else { return };
        let is_final = core.is_read_only();
        {
            let mut state = self.clock.state.lock();
            state.retry = Some(Instant::now() + self.clock.commit);
            if is_final {
                // the flush at the end reports it again
                state.dirty_since = None;
            }
        }
        drop(core);
        let next = if is_final { "" } else { "; it will be tried again, by fsync at the latest" };
        log::error!("flush failed: {e}{next}");
        self.failed.lock().get_or_insert(e);
    }
}
