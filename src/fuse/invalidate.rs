//! Telling the kernel what to forget.

use std::io;
use std::sync::mpsc::Receiver;
use std::thread;

use fuser::{INodeNo, Notifier};

/// Content that the kernel shows although it could not be stored.
pub(super) struct Stale {
    pub ino: INodeNo,
    /// Start of the range, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Tell the kernel to forget each range that is received, until there is no sender any more.
///
/// During the call, the kernel waits for pages that are being written, and first writes dirty pages
/// of the range. So it may need answers from this filesystem before the call returns. Therefore
/// this runs in a thread of its own: a thread that serves requests would wait for itself.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(notifier: Notifier, ranges: Receiver<Stale>) -> io::Result<()> {
    let forget = move || {
        for Stale { ino, offset, len } in ranges {
            let (offset, len) = (offset.cast_signed(), len.cast_signed());
            if let Err(e) = notifier.inval_inode(ino, offset, len) {
                log::debug!(
                    "the kernel cannot drop {len} cached bytes at offset {offset} of inode \
                     {ino}: {e}"
                );
            }
        }
    };
    thread::Builder::new().name("invalidator".to_owned()).spawn(forget).map(drop)
}
