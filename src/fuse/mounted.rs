//! A mount from its start to its end: the threads that run beside the requests, and the last flush.

use std::fs;
use std::io;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::failure::MountError;
use super::fusermount::unmount;
use super::options::MountOptions;
use super::prepared::{Found, Prepared};
use super::session::{self, End, Session, unmount_dead};
use crate::bd::BlockDevice;
use crate::error::Result;
use crate::files::{self, Directory};
use crate::image::Source;
use crate::journal::Named;
use crate::show::Show;
use crate::sys::{self, Unmount};
use crate::vfs::{ROOT_INO, Volume};

/// An image that is mounted on a directory, and served by threads of this process.
///
/// [`Mounted::finish`] unmounts it, and returns whether everything was written. Dropping it
/// unmounts it, too, but a failure is only logged.
///
/// **A process must not use its own mount while it ends**: if a thread is in a system call on the
/// mount when the process exits or dies, that call fails, and so do the calls of everybody else who
/// uses the mount.
pub struct Mounted {
    volume: Arc<Volume>,
    /// Holds the lock on the image.
    _device: Arc<dyn BlockDevice>,
    mountpoint: PathBuf,
    /// Whether the kernel may hold back changes that this process does not know.
    writeback: bool,
    end: End,
    flusher: Option<JoinHandle<()>>,
    mapper: Option<JoinHandle<()>>,
    /// What must be done when this is dropped.
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// Unmounted and flushed, or given up.
    Over,
}

impl MountOptions {
    /// Mount the image in the file or on the block device at `image` on the directory `mountpoint`,
    /// and serve it until [`Mounted::finish`].
    ///
    /// For root, this calls mount(2). For other users, it runs `fusermount3`. The working directory
    /// of the process changes for a moment.
    ///
    /// # Errors
    /// When the image or the journal cannot be opened, or the image cannot be mounted there. Then
    /// nothing is mounted.
    pub fn mount(
        &self,
        image: impl AsRef<Path>,
        mountpoint: impl AsRef<Path>,
    ) -> Result<Mounted, MountError> {
        let (image, mountpoint) = (image.as_ref(), mountpoint.as_ref());
        let directory = Directory::find(mountpoint)
            .map_err(|error| MountError::Directory { mountpoint: mountpoint.to_owned(), error })?;
        let journal = self.journal.as_deref().map(Named::find).transpose()?;
        let mut found = Found { source: Source::find(image)?, journal, unattended: false };
        let image = fs::canonicalize(image).unwrap_or_else(|_| image.to_owned());
        let prepared = Prepared::open(&image, &mut found, self)?;
        let session = session::mount(Arc::clone(&prepared.volume), &prepared.request(&directory));
        Mounted::start(prepared, session, &directory)
    }
}

impl Mounted {
    /// Serve the filesystem that is mounted as `session` on `directory`.
    ///
    /// # Errors
    /// When the filesystem could not be mounted, or does not answer.
    pub(crate) fn start(
        prepared: Prepared,
        session: io::Result<Session>,
        directory: &Directory,
    ) -> Result<Self, MountError> {
        let mountpoint = directory.path();
        let run = |session: Session| session.run().inspect_err(|_| unmount_dead(directory));
        let end = session
            .and_then(run)
            .map_err(|error| MountError::Refused { mountpoint: mountpoint.clone(), error })?;
        // From here on, dropping this unmounts.
        let mut this = Self {
            volume: prepared.volume,
            _device: prepared.device,
            // The directory may have another name by now.
            mountpoint,
            writeback: prepared.options.gathers_writes(),
            end,
            flusher: None,
            mapper: None,
            state: State::Serving,
        };
        match this.answers().and_then(|()| this.start_threads()) {
            Ok(()) => Ok(this),
            Err(error) => {
                let _ = unmount(&this.mountpoint, Unmount::Lazily);
                this.state = State::Over;
                Err(MountError::Silent { mountpoint: this.mountpoint.clone(), error })
            }
        }
    }

