//! What a panic leaves half changed in memory is never written.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use littlefs::error::Error;
use littlefs::fs::Fs;
use littlefs::kv::{self, Key, Store};

use super::device::Judged;
use super::{geometry, options, prepared, sound, workload};
use testkit::calls::Subject;
use testkit::ours::Ours;

const PANIC: &str = "a device that panics";

/// A device that panics after `left` calls.
fn panicking(image: Vec<u8>, left: &Arc<AtomicU64>) -> Arc<Judged> {
    let left = Arc::clone(left);
    Judged::new(image, move |_, _| {
        if left.fetch_sub(1, Relaxed) == 0 {
            // as panic!, but without a word on standard error
            resume_unwind(Box::new(PANIC));
        }
        Ok(())
    })
}

/// Whether `f` panicked like the device.
fn panics<T>(f: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => false,
        Err(panic) => match panic.downcast_ref::<&str>() {
            Some(&said) if said == PANIC => true,
            _ => resume_unwind(panic),
        },
    }
}

#[test]
fn a_panic_turns_read_only() {
    let (image, _) = prepared();
    let mut panicked = 0;
    for n in 0.. {
        let dev = panicking(image.clone(), &Arc::new(n.into()));
        let mut ours = Ours::open(geometry(), image.clone(), &options()).expect("open");
        if panics(|| ours.fs = Fs::open(dev.clone(), &options()).expect("open")) {
            continue;
        }
        // a flush after each list
        let mut steps =
            workload().into_iter().flat_map(|calls| calls.into_iter().map(Some).chain([None]));
        let stopped = steps.any(|step| {
            panics(|| match step {
                Some(call) => ours.apply(&call).expect("a call"),
                None => ours.fs.flush().expect("flush"),
            })
        });
        if !stopped {
            break;
        }
        panicked += 1;
        assert!(ours.fs.is_read_only(), "call {n}");
        assert!(ours.fs.turned_read_only().is_some_and(|why| why.contains("internal error")));
        let before = dev.dev.image();
        for call in workload().iter().flatten() {
            assert!(!panics(|| ours.apply(call)), "call {n}, then {call:?}");
        }
        let flushed = ours.fs.flush();
        assert!(matches!(flushed, Ok(()) | Err(Error::ReadOnly)), "call {n}: {flushed:?}");
        assert!(dev.dev.image() == before, "written after a panic at call {n}");
        sound(&before, &format!("panic at call {n}"));
    }
    assert!(panicked > 40, "{panicked} panics");
}

#[test]
fn a_store_that_panicked_refuses_changes() {
    let (image, _) = prepared();
    let left = Arc::new(u64::MAX.into());
    let dev = panicking(image, &left);
    let store = Store::connect(dev.clone(), &kv::Options::default()).expect("connect");
    let key = |name: &str| Key::new(name).expect("key");
    store.set(&key("before"), b"1").expect("set");
    left.store(1, Relaxed);
    assert!(panics(|| store.set(&key("during"), b"2")));
    let before = dev.dev.image();
    assert!(matches!(store.set(&key("after"), b"3"), Err(kv::Error::Core(Error::ReadOnly))));
    assert_eq!(store.get(&key("before")).expect("reads go on"), b"1");
    assert!(store.disconnect().is_err(), "what was to be durable is not");
    assert!(dev.dev.image() == before);
    sound(&before, "a panic in a set");
}
