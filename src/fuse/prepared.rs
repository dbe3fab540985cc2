//! An image that is open and ready to be mounted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::failure::MountError;
use super::options::MountOptions;
use super::session::MountRequest;
use super::status::{self, AS_ASKED, About};
use crate::bd::{BlockDevice, Geometry};
use crate::convention::{Codec, Convention};
use crate::error::{Error, IoError, IoOp, Result};
use crate::files::Directory;
use crate::fs::{Fs, OpenOptions};
use crate::image::{self, Opened, Source};
use crate::journal::{self, Attached, Named};
use crate::show::Show;
use crate::sys;
use crate::transactions::{JournalDevice, NAME_RULE, Reason};
use crate::vfs::{Filesystem, Savepoints, Stored, VfsResult, Volume, VolumeOptions};

/// The image and the journal to mount, which have been found already, so that each path is resolved
/// only once.
pub(crate) struct Found {
    /// The file that holds the image.
    pub source: Source,
    /// The journal, if one was requested.
    pub journal: Option<Named>,
    /// Whether to leave out the message that says where in the file the filesystem was found.
    pub unattended: bool,
}

/// An open image, and everything that is known about it before it is mounted.
pub(crate) struct Prepared {
    /// The absolute path of the image.
    pub image: PathBuf,
    pub options: MountOptions,
    pub volume: Arc<Volume>,
    /// Holds the lock on the image.
    pub device: Arc<dyn BlockDevice>,
    /// The state of the filesystem when it was opened.
    pub filesystem: Filesystem,
    /// The convention by which user attributes are used.
    pub convention: Option<&'static Convention>,
    pub about: About,
    /// Whether the mount is read-only from the start.
    read_only: bool,
    /// The umask of this process.
    umask: u16,
}

impl Prepared {
    /// Open `found`, whose absolute path is `image`.
    ///
    /// # Errors
    /// When the image or the journal cannot be opened, or the filesystem cannot be used with these
    /// options.
    pub fn open(
        image: &Path,
        found: &mut Found,
        options: &MountOptions,
    ) -> Result<Self, MountError> {
        let umask = sys::umask();
        let (opened, savepoints) = open_image(found, options)?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        let at_image = |error: Error| MountError::Filesystem { image: image.to_owned(), error };
        let mut fs = open_filesystem(&opened, options).map_err(at_image)?;
        for warning in fs.warnings() {
            log::warn!("{}: {warning}", image.show());
        }
        // if something cannot be read now, the background thread tries again, and reports the error
        let _ = fs.map_early();
        let read_only = fs.is_read_only();
        let about = about(image, &opened, options, found.unattended, fs.turned_read_only());
        let convention = convention(image, &fs, options)?;
        // what cannot be read now is an error again when it is used
        let usage = opened.usage_as_stored().ok().flatten();
        let stored = usage.map(|usage| Stored { version: opened.superblock.version, usage });
        let filesystem = Filesystem::of(&fs, stored.as_ref());
        let image_time = opened.metadata.modified().unwrap_or_else(|_| SystemTime::now());
        let volume = options.volume(umask, convention, image_time);
        let volume = Volume::new(fs, VolumeOptions { stored, ..volume });
        if let Some(savepoints) = savepoints {
            volume.keep_savepoints(savepoints);
        }
        Ok(Self {
            image: image.to_owned(),
            options: options.clone(),
            volume: Arc::new(volume),
            device: opened.device,
            filesystem,
            convention,
            about,
            read_only,
            umask,
        })
    }

    /// Block size and block count.
    pub fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    /// The request for mounting it on `mountpoint`.
    pub fn request<'a>(&'a self, mountpoint: &'a Directory) -> MountRequest<'a> {
        let options = &self.options;
        MountRequest {
            source: &self.image,
            mountpoint,
            access: options.access,
            flags: options.flags(self.read_only),
            default_permissions: self.volume.keeps_owners()
                || options.checks_permissions(self.umask),
            writeback: options.gathers_writes(),
            poll: options.poll,
            about: self.about.clone(),
        }
    }
}

impl Savepoints for JournalDevice {
    fn exists(&self, name: &[u8]) -> bool {
        str::from_utf8(name).is_ok_and(|name| self.savepoint(name).is_some())
    }

    fn last(&self) -> Option<String> {
        self.last_savepoint()
    }

