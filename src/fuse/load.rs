//! Whether the machine has an idle processor.
//!
//! While the daemon polls for the next request, it keeps a processor busy. This is faster only if
//! that processor would be idle otherwise: the caller then runs on another one, and waking a thread
//! on an idle processor takes long. If all processors have other work, polling takes time from the
//! callers. Then sleeping is twice as fast, if daemon and caller share a processor: one runs when
//! the other sleeps, and neither waits for other work. So in that case, the daemon moves to the
//! processor of its caller.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::sys;

/// The kernel is asked for its load once in this many requests.
const INTERVAL: u32 = 64;
/// Roughly how many answers of the kernel count: each one moves the average by one part in this
/// many.
const ANSWERS: u32 = 16;
/// The average has this many units for each thread.
const SCALE: u32 = 1024;
/// How many callers are remembered.
const CALLERS: usize = 8;

/// The answers of the kernel so far.
#[derive(Default)]
struct Samples {
    /// The average number of threads that wanted to run while a request was served.
    average: u32,
    /// The last callers, the newest last.
    callers: VecDeque<u32>,
}

impl Samples {
    fn add(&mut self, running: u32, caller: u32) {
        self.average -= self.average / ANSWERS;
        self.average += running.min(u32::from(u16::MAX)) * SCALE / ANSWERS;
        if self.callers.len() == CALLERS {
            self.callers.pop_front();
        }
        self.callers.push_back(caller);
    }

    /// The average without all callers except one, the one that waits now. The others, too, wait
    /// for this daemon most of the time, so they do not fill the processors.
    fn average_of_others(&self) -> u32 {
        let distinct = self.callers.iter().enumerate();
        let distinct =
            distinct.filter(|&(i, caller)| !self.callers.range(..i).any(|c| c == caller));
        self.average.saturating_sub((distinct.count() as u32).saturating_sub(1) * SCALE)
    }

    /// Whether the last two callers are the same.
    fn is_same_caller(&self) -> bool {
        let mut newest = self.callers.iter().rev();
        newest.next() == newest.next()
    }
}

/// How busy the machine is.
pub(super) struct Load {
    /// The load averages of the kernel, with the number of threads that can run now.
    loadavg: Option<File>,
    /// From this average on, no processor is idle.
    limit: u32,
    requests: AtomicU32,
    samples: Mutex<Samples>,
    is_full: AtomicBool,
}

impl Load {
    pub fn new() -> Self {
        // on a single processor, the caller cannot run while this daemon polls
        let is_alone = sched_getaffinity(None).is_ok_and(|allowed| allowed.count() == 1);
        let processors = if is_alone { 1 } else { sys::processors() };
        Self::of(File::open("/proc/loadavg").ok(), processors)
    }

    fn of(loadavg: Option<File>, processors: u32) -> Self {
        Self {
            loadavg,
            // a busy thread may pause at the moment when the kernel is asked
            limit: processors.saturating_mul(SCALE) - SCALE / 8,
            requests: AtomicU32::new(0),
            samples: Mutex::default(),
            is_full: AtomicBool::new(false),
        }
    }

    /// Note that this thread has read a request of the thread `caller`. The caller waits, so if
    /// nothing else runs, only this thread does.
    pub fn note_request(&self, caller: u32) {
        if !self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(INTERVAL) {
            return;
        }
        let Some(running) = self.running() else { return };
        let mut samples = self.samples.lock();
        samples.add(running, caller);
        let is_full = samples.average_of_others() >= self.limit;
        self.is_full.store(is_full, Ordering::Relaxed);
        if is_full
            && samples.is_same_caller()
            && let Some(processor) = processor_of(caller)
            && processor != sched_getcpu()
        {
            drop(samples);
            move_to(processor);
        }
    }

    /// Whether no processor would be idle if this daemon slept.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// How many threads of the machine run or are ready to run now. `None` if the kernel does not
    /// say.
    fn running(&self) -> Option<u32> {
        let mut text = [0; 64];
        let len = self.loadavg.as_ref()?.read_at(&mut text, 0).ok()?;
        // three averages, then the numbers of running threads and of all threads
        let counts = std::str::from_utf8(text.get(..len)?).ok()?.split(' ').nth(3)?;
        counts.split('/').next()?.parse().ok()
    }
}

