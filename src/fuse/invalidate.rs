//! What the kernel is told to forget.

use std::io;
use std::sync::mpsc::Receiver;
use std::thread;

use fuser::{INodeNo, Notifier};

/// Content that the kernel shows and that was not kept.
pub(super) struct Stale {
    pub ino: INodeNo,
    /// Start of the range, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Have the kernel forget each range that comes, until nobody can send any more.
///
/// The kernel waits for pages that are being written, and writes dirty ones of the range itself, so
/// it may need answers of the very filesystem before this call returns. That is why it has a thread
/// of its own: one that serves requests would wait for itself.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(notifier: Notifier, ranges: Receiver<Stale>) -> io::Result<()> {
    let forget = move || {
        for Stale { ino, offset, len } in ranges {
            let (offset, len) = (offset.cast_signed(), len.cast_signed());
            if let Err(e) = notifier.inval_inode(ino, offset, len) {
                log::debug!("the kernel keeps {len} bytes at {offset} of inode {ino}: {e}");
            }
        }
    };
    thread::Builder::new().name("invalidator".to_owned()).spawn(forget).map(drop)
}