    fn save(&self, name: &[u8]) -> VfsResult<()> {
        let bad_name = Error::Invalid(NAME_RULE);
        let Ok(name) = str::from_utf8(name) else { return Err(bad_name.into()) };
        Self::save(self, name).map_err(|reason| match reason {
            Reason::BadName(_) => bad_name.into(),
            Reason::Io(source) => Error::Io(IoError { op: IoOp::Sync, block: None, source }).into(),
            // after a failed write, it is not known what the journal holds
            reason => {
                let source = io::Error::other(reason);
                Error::Io(IoError { op: IoOp::Sync, block: None, source }).into()
            }
        })
    }
}

/// Open the image. If a journal was requested, it is put over the image and keeps savepoints.
fn open_image(
    found: &mut Found,
    options: &MountOptions,
) -> Result<(Opened, Option<Arc<JournalDevice>>), MountError> {
    let for_image = image::Options { auto_for_reading: found.unattended, ..options.image() };
    let Some(journal) = &mut found.journal else {
        if options.at.is_some() {
            return Err(
                Error::Invalid("a past state can be chosen only together with a journal").into()
            );
        }
        if !options.read_only {
            journal::finish_interrupted(&found.source)?;
        } else if let Some(e) = journal::interruption(found.source.path()) {
            log::warn!("{e}");
        }
        return Ok((image::open_found(&found.source, &for_image)?, None));
    };
    let attached = journal::attach(journal, &found.source, &for_image, options.at.as_ref());
    let Attached { image, device } = attached?;
    let writes = !image.read_only;
    Ok((image, writes.then_some(device)))
}

fn open_filesystem(opened: &Opened, options: &MountOptions) -> Result<Fs> {
    let profile = options.profile;
    let block_size = opened.device.geometry().block_size;
    Fs::open(
        opened.device.clone(),
        &OpenOptions {
            read_only: opened.read_only,
            prog_size: options.prog_size.or(profile.and_then(|p| p.prog_size)),
            inline_max: options.inline_max.or(profile.and_then(|p| p.inline_max(block_size))),
            block_cycles: options.block_cycles,
            cache: options.cache,
            // the caller logs them together with the name of the image
            quiet: true,
            ..OpenOptions::default()
        },
    )
}

/// The convention by which user attributes are used.
fn convention(
    image: &Path,
    fs: &Fs,
    options: &MountOptions,
) -> Result<Option<&'static Convention>, MountError> {
    let Some(c) = options.convention(fs.attr_usage()) else { return Ok(None) };
    let attr_max = fs.superblock().attr_max;
    let largest = Codec::new(c, fs.attr_usage()).largest();
    if largest <= attr_max {
        log::info!("{}: uses attributes like {} (attrs={})", image.show(), c.who, c.name);
        if let Some(note) = c.note_on(fs.attr_usage()).filter(|_| !fs.is_read_only()) {
            log::warn!("{}: {note}", image.show());
        }
        return Ok(Some(c));
    }
    if options.chooses_convention() {
        let image = image.to_owned();
        return Err(MountError::Attributes { image, convention: c.name, largest, attr_max });
    }
    log::warn!(
        "{}: attrs={} needs attributes of {largest} bytes, but the image allows only {attr_max}; \
         mounted as with attrs=none",
        image.show(),
        c.name,
    );
    Ok(None)
}

/// The facts about the mount that `status` reports. `unattended` says that a place that was found
/// by a search may only be read. `turned` is the reason if the filesystem became read-only although
/// nobody asked for that.
fn about(
    image: &Path,
    opened: &Opened,
    options: &MountOptions,
    unattended: bool,
    turned: Option<&str>,
) -> About {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let dialect = opened.dialect.unwritable().map(|reason| reason.about(&image.show()));
    let read_only = match turned {
        _ if options.at.is_some() => Some("a past state of a journal (-o at=)"),
        _ if !opened.wrapped.is_empty() => Some("wrapped images can only be read"),
        _ if opened.doubt.is_some() => Some("it may not be the right filesystem"),
        _ if dialect.is_some() => dialect.as_deref(),
        _ if opened.missing > 0 => Some("the image is truncated"),
        Some(turned) => Some(turned),
        // This reason comes last, because it is the only one that can end during the mount.
        None if options.read_only => Some(AS_ASKED),
        None if unattended && opened.automatic => {
            Some("the start of its filesystem was not given (-o offset=)")
        }
        None if opened.read_only => Some("the image file cannot be written"),
        None => None,
    };
    About {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        mounted_at: now.unwrap_or_default().as_secs(),
        offset: opened.offset,
        profile: options.profile.map(|p| p.name.to_owned()),
        journal: status::Journal::new(options.journal.as_deref()),
        read_only: read_only.map(str::to_owned),
    }
}
