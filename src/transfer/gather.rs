//! Collecting entries for an image from directories, files and tar streams of the host.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::manifest::{Item, Kind, Manifest, Source, Stat};
use super::pattern::Patterns;
use super::tar_in::{self, normalized};
use crate::check::show;
use crate::show::{cause, count};

const NANOS: i64 = 1_000_000_000;

/// One place to collect from.
pub enum Input<'a> {
    /// A directory whose content goes to the root of the image, or a file that goes there under its
    /// own name.
    Path(PathBuf),
    /// A directory or a file that goes to the root of the image under its own name.
    Named(PathBuf),
    /// Some files below a directory, each under its path relative to that directory, with its
    /// parent directories.
    Listed {
        /// The directory.
        directory: PathBuf,
        /// The paths of the files.
        paths: Vec<Vec<u8>>,
    },
    /// A tar stream, whose paths begin at the root of the image.
    Tar(&'a mut dyn Read),
}

/// The treatment of symbolic links of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Links {
    /// Their targets are stored in their place.
    Follow,
    /// The same for links to files. Other links are left out.
    FollowToFiles,
    /// They are stored as links. Only some conventions for attributes allow this.
    Store,
    /// They are an error.
    Refuse,
}

/// How entries are collected.
#[derive(Debug)]
pub struct Gather {
    /// The entries to be left out.
    pub exclude: Patterns,
    /// The treatment of symbolic links.
    pub links: Links,
    /// The owner and group for everything, instead of those on the host.
    pub owner: Option<(u32, u32)>,
    /// The upper limit for all times, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub latest: Option<i64>,
}

/// Why nothing was collected.
#[derive(Debug)]
#[non_exhaustive]
pub enum GatherError {
    /// A file or directory of the host cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The stream is not a tar stream, or ends too early.
    Tar(io::Error),
    /// Two inputs have different entries at one path.
    Twice(Vec<u8>),
    /// A path of a tar stream or of a list leads out of the image.
    Outside(Vec<u8>),
    /// The target of a hard link of the tar stream does not come before the link.
    LinkTarget {
        /// The link.
        path: Vec<u8>,
        /// The path that the link names.
        target: Vec<u8>,
    },
    /// Symbolic links, which the options refuse.
    Links(Vec<Vec<u8>>),
    /// Symbolic links of a tar stream, which cannot be followed.
    TarLinks(Vec<Vec<u8>>),
}

impl fmt::Display for GatherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, e) => {
                write!(f, "{}: {}", show(path.as_os_str().as_bytes()), cause(e))
            }
            Self::Tar(e) => write!(f, "the tar stream cannot be read: {}", cause(e)),
            Self::Twice(path) => write!(
                f,
                "{}: two of the sources have an entry with this path, but only directories can be \
                 merged; rename one of the two, or give only one of the sources",
                show(path)
            ),
            Self::Outside(path) => {
                write!(f, "{}: the path leads out of the image; leave it out", show(path))
            }
            Self::LinkTarget { path, target } => write!(
                f,
                "{}: is a hard link in the tar stream to {}, which is not in the stream",
                show(path),
                show(target)
            ),
            Self::Links(paths) => {
                list_links(f, paths)?;
                f.write_str(
                    "choose --links=follow or --links=store, or leave them out with --exclude",
                )
            }
            Self::TarLinks(paths) => {
                list_links(f, paths)?;
                f.write_str(
                    "links in a tar stream cannot be followed: choose --links=store, or leave them \
                     out with --exclude",
                )
            }
        }
    }
}

fn list_links(f: &mut fmt::Formatter<'_>, paths: &[Vec<u8>]) -> fmt::Result {
    writeln!(f, "{} found:", count(paths.len(), "symbolic link was", "symbolic links were"))?;
    paths.iter().try_for_each(|path| writeln!(f, "  {}", show(path)))
}

impl std::error::Error for GatherError {}

