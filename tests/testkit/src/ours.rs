//! This library by path, over a device in memory.

use std::sync::Arc;

use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::Report;
use littlefs::error::{Error, Result};
use littlefs::fs::{At, DirId, FileId, FormatOptions, Fs, Node, OpenOptions, ROOT};

use crate::calls::{Call, Fail, Subject, pattern};
use crate::tree::{Attrs, Entry, Kind, Tree, join, split};

/// An open filesystem and its device.
pub struct Ours {
    dev: Arc<dyn BlockDevice>,
    pub fs: Fs,
}

impl Ours {
    /// A formatted image.
    pub fn format(geometry: Geometry, options: &FormatOptions) -> Result<Vec<u8>> {
        let dev = RamDevice::new(geometry);
        Fs::format(&dev, options)?;
        Ok(dev.image())
    }

    /// Open an image.
    pub fn open(geometry: Geometry, image: Vec<u8>, options: &OpenOptions) -> Result<Self> {
        Self::on(Arc::new(RamDevice::from_image(geometry, image)), options)
    }

    /// Open what is on a device.
    pub fn on(dev: Arc<dyn BlockDevice>, options: &OpenOptions) -> Result<Self> {
        let fs = Fs::open(dev.clone(), options)?;
        Ok(Self { dev, fs })
    }

    /// A copy of the image, without what was not flushed.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.dev.geometry().size() as usize];
        self.dev.read(0, 0, &mut image).expect("a device in memory reads");
        image
    }

    fn dir(&mut self, path: &[u8]) -> Result<DirId> {
        let Some((parent, name)) = split(path) else { return Ok(ROOT) };
        let parent = self.dir(parent)?;
        match self.fs.lookup(parent, name)? {
            Node::Dir(dir) => Ok(dir),
            Node::File { .. } => Err(Error::NotDirectory),
        }
    }

    /// The directory of an entry, and its name there.
    fn place<'a>(&mut self, path: &'a [u8]) -> Result<(DirId, &'a [u8])> {
        let (parent, name) = split(path).ok_or(Error::Invalid("the root has no name"))?;
        Ok((self.dir(parent)?, name))
    }

    fn at<'a>(&mut self, path: &'a [u8]) -> Result<At<'a>> {
        if path.is_empty() {
            return Ok(At::Root);
        }
        let (dir, name) = self.place(path)?;
        Ok(At::Entry(dir, name))
    }

    /// Open a file until the caller closes it.
    pub fn open_file(&mut self, path: &[u8]) -> Result<FileId> {
        let (dir, name) = self.place(path)?;
        self.fs.open_file(dir, name)
    }

    fn with_file(
        &mut self,
        path: &[u8],
        body: impl FnOnce(&mut Fs, FileId) -> Result<()>,
    ) -> Result<()> {
        let file = self.open_file(path)?;
        let result = body(&mut self.fs, file);
        self.fs.close_file(file);
        result
    }

    /// All bytes of an open file, which are read in two pieces.
    pub fn read(&mut self, file: FileId) -> Result<Vec<u8>> {
        read(&mut self.fs, file)
    }

    /// Every entry with its bytes and all its attributes.
    pub fn tree(&mut self) -> Result<Tree> {
        tree_of(&mut self.fs)
    }

    fn call(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::Create(path) => {
                let (dir, name) = self.place(path)?;
                self.fs.create(dir, name)
            }
            Call::Mkdir(path) => {
                let (dir, name) = self.place(path)?;
                self.fs.mkdir(dir, name).map(drop)
            }
            Call::Write { path, off, len, seed } => {
                let data = pattern(*seed, *len);
                self.with_file(path, |fs, file| fs.write(file, u64::from(*off), &data))
            }
            Call::Truncate { path, size } => {
                self.with_file(path, |fs, file| fs.truncate(file, u64::from(*size)))
            }
            Call::Unlink(path) => {
                let (dir, name) = self.place(path)?;
                self.fs.unlink(dir, name)
            }
            Call::Rmdir(path) => {
                let (dir, name) = self.place(path)?;
                self.fs.rmdir(dir, name)
            }
            Call::Rename { from, to, no_replace } => {
                let (to_dir, to_name) = self.place(to)?;
                let (dir, name) = self.place(from)?;
                self.fs.rename(dir, name, to_dir, to_name, *no_replace)
            }
            Call::SetAttr { path, ty, len, seed } => {
                let at = self.at(path)?;
                self.fs.set_attr(at, *ty, &pattern(*seed, *len))
            }
            Call::RemoveAttr { path, ty } => {
                let at = self.at(path)?;
                self.fs.remove_attr(at, *ty)
            }
        }
    }
}

fn read(fs: &mut Fs, file: FileId) -> Result<Vec<u8>> {
    let size = fs.file_size(file).expect("is open") as usize;
    let half = size / 2;
    let mut bytes = fs.read(file, 0, half)?.run()?;
    // More than is there, so that clamping is seen to work.
    bytes.extend(fs.read(file, half as u64, size - half + 100)?.run()?);
    Ok(bytes)
}

/// Every entry with its bytes and all its attributes.
pub fn tree_of(fs: &mut Fs) -> Result<Tree> {
    let mut tree = Tree::new();
    let attrs = attrs(fs, At::Root)?;
    tree.insert(Vec::new(), Entry { kind: Kind::Dir, attrs });
    let mut todo = vec![(Vec::new(), ROOT)];
    while let Some((path, dir)) = todo.pop() {
        for name in fs.list(dir)? {
            let path = join(&path, &name);
            let kind = match fs.lookup(dir, &name)? {
                Node::Dir(dir) => {
                    todo.push((path.clone(), dir));
                    Kind::Dir
                }
                Node::File { size } => {
                    let file = fs.open_file(dir, &name)?;
                    let bytes = read(fs, file);
                    fs.close_file(file);
                    let bytes = bytes?;
                    assert_eq!(bytes.len() as u32, size, "size that lookup tells");
                    Kind::File(bytes)
                }
            };
            let attrs = self::attrs(fs, At::Entry(dir, &name))?;
            tree.insert(path, Entry { kind, attrs });
        }
    }
    Ok(tree)
}

fn attrs(fs: &mut Fs, at: At<'_>) -> Result<Attrs> {
    let types = fs.list_attrs(at)?;
    types.into_iter().map(|ty| Ok((ty, fs.get_attr(at, ty)?))).collect()
}

impl Subject for Ours {
    fn apply(&mut self, call: &Call) -> std::result::Result<(), Fail> {
        self.call(call).map_err(|e| match e {
            Error::NotFound => Fail::NotFound,
            Error::Exists => Fail::Exists,
            Error::NotDirectory => Fail::NotDirectory,
            Error::IsDirectory => Fail::IsDirectory,
            Error::NotEmpty => Fail::NotEmpty,
            Error::NameTooLong => Fail::NameTooLong,
            Error::NoAttr => Fail::NoAttr,
            Error::NoSpace => Fail::NoSpace,
            Error::FileTooLarge | Error::AttrTooLarge => Fail::TooLarge,
            Error::Invalid(_) => Fail::Loop,
            other => Fail::Other(other.to_string()),
        })
    }
}

/// Open another dialect as it is shown, in which nothing was found that is damaged.
pub fn open_view((view, report): (impl BlockDevice + 'static, Report)) -> Fs {
    assert!(report.is_clean(), "{:#?}", report.findings);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let fs = Fs::open(Arc::new(view), &options).expect("opens");
    assert_eq!(fs.warnings(), [""; 0]);
    fs
}
