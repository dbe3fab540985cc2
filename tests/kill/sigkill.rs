//! SIGKILL at random moments: what was synced is there, and everything else is old or new.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::load::{Load, sync_dir};
use testkit::mounted::{Mounted, littlefs, output, run, wait_until};

/// How many times the daemon is killed for each set of mount options, with a factor of 1.
const KILLS: u32 = 110;
/// The number of threads that work at the same time.
const THREADS: u64 = 4;
/// The longest time before a kill.
const LONGEST: u64 = 150_000;

fn factor() -> u32 {
    let text = std::env::var("LITTLEFS_KILL_FACTOR").unwrap_or_else(|_| "1".to_owned());
    text.parse().expect("LITTLEFS_KILL_FACTOR should be a number")
}

fn killed_again_and_again(options: &str, seed: u64) {
    let mut m = Mounted::with_options("4M", options);
    let mut loads: Vec<Load> = (0..THREADS)
        .map(|n| {
            let dir = m.path(&format!("t{n}"));
            fs::create_dir(&dir).expect("mkdir");
            Load::new(dir, seed + n)
        })
        .collect();
    sync_dir(&m.dir()).expect("fsync");
    let mut moment = seed;
    for round in 0..KILLS * factor() {
        moment =
            moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let daemon = m.daemon();
        thread::scope(|scope| {
            for load in &mut loads {
                scope.spawn(|| load.run());
            }
            thread::sleep(Duration::from_micros((moment >> 33) % LONGEST));
            run(Command::new("kill").args(["-KILL", &daemon]));
        });
        // Taking the lock here, to see whether it is free, would lend it to children of other
        // tests.
        wait_until("the end of the daemon", || {
            let check = output(littlefs().arg("check").arg(m.image()));
            let in_use = String::from_utf8_lossy(&check.stderr).contains("in use");
            assert!(in_use || check.status.success(), "{options}, kill {round}: {check:?}");
            !in_use
        });
        // The mount clears the dead one away.
        m.mount(options);
        for (n, load) in loads.iter_mut().enumerate() {
            if let Err(wrong) = load.ledger.recover(&load.dir) {
                panic!("{options}, seed {seed}, kill {round}, thread {n}:\n{wrong}");
            }
        }
    }
    let (operations, fsyncs) =
        loads.iter().fold((0, 0), |(o, s), load| (o + load.operations, s + load.fsyncs));
    println!("{options}: {} kills, {operations} operations, {fsyncs} fsyncs", KILLS * factor());
    assert!(operations > u64::from(KILLS), "the load did nothing");
    // The first change finishes a move that the last kill interrupted: until then the C driver does
    // not see the entry behind the one that moves.
    fs::write(m.path("last"), b"").expect("write");
    m.finish();
}

#[test]
fn killed_under_load() {
    killed_again_and_again("rw", 1);
}

#[test]
fn killed_under_load_with_gathered_writes() {
    killed_again_and_again("writeback", 2);
}

#[test]
fn killed_under_load_while_every_change_is_synced() {
    killed_again_and_again("sync", 3);
}

#[test]
fn killed_under_load_with_attributes_kept() {
    killed_again_and_again("attrs=unix", 4);
}