/// Collect the content of the inputs, in the order of a manifest. Directories that several inputs
/// have are merged.
///
/// # Errors
/// One [`GatherError`] for each reason.
pub fn gather(inputs: Vec<Input<'_>>, how: &Gather) -> Result<Manifest, GatherError> {
    let mut collector =
        Collector { how, manifest: Manifest::default(), links: Vec::new(), tar_links: Vec::new() };
    for input in inputs {
        match input {
            Input::Path(path) => collector.add_path(path, false)?,
            Input::Named(path) => collector.add_path(path, true)?,
            Input::Listed { directory, paths } => collector.add_listed(directory, &paths)?,
            Input::Tar(stream) => tar_in::add(&mut collector, stream)?,
        }
    }
    if !collector.links.is_empty() {
        return Err(GatherError::Links(collector.links));
    }
    if !collector.tar_links.is_empty() {
        return Err(GatherError::TarLinks(collector.tar_links));
    }
    let mut manifest = collector.manifest;
    manifest.sort();
    merge(&mut manifest)?;
    Ok(manifest)
}

/// A manifest that is being made.
pub(super) struct Collector<'a> {
    pub how: &'a Gather,
    pub manifest: Manifest,
    links: Vec<Vec<u8>>,
    tar_links: Vec<Vec<u8>>,
}