/// The processor on which a thread ran last. `None` if that cannot be found out, for example
/// because the thread is in another PID namespace.
fn processor_of(thread: u32) -> Option<usize> {
    let stat = std::fs::read(format!("/proc/{thread}/stat")).ok()?;
    // the name of the program is in parentheses, and may contain anything
    let end = stat.iter().rposition(|&b| b == b')')?;
    let fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    // field 39, where the field after the name is number 3
    fields.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

/// Let this thread continue on another processor. The scheduler may move it again at any time.
fn move_to(processor: usize) {
    let mut only = CpuSet::new();
    let Ok(allowed) = sched_getaffinity(None) else { return };
    if processor < CpuSet::MAX_CPU && allowed.is_set(processor) {
        only.set(processor);
        // if this fails, the daemon is only slower
        let _ = sched_setaffinity(None, &only);
        let _ = sched_setaffinity(None, &allowed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A load of two processors. [`say`] changes what the kernel says.
    fn load() -> (Load, File) {
        let file = tempfile::tempfile().expect("a file");
        let load = Load::of(Some(file.try_clone().expect("a copy")), 2);
        (load, file)
    }

    fn say(file: &File, running: u32) {
        file.set_len(0).expect("empty");
        file.write_all_at(format!("0.52 0.58 0.59 {running}/467 12345\n").as_bytes(), 0)
            .expect("say");
    }

    /// Note requests of `callers` callers in turn, until the kernel has been asked `count` times.
    fn requests(load: &Load, count: u32, callers: u32) {
        (0..count * INTERVAL).for_each(|i| load.note_request(i / INTERVAL % callers));
    }

    #[test]
    fn a_busy_thread_beside_the_daemon_fills_two_processors() {
        let (load, file) = load();
        say(&file, 1);
        requests(&load, 100, 1);
        assert!(!load.is_full());
        say(&file, 2);
        requests(&load, 8, 1);
        assert!(!load.is_full(), "a moment is not enough");
        requests(&load, 100, 1);
        assert!(load.is_full());
        say(&file, 1);
        requests(&load, 100, 1);
        assert!(!load.is_full());
    }

    #[test]
    fn a_single_processor_is_always_full() {
        let file = tempfile::tempfile().expect("a file");
        let load = Load::of(Some(file.try_clone().expect("a copy")), 1);
        say(&file, 1);
        requests(&load, 100, 1);
        assert!(load.is_full());
    }

    #[test]
    fn other_callers_do_not_fill_the_processors() {
        for callers in 2..=4 {
            let (load, file) = load();
            // all of them want to run, except for the one that waits for the daemon
            say(&file, callers);
            requests(&load, 100, callers);
            assert!(!load.is_full(), "{callers} callers");
            say(&file, callers + 2);
            requests(&load, 100, callers);
            assert!(load.is_full(), "{callers} callers and two busy threads");
        }
    }

    #[test]
    fn without_an_answer_a_processor_counts_as_idle() {
        for text in ["", "0.1", "a b c d/e", "0.52 0.58 0.59 -1/467"] {
            let (load, mut file) = load();
            file.write_all(text.as_bytes()).expect("write");
            requests(&load, 100, 1);
            assert!(!load.is_full(), "{text}");
        }
        let load = Load::of(None, 2);
        requests(&load, 100, 1);
        assert!(!load.is_full());
    }

    #[test]
    fn the_processor_of_a_thread_is_found() {
        let stat = std::fs::read_link("/proc/thread-self").expect("this thread");
        let thread: u32 =
            stat.file_name().expect("a number").to_string_lossy().parse().expect("it");
        assert!(processor_of(thread).is_some_and(|processor| processor < CpuSet::MAX_CPU));
        assert_eq!(processor_of(u32::MAX), None);
        let allowed = sched_getaffinity(None).expect("affinity");
        let here = sched_getcpu();
        move_to(here);
        assert_eq!(sched_getaffinity(None).expect("affinity"), allowed);
    }
}
