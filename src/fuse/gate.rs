//! Which thread reads requests from the kernel, and how eagerly.
//!
//! One of the event loops is the leader. It reads a request, answers it, and polls for the next one
//! for a moment before it sleeps in the read: waking a thread takes several times as long as most
//! requests. The others are parked, so a request wakes only the leader. Before the leader waits for
//! something itself, it passes the lead on. If all processors are busy with other work, it does not
//! poll ([`Load`]).

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::load::Load;
use crate::sys;

/// After this many polls without a request, the leader sleeps at once, until requests are frequent
/// again.
const MISSES_MAX: u32 = 4;

#[derive(Default)]
struct State {
    /// Loops that have not served a request yet. The gate does not notice when such a loop ends, so
    /// no loop is parked while there are any.
    fresh: usize,
    /// Loops that are in the read, or about to enter it.
    reading: usize,
    /// Loops that are polling for the next request.
    looking: usize,
    /// Loops that are parked here.
    parked: usize,
    /// Parked loops that were told to read, and have not started yet.
    called: usize,
    /// Polls without a request since the last successful one.
    misses: u32,
    /// The time at which the last request was answered.
    answered: Option<Instant>,
    /// Whether a loop has ended, because the mount is gone.
    ended: bool,
}

/// See the description of this module.
pub(super) struct Gate {
    /// The device from which requests come. It is known once the mount exists.
    device: OnceLock<OwnedFd>,
    /// How long to poll for the next request. If this is zero, do not poll.
    patience: Duration,
    load: Load,
    state: Mutex<State>,
    wake: Condvar,
}

/// A request that is being served. It is dropped when it has been answered.
pub(super) struct Serving<'a>(&'a Gate);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// Tells the gate when the thread that holds it ends.
struct Leaving(Arc<Gate>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.wake.notify_all();
    }
}

thread_local! {
    static LEAVING: RefCell<Option<Leaving>> = const { RefCell::new(None) };
}

impl Gate {
    /// A gate for `loops` event loops. At first, all of them read.
    pub fn new(loops: usize, patience: Duration) -> Self {
        let state = State { fresh: loops, reading: loops, ..State::default() };
        Self {
            device: OnceLock::new(),
            patience,
            load: Load::new(),
            state: Mutex::new(state),
            wake: Condvar::new(),
        }
    }

    /// Set the device from which requests come.
    pub fn watch(&self, device: OwnedFd) {
        // this is called once, because there is one mount
        let _ = self.device.set(device);
    }

