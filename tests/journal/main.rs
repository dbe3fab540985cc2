//! Journals: transactions that are appended to a file, over an image that does not change.

mod checksums;
mod commit;
mod crash;
mod fixture;
mod hostile;
mod live;
mod program;
mod run;
mod states;
