//! The errno of each error. There is no other table of this kind.

use fuser::Errno;

use crate::error::Error;
use crate::vfs::{Loss, VfsError};

/// The errno for a failed `operation`. The error is logged, at a level that suits it.
pub(super) fn errno(operation: &'static str, e: &VfsError) -> Errno {
    let (level, errno) = match e {
        VfsError::NotPermitted => (log::Level::Debug, Errno::EPERM),
        VfsError::NotSupported => (log::Level::Debug, Errno::EOPNOTSUPP),
        VfsError::AttrExists => (log::Level::Debug, Errno::EEXIST),
        VfsError::Stale => (log::Level::Warn, Errno::ESTALE),
        VfsError::Lost(Loss::NoSpace) => (log::Level::Debug, Errno::ENOSPC),
        VfsError::Lost(Loss::TooLarge) => (log::Level::Debug, Errno::EFBIG),
        VfsError::Lost(Loss::Failed) => (log::Level::Debug, Errno::EIO),
        VfsError::Core(e) => core_errno(e),
    };
    log::log!(level, "{operation}: {e}");
    errno
}

fn core_errno(e: &Error) -> (log::Level, Errno) {
    let ordinary = match e {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NameTooLong | Error::PathTooLong => Errno::ENAMETOOLONG,
        Error::InvalidName | Error::Invalid(_) => Errno::EINVAL,
        Error::NoSpace => Errno::ENOSPC,
        Error::MapUnfinished => Errno::EAGAIN,
        Error::FileTooLarge => Errno::EFBIG,
        // the errno that xattr(7) gives for a value that does not fit into the filesystem
        Error::AttrTooLarge => Errno::ENOSPC,
        Error::NoAttr => Errno::ENODATA,
        Error::Closed => Errno::EBADF,
        Error::ReadOnly => Errno::EROFS,
        // EUCLEAN would be more exact, but programs know EIO, and the log has the details
        Error::Corrupt(_)
        | Error::Unsupported(_)
        | Error::Internal(_)
        | Error::Image(_)
        | Error::Journal(_) => return (log::Level::Error, Errno::EIO),
        Error::Io(io) => {
            // A full host disk gets its own errno; everything else is a failing device. EFBIG
            // concerns the image file, not the file in the image, so the program gets ENOSPC.
            let errno = match io.source.raw_os_error() {
                Some(libc::ENOSPC | libc::EFBIG) => Errno::ENOSPC,
                Some(libc::EDQUOT) => Errno::EDQUOT,
                _ => Errno::EIO,
            };
            return (log::Level::Error, errno);
        }
    };
    (log::Level::Debug, ordinary)
}

/// The name of each errno that can be an answer.
const NAMES: &[(i32, &str)] = &[
    (libc::EACCES, "EACCES"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EDQUOT, "EDQUOT"),
    (libc::EEXIST, "EEXIST"),
    (libc::EFBIG, "EFBIG"),
    (libc::EINVAL, "EINVAL"),
    (libc::EIO, "EIO"),
    (libc::EISDIR, "EISDIR"),
    (libc::EMSGSIZE, "EMSGSIZE"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG"),
    (libc::ENODATA, "ENODATA"),
    (libc::ENOENT, "ENOENT"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::ENOTEMPTY, "ENOTEMPTY"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EPERM, "EPERM"),
    (libc::ERANGE, "ERANGE"),
    (libc::EROFS, "EROFS"),
    (libc::ESTALE, "ESTALE"),
];

/// The name of an errno.
pub(super) fn name(errno: usize) -> String {
    let known = NAMES.iter().find(|(code, _)| usize::try_from(*code) == Ok(errno));
    known.map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_no_fault_of_the_caller() {
        let (bug, wrong) = (Error::Internal("it went wrong"), Error::Invalid("it is wrong"));
        assert!(matches!(core_errno(&bug), (log::Level::Error, Errno::EIO)));
        assert!(matches!(core_errno(&wrong), (log::Level::Debug, Errno::EINVAL)));
        assert_eq!(bug.to_string(), "internal error: it went wrong; please report this");
    }
}