    /// Note that this thread has read a request of the thread `caller`.
    pub fn serve(self: &Arc<Self>, caller: u32) -> Serving<'_> {
        let first = LEAVING.with_borrow_mut(|leaving| {
            let first = leaving.is_none();
            leaving.get_or_insert_with(|| Leaving(Arc::clone(self)));
            first
        });
        self.load.note_request(caller);
        let mut state = self.state.lock();
        state.fresh -= usize::from(first).min(state.fresh);
        state.reading = state.reading.saturating_sub(1);
        if state.answered.is_some_and(|at| at.elapsed() < self.patience) {
            state.misses = 0;
        }
        Serving(self)
    }

    /// Note that this thread is going to wait, or to be busy for a long time. Another one reads
    /// requests meanwhile.
    pub fn hand_on(&self) {
        let mut state = self.state.lock();
        if state.reading + state.looking == 0 && state.parked > 0 {
            state.parked -= 1;
            state.called += 1;
            state.reading += 1;
            self.wake.notify_one();
        }
    }

    /// Wait until this thread should read the next request.
    fn answered(&self) {
        let mut state = self.state.lock();
        if state.reading + state.looking == 0 {
            if self.patience.is_zero() || state.misses >= MISSES_MAX || self.load.is_full() {
                state.answered = Some(Instant::now());
                state.reading += 1;
                return;
            }
            state.looking += 1;
            drop(state);
            let (found, now) = self.look();
            state = self.state.lock();
            state.looking -= 1;
            state.reading += 1;
            state.answered = Some(now);
            state.misses = if found { 0 } else { state.misses + 1 };
            return;
        }
        if state.fresh > 0 || state.ended {
            state.reading += 1;
            return;
        }
        state.parked += 1;
        while state.called == 0 && !state.ended {
            self.wake.wait(&mut state);
        }
        state.called = state.called.saturating_sub(1);
    }

    /// Poll for the next request. Returns whether there is one, and when the polling ended. Other
    /// threads can use the processor in the meantime.
    fn look(&self) -> (bool, Instant) {
        let start = Instant::now();
        let Some(device) = self.device.get() else { return (false, start) };
        loop {
            let found = sys::is_readable(device.as_fd());
            let now = Instant::now();
            if found || now - start >= self.patience {
                return (found, now);
            }
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LOOPS: usize = 4;

    /// Event loops over a pipe of one-byte requests, each answered by `answer`.
    fn serve(
        gate: &Arc<Gate>,
        requests: PipeReader,
        answer: impl Fn(u8) + Send + Sync + 'static,
    ) -> Vec<thread::JoinHandle<()>> {
        gate.watch(requests.as_fd().try_clone_to_owned().expect("duplicate"));
        let (requests, answer) = (Arc::new(requests), Arc::new(answer));
        let event_loop = || {
            let (gate, requests) = (Arc::clone(gate), Arc::clone(&requests));
            let answer = Arc::clone(&answer);
            move || {
                let mut byte = [0];
                while (&*requests).read(&mut byte).expect("read") == 1 {
                    let _serving = gate.serve(0);
                    answer(byte[0]);
                }
            }
        };
        (0..LOOPS).map(|_| thread::spawn(event_loop())).collect()
    }

    #[test]
    fn every_request_is_served_and_every_loop_ends() {
        for patience in [0, 50, 1000] {
            let gate = Arc::new(Gate::new(LOOPS, Duration::from_micros(patience)));
            let (requests, mut kernel) = std::io::pipe().expect("pipe");
            let (answers, answered) = mpsc::channel();
            let loops = serve(&gate, requests, move |n| answers.send(n).expect("send"));
            for n in 0..=255 {
                kernel.write_all(&[n]).expect("write");
                if n % 2 == 0 {
                    assert_eq!(answered.recv().expect("answer"), n);
                } else {
                    answered.recv().expect("answer");
                }
            }
            // parked loops notice the end, too
            drop(kernel);
            for l in loops {
                l.join().expect("loop ends");
            }
        }
    }

    #[test]
    fn a_loop_that_waits_hands_the_lead_on() {
        let gate = Arc::new(Gate::new(LOOPS, Duration::from_micros(50)));
        let (requests, mut kernel) = std::io::pipe().expect("pipe");
        let (release, released) = mpsc::channel::<()>();
        let (answers, answered) = mpsc::channel();
        let released = Mutex::new(released);
        let loops = serve(&gate, requests, {
            let gate = Arc::clone(&gate);
            move |n| {
                if n == 1 {
                    gate.hand_on();
                    released.lock().recv().expect("released");
                }
                answers.send(n).expect("send");
            }
        });
        // all loops except one are parked by now, or will be
        for n in [0, 0, 0, 0, 0, 0, 0, 0] {
            kernel.write_all(&[n]).expect("write");
            assert_eq!(answered.recv().expect("answer"), 0);
        }
        kernel.write_all(&[1, 2]).expect("write");
        assert_eq!(answered.recv().expect("answer"), 2, "while the other one waits");
        release.send(()).expect("send");
        assert_eq!(answered.recv().expect("answer"), 1);
        drop(kernel);
        for l in loops {
            l.join().expect("loop ends");
        }
    }

    #[test]
    fn one_loop_reads_while_the_others_are_parked() {
        let gate = Arc::new(Gate::new(LOOPS, Duration::ZERO));
        let (requests, mut kernel) = std::io::pipe().expect("pipe");
        let (answers, answered) = mpsc::channel();
        let most = Arc::new(AtomicUsize::new(0));
        let loops = serve(&gate, requests, {
            let (gate, most) = (Arc::clone(&gate), Arc::clone(&most));
            move |n| {
                most.store(gate.state.lock().parked, Ordering::Release);
                answers.send(n).expect("send");
            }
        });
        // after every loop has had a request
        let parked = (0..100_000).any(|_| {
            kernel.write_all(&[0]).expect("write");
            answered.recv().expect("answer");
            most.load(Ordering::Acquire) == LOOPS - 1
        });
        assert!(parked);
        drop(kernel);
        for l in loops {
            l.join().expect("loop ends");
        }
    }
}