impl Collector<'_> {
    fn add_path(&mut self, root: PathBuf, named: bool) -> Result<(), GatherError> {
        let unreadable = |e| GatherError::Unreadable(root.clone(), e);
        // a link that the user names is followed, as by `cp -H`
        let meta = fs::metadata(&root).map_err(unreadable)?;
        let index = self.manifest.roots.len() as u32;
        if meta.is_dir() {
            let name = root.file_name().filter(|_| named).map(|name| name.as_bytes().to_vec());
            self.add_tree(&root, index, &meta, name.as_deref())?;
            let around = root.parent().filter(|_| name.is_some()).map(Path::to_owned);
            self.manifest.roots.push(around.unwrap_or(root));
            return Ok(());
        }
        // a path such as `data/.` or `/` has no last name, and is a directory
        let name =
            root.file_name().ok_or_else(|| unreadable(io::ErrorKind::InvalidInput.into()))?;
        let name = name.as_bytes().to_vec();
        if !self.how.exclude.matches(&name) {
            let item = self.item(&root, name, &meta, Source::Root(index))?;
            self.manifest.items.extend(item);
        }
        self.manifest.roots.push(root);
        Ok(())
    }

    /// Add the content of the directory `root`, either below an entry `name`, or to the root of the
    /// image.
    fn add_tree(
        &mut self,
        root: &Path,
        index: u32,
        meta: &Metadata,
        name: Option<&[u8]>,
    ) -> Result<(), GatherError> {
        let how = self.how;
        match name {
            Some(name) if how.exclude.matches(name) => return Ok(()),
            Some(name) => {
                let item = self.item(root, name.to_vec(), meta, Source::Below(index))?;
                self.manifest.items.extend(item);
            }
            None => self.manifest.root = Some(self.stat(meta)),
        }
        let inside = |path: &Path| -> Vec<u8> {
            let path = path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes();
            match name {
                Some(name) => [name, b"/", path].concat(),
                None => path.to_vec(),
            }
        };
        let walk = WalkDir::new(root)
            .min_depth(1)
            .follow_links(how.links == Links::Follow)
            .into_iter()
            .filter_entry(|e| !how.exclude.matches(&inside(e.path())));
        for entry in walk {
            let entry = entry.map_err(|e| {
                let path = e.path().unwrap_or(root).to_owned();
                let why = e.to_string();
                let why = e.into_io_error().unwrap_or_else(|| io::Error::other(why));
                GatherError::Unreadable(path, why)
            })?;
            let mut meta = entry
                .metadata()
                .map_err(|e| GatherError::Unreadable(entry.path().to_owned(), e.into()))?;
            if how.links == Links::FollowToFiles && meta.is_symlink() {
                match fs::metadata(entry.path()) {
                    Ok(target) if target.is_file() => meta = target,
                    _ => continue,
                }
            }
            let path = inside(entry.path());
            let item = self.item(entry.path(), path, &meta, Source::Below(index))?;
            self.manifest.items.extend(item);
        }
        Ok(())
    }

    /// Add files that are listed one by one, and the directories that contain them.
    fn add_listed(&mut self, root: PathBuf, paths: &[Vec<u8>]) -> Result<(), GatherError> {
        let index = self.manifest.roots.len() as u32;
        let mut added: HashSet<Vec<u8>> = HashSet::new();
        for listed in paths {
            let path = normalized(listed).ok_or_else(|| GatherError::Outside(listed.clone()))?;
            let ends = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                let path = &path[..end];
                if path.is_empty() || !added.insert(path.to_vec()) {
                    continue;
                }
                let host = root.join(OsStr::from_bytes(path));
                let meta =
                    fs::metadata(&host).map_err(|e| GatherError::Unreadable(host.clone(), e))?;
                let item = self.item(&host, path.to_vec(), &meta, Source::Below(index))?;
                self.manifest.items.extend(item);
            }
        }
        self.manifest.roots.push(root);
        Ok(())
    }

    /// The item for an entry of the host; `None` for a link that is refused at the end.
    fn item(
        &mut self,
        host: &Path,
        path: Vec<u8>,
        meta: &Metadata,
        content: Source,
    ) -> Result<Option<Item>, GatherError> {
        let ty = meta.file_type();
        let stat = self.stat(meta);
        let item = |kind, size, source| Item { path: path[..].into(), kind, size, stat, source };
        if ty.is_symlink() {
            if self.how.links == Links::Refuse {
                self.links.push(path);
                return Ok(None);
            }
            let target =
                fs::read_link(host).map_err(|e| GatherError::Unreadable(host.to_owned(), e))?;
            let target = target.as_os_str().as_bytes();
            return Ok(Some(item(
                Kind::Symlink,
                target.len() as u64,
                Source::Bytes(target.into()),
            )));
        }
        Ok(Some(if ty.is_dir() {
            item(Kind::Dir, 0, content)
        } else if ty.is_file() {
            item(Kind::File, meta.len(), content)
        } else {
            let is_device = ty.is_block_device() || ty.is_char_device();
            let rdev = if is_device { meta.rdev() as u32 } else { 0 };
            item(Kind::Special { rdev }, 0, Source::Nothing)
        }))
    }

    fn stat(&self, meta: &Metadata) -> Stat {
        let mtime = meta.mtime().saturating_mul(NANOS).saturating_add(meta.mtime_nsec());
        self.adjusted(Stat {
            mtime: Some(mtime),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// The metadata after the options are applied.
    pub fn adjusted(&self, stat: Stat) -> Stat {
        let (uid, gid) = self.how.owner.unwrap_or((stat.uid, stat.gid));
        let latest = self.how.latest.map(|seconds| seconds.saturating_mul(NANOS));
        let mtime = stat.mtime.map(|time| latest.map_or(time, |latest| time.min(latest)));
        Stat { mtime, uid, gid, ..stat }
    }

    /// Whether a symbolic link of a tar stream is stored. If not, it is remembered for the error.
    pub fn takes_link(&mut self, path: &[u8]) -> bool {
        match self.how.links {
            Links::Store => return true,
            Links::Follow | Links::FollowToFiles => self.tar_links.push(path.to_vec()),
            Links::Refuse => self.links.push(path.to_vec()),
        }
        false
    }
}

/// Merge directories that several inputs have. The times and modes of the last one are kept.
fn merge(manifest: &mut Manifest) -> Result<(), GatherError> {
    let mut twice = None;
    manifest.items.dedup_by(|later, first| {
        if later.path != first.path {
            return false;
        }
        if later.kind == Kind::Dir && first.kind == Kind::Dir {
            if later.stat.mtime.is_some() {
                first.stat = later.stat;
            }
        } else {
            twice.get_or_insert_with(|| first.path.to_vec());
        }
        true
    });
    match twice {
        Some(path) => Err(GatherError::Twice(path)),
        None => holders_are_directories(manifest),
    }
}

/// Check that every parent of an entry is a directory.
fn holders_are_directories(manifest: &Manifest) -> Result<(), GatherError> {
    let mut last: &[u8] = &[];
    for item in &manifest.items {
        let (dir, _) = item.split();
        if dir != last && manifest.find(dir).is_some_and(|holder| holder.kind != Kind::Dir) {
            return Err(GatherError::Twice(dir.to_vec()));
        }
        last = dir;
    }
    Ok(())
}
