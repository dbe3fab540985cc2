//! Passing requests to the volume, and counting them.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{
    Errno, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
};

use super::errno::{self, errno};
use super::gate::Gate;
use crate::vfs::{VfsError, Volume};

macro_rules! operations {
    ($($variant:ident = $name:literal,)*) => {
        /// The kinds of requests.
        #[derive(Clone, Copy)]
        pub(super) enum Operation { $($variant),* }

        /// The name of each kind, in the same order.
        const NAMES: &[&str] = &[$($name),*];
    };
}

operations! {
    Lookup = "lookup",
    GetAttr = "getattr",
    SetAttr = "setattr",
    ReadLink = "readlink",
    MkNod = "mknod",
    MkDir = "mkdir",
    Unlink = "unlink",
    RmDir = "rmdir",
    SymLink = "symlink",
    Rename = "rename",
    Read = "read",
    Write = "write",
    Fsync = "fsync",
    ReadDir = "readdir",
    ReadDirPlus = "readdirplus",
    FsyncDir = "fsyncdir",
    StatFs = "statfs",
    SetXattr = "setxattr",
    GetXattr = "getxattr",
    ListXattr = "listxattr",
    RemoveXattr = "removexattr",
    Access = "access",
    Allocate = "fallocate",
    CopyRange = "copy_file_range",
    Status = "status",
    Remount = "remount",
}

impl Operation {
    fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// All errnos are smaller than this.
const ERRNOS: usize = 134;

/// How many requests were served and how many errors were answered since the mount. Counting never
/// blocks.
struct Counts {
    operations: [AtomicU64; NAMES.len()],
    errors: [AtomicU64; ERRNOS],
}

/// What a request may be answered with.
pub(super) trait Reply {}

macro_rules! replies {
    ($($reply:ty),*) => { $(impl Reply for $reply {})* };
}

replies!(ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry);
replies!(ReplyIoctl, ReplyStatfs, ReplyWrite, ReplyXattr);

/// The volume. It can be reached only by serving a request.
pub(super) struct Server {
    volume: Arc<Volume>,
    /// Which thread reads the next request.
    gate: Arc<Gate>,
    counts: Counts,
}

impl Server {
    pub fn new(volume: Arc<Volume>, gate: Arc<Gate>) -> Self {
        let counts = Counts {
            operations: [const { AtomicU64::new(0) }; NAMES.len()],
            errors: [const { AtomicU64::new(0) }; ERRNOS],
        };
        Self { volume, gate, counts }
    }

    /// Serve one request. `answer` must send the reply: after it returns, this thread may sleep
    /// until it is needed again, and the caller would wait for the reply all that time.
    pub fn serve<R: Reply>(
        &self,
        request: &Request,
        operation: Operation,
        reply: R,
        answer: impl FnOnce(&Served<'_>, R),
    ) {
        // Asking for the status changes nothing, so it does not interrupt a pause.
        if !matches!(operation, Operation::Status) {
            self.volume.request();
        }
        let _serving = self.gate.serve(request.pid());
        self.counts.operations[operation as usize].fetch_add(1, Ordering::Relaxed);
        answer(&Served { volume: &self.volume, counts: &self.counts, operation }, reply);
    }

    /// Note that the kernel dropped `count` references to an inode. This is not a request of a
    /// program: it does not interrupt the pause that triggers a flush, and nobody waits for an
    /// answer.
    pub fn forget(&self, ino: u64, count: u64) {
        self.volume.forget(ino, count);
    }
}

/// The volume while it serves one request.
pub(super) struct Served<'a> {
    volume: &'a Volume,
    counts: &'a Counts,
    operation: Operation,
}

impl Served<'_> {
    /// The errno to answer with. The error is logged and counted.
    pub fn errno(&self, e: &VfsError) -> Errno {
        self.refuse(errno(self.operation.name(), e))
    }

    /// Count a refusal that comes from the adapter itself. Returns the errno to answer with.
    pub fn refuse(&self, errno: Errno) -> Errno {
        let counter = usize::try_from(errno.code()).ok().and_then(|i| self.counts.errors.get(i));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        errno
    }

    /// How many requests of each kind were served so far, and how many errors were answered.
    pub fn counted(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let seen = |counters: &[AtomicU64], name: &dyn Fn(usize) -> String| {
            let each = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).enumerate();
            each.filter(|&(_, count)| count > 0).map(|(i, count)| (name(i), count)).collect()
        };
        (
            seen(&self.counts.operations, &|i| NAMES[i].to_owned()),
            seen(&self.counts.errors, &errno::name),
        )
    }
}

impl Deref for Served<'_> {
    type Target = Volume;

    fn deref(&self) -> &Volume {
        self.volume
    }
}
