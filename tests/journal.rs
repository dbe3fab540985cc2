//! Journals: append-only transactions over an image that stays as it is.

mod common;

#[path = "journal/commit.rs"]
mod commit;
#[path = "journal/crash.rs"]
mod crash;
#[path = "journal/hostile.rs"]
mod hostile;
#[path = "journal/lab.rs"]
mod lab;
#[path = "journal/live.rs"]
mod live;
#[path = "journal/mend.rs"]
mod mend;
#[expect(dead_code)]
#[path = "mount/mounted.rs"]
mod mounted;
#[path = "journal/program.rs"]
mod program;
#[path = "journal/run.rs"]
mod run;
#[path = "journal/states.rs"]
mod states;
