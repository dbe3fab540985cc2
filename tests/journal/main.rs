//! Journals: transactions that are appended to a file, over an image that does not change.

mod commit;
mod crash;
mod hostile;
mod lab;
mod live;
mod mend;
mod program;
mod run;
mod states;