    /// Check that the root directory of the mount answers.
    fn answers(&self) -> io::Result<()> {
        let root = fs::metadata(&self.mountpoint)?;
        if root.ino() == ROOT_INO { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn start_threads(&mut self) -> io::Result<()> {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        self.flusher = Some(named("flusher").spawn({
            let (volume, mountpoint) = (Arc::clone(&self.volume), self.mountpoint.clone());
            let writeback = self.writeback;
            move || {
                let pull = || pull_pages(&mountpoint);
                volume.run_flusher(writeback.then_some(&pull));
            }
        })?);
        self.mapper = Some(named("mapper").spawn({
            let volume = Arc::clone(&self.volume);
            move || volume.run_mapper()
        })?);
        Ok(())
    }

    /// The directory it is mounted on, as an absolute path without links.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Make everything durable that was changed so far, as sync(1) does.
    ///
    /// # Errors
    /// When the image cannot be written. What was durable before still is.
    pub fn flush(&self) -> Result<()> {
        pull_pages(&self.mountpoint);
        self.volume.flush()
    }

    /// Wait until somebody unmounts it. After that, [`Mounted::finish`] tells whether everything
    /// was written.
    pub fn wait(&self) {
        self.end.wait();
    }

    /// A value that tells when it is unmounted.
    pub(crate) fn end(&self) -> End {
        self.end.clone()
    }

    /// Unmount it, write everything, and release the image. If it is already unmounted, this
    /// returns at once. If it is mounted a second time, as a bind mount or in a container, this
    /// waits for the end of that mount.
    ///
    /// If a process has files of it open, or its working directory is there, the mount disappears
    /// only from the directory tree. The next call by which such a process uses the mount waits
    /// until the process that serves the mount ends, so that no change is confirmed and lost later.
    /// The image stays locked until then.
    ///
    /// # Errors
    /// When the last changes cannot be written. Then they are lost. What was durable before still
    /// is.
    pub fn finish(mut self) -> Result<()> {
        self.finish_now()
    }

    fn finish_now(&mut self) -> Result<()> {
        match (!self.end.is_reached()).then(|| self.leave()).flatten() {
            Some(flushed) => flushed,
            None => {
                self.end.wait();
                self.close()
            }
        }
    }

    /// Write everything, and unmount it. If nobody uses it, the mount ends soon, and this returns
    /// `None`. Otherwise, no request is answered after the last flush, and this returns the result
    /// of that flush.
    pub(crate) fn leave(&mut self) -> Option<Result<()>> {
        pull_pages(&self.mountpoint);
        // This does most of the work while requests are still answered; a failure appears again
        // below.
        let _ = self.volume.flush();
        if unmount(&self.mountpoint, Unmount::Unused).is_ok() {
            return None;
        }
        if let Err(e) = unmount(&self.mountpoint, Unmount::Lazily) {
            log::error!("cannot unmount {}: {e}", self.mountpoint.show());
        }
        Some(self.freeze())
    }

    /// Write everything, and answer no request any more until this process ends.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.state = State::Over;
        self.volume.flush_and_freeze()
    }

    /// Stop the other threads and write everything. This is called when there are no requests any
    /// more.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.state = State::Over;
        self.volume.stop();
        for thread in [self.flusher.take(), self.mapper.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        self.volume.flush()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if mem::replace(&mut self.state, State::Over) == State::Serving {
            // a failure is logged
            let _ = self.finish_now();
        }
    }
}

/// Make the kernel send the pages that it holds back. A thread that serves requests must not call
/// this.
fn pull_pages(mountpoint: &Path) {
    let pulled = files::open(mountpoint).and_then(|root| sys::syncfs(&root));
    if let Err(e) = pulled {
        log::warn!("{}: cannot get the unwritten data from the kernel: {e}", mountpoint.show());
    }
}
