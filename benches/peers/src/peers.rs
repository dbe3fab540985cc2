//! The implementations, with the calls that the cases need.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::fs::{FileId, Fs, Node, ROOT};

use crate::{BLOCK_COUNT, BLOCK_SIZE};

type Done<T = ()> = Result<T, String>;

/// The calls on an open filesystem. A path has at most one directory.
pub trait Ops {
    fn mkdir(&mut self, path: &str) -> Done;
    /// Create a file and write `data` to it, `chunk` bytes at a time.
    fn write(&mut self, path: &str, data: &[u8], chunk: usize) -> Done;
    /// Create a file, and append `data` to it `times` times. Each is synced.
    fn append(&mut self, path: &str, data: &[u8], times: usize) -> Done;
    /// The size of a file in bytes.
    fn stat(&mut self, path: &str) -> Done<u64>;
    /// The number of entries of a directory.
    fn list(&mut self, path: &str) -> Done<u64>;
    /// Read a file from its start to its end, as much as `buf` holds at a time. Returns its size in
    /// bytes.
    fn read(&mut self, path: &str, buf: &mut [u8]) -> Done<u64>;
    /// Read 4096 bytes at each of the offsets. Returns the sum of the first bytes.
    fn read_at(&mut self, path: &str, offsets: &[u32]) -> Done<u64>;
    fn remove(&mut self, path: &str) -> Done;
    /// Make everything durable.
    fn finish(&mut self) -> Done {
        Ok(())
    }
}

/// Opens an image, lets the function work on it, and returns the image afterwards.
pub type Peer = fn(Vec<u8>, &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>>;

/// All implementations: the name, and the minor disk version of the image that it gets.
pub const PEERS: &[(&str, usize, Peer)] = &[
    ("littlefs-progs", 1, ours),
    ("littlefs-progs, flush each", 1, ours_each),
    ("littlefs2 (C)", 0, c::open),
    ("littlefs-rust", 1, rust::open),
    ("littlefs2-rust", 1, rust2::open),
];

fn text(e: impl std::fmt::Debug) -> String {
    format!("{e:?}")
}

struct Ours {
    fs: Fs,
    flushes_each: bool,
}

pub fn ours(image: Vec<u8>, work: &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>> {
    open(image, false, work)
}

fn ours_each(image: Vec<u8>, work: &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>> {
    open(image, true, work)
}

fn open(
    image: Vec<u8>,
    flushes_each: bool,
    work: &mut dyn FnMut(&mut dyn Ops) -> Done,
) -> Done<Vec<u8>> {
    let dev = Arc::new(RamDevice::from_image(crate::geometry(), image));
    let fs = Fs::open(dev.clone(), &crate::options()).map_err(text)?;
    let mut ours = Ours { fs, flushes_each };
    work(&mut ours)?;
    drop(ours);
    Ok(dev.image())
}

impl Ours {
    fn place<'p>(&mut self, path: &'p str) -> Done<(littlefs::fs::DirId, &'p [u8])> {
        let Some((dir, name)) = path.split_once('/') else { return Ok((ROOT, path.as_bytes())) };
        match self.fs.lookup(ROOT, dir.as_bytes()).map_err(text)? {
            Node::Dir(dir) => Ok((dir, name.as_bytes())),
            Node::File { .. } => Err("not a directory".into()),
        }
    }

    fn file(&mut self, path: &str) -> Done<FileId> {
        let (dir, name) = self.place(path)?;
        self.fs.open_file(dir, name).map_err(text)
    }

    fn changed(&mut self) -> Done {
        if self.flushes_each { self.finish() } else { Ok(()) }
    }

    fn create(&mut self, path: &str) -> Done<FileId> {
        let (dir, name) = self.place(path)?;
        self.fs.create(dir, name).map_err(text)?;
        self.fs.open_file(dir, name).map_err(text)
    }
}

impl Ops for Ours {
    fn mkdir(&mut self, path: &str) -> Done {
        let (dir, name) = self.place(path)?;
        self.fs.mkdir(dir, name).map_err(text)?;
        self.changed()
    }

    fn write(&mut self, path: &str, data: &[u8], chunk: usize) -> Done {
        let id = self.create(path)?;
        let mut at = 0;
        for part in data.chunks(chunk) {
            self.fs.write(id, at, part).map_err(text)?;
            at += part.len() as u64;
        }
        self.fs.close_file(id);
        self.changed()
    }

    fn append(&mut self, path: &str, data: &[u8], times: usize) -> Done {
        let id = self.create(path)?;
        for i in 0..times {
            self.fs.write(id, (i * data.len()) as u64, data).map_err(text)?;
            self.finish()?;
        }
        self.fs.close_file(id);
        Ok(())
    }

    fn stat(&mut self, path: &str) -> Done<u64> {
        let (dir, name) = self.place(path)?;
        match self.fs.lookup(dir, name).map_err(text)? {
            Node::File { size, .. } => Ok(size.into()),
            Node::Dir(_) => Ok(0),
        }
    }

    fn list(&mut self, path: &str) -> Done<u64> {
        match self.fs.lookup(ROOT, path.as_bytes()).map_err(text)? {
            Node::Dir(dir) => Ok(self.fs.list(dir).map_err(text)?.len() as u64),
            Node::File { .. } => Err("not a directory".into()),
        }
    }

    fn read(&mut self, path: &str, buf: &mut [u8]) -> Done<u64> {
        let id = self.file(path)?;
        let mut at = 0;
        loop {
            let part = self.fs.read(id, at, buf.len()).and_then(|plan| plan.run()).map_err(text)?;
            at += part.len() as u64;
            if part.len() < buf.len() {
                break;
            }
        }
        self.fs.close_file(id);
        Ok(at)
    }

    fn read_at(&mut self, path: &str, offsets: &[u32]) -> Done<u64> {
        let id = self.file(path)?;
        let mut sum = 0;
        for &at in offsets {
            let part =
                self.fs.read(id, at.into(), 4096).and_then(|plan| plan.run()).map_err(text)?;
            sum += u64::from(part[0]);
        }
        self.fs.close_file(id);
        Ok(sum)
    }

    fn remove(&mut self, path: &str) -> Done {
        let (dir, name) = self.place(path)?;
        self.fs.unlink(dir, name).map_err(text)?;
        self.changed()
    }

    fn finish(&mut self) -> Done {
        self.fs.flush().map_err(text)
    }
}

/// littlefs2: the C driver with an interface in Rust.
mod c {
    use littlefs2::consts::{U512, U4096};
    use littlefs2::driver::Storage;
    use littlefs2::fs::Filesystem;
    use littlefs2::io::{Read, Result, SeekFrom, Write};
    use littlefs2::path::PathBuf;

    use super::{BLOCK_COUNT, BLOCK_SIZE, Done, Ops, text};

    struct Ram(Vec<u8>);

    impl Storage for Ram {
        const READ_SIZE: usize = 16;
        const WRITE_SIZE: usize = 16;
        const BLOCK_SIZE: usize = BLOCK_SIZE as usize;
        const BLOCK_COUNT: usize = BLOCK_COUNT as usize;
        type CACHE_SIZE = U4096;
        // in units of 8 bytes
        type LOOKAHEAD_SIZE = U512;

        fn read(&mut self, off: usize, buf: &mut [u8]) -> Result<usize> {
            buf.copy_from_slice(&self.0[off..][..buf.len()]);
            Ok(buf.len())
        }

        fn write(&mut self, off: usize, data: &[u8]) -> Result<usize> {
            self.0[off..][..data.len()].copy_from_slice(data);
            Ok(data.len())
        }

        fn erase(&mut self, off: usize, len: usize) -> Result<usize> {
            self.0[off..][..len].fill(0xff);
            Ok(len)
        }
    }

    struct C<'a, 'b>(&'a Filesystem<'b, Ram>);

    fn path(path: &str) -> Done<PathBuf> {
        PathBuf::try_from(path).map_err(text)
    }

    pub fn open(image: Vec<u8>, work: &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>> {
        let mut ram = Ram(image);
        let mut done = Ok(());
        Filesystem::mount_and_then(&mut ram, |fs| {
            done = work(&mut C(fs));
            Ok(())
        })
        .map_err(text)?;
        done.map(|()| ram.0)
    }

    impl Ops for C<'_, '_> {
        fn mkdir(&mut self, at: &str) -> Done {
            self.0.create_dir(&path(at)?).map_err(text)
        }

        fn write(&mut self, at: &str, data: &[u8], chunk: usize) -> Done {
            self.0
                .create_file_and_then(&path(at)?, |file| {
                    data.chunks(chunk).try_for_each(|part| file.write_all(part))
                })
                .map_err(text)
        }

        fn append(&mut self, at: &str, data: &[u8], times: usize) -> Done {
            self.0
                .create_file_and_then(&path(at)?, |file| {
                    (0..times).try_for_each(|_| {
                        file.write_all(data)?;
                        file.sync()
                    })
                })
                .map_err(text)
        }

        fn stat(&mut self, at: &str) -> Done<u64> {
            Ok(self.0.metadata(&path(at)?).map_err(text)?.len() as u64)
        }

        fn list(&mut self, at: &str) -> Done<u64> {
            let count = |dir: &mut littlefs2::fs::ReadDir<'_, '_, Ram>| Ok(dir.count() as u64);
            // without "." and ".."
            Ok(self.0.read_dir_and_then(&path(at)?, count).map_err(text)? - 2)
        }

        fn read(&mut self, at: &str, buf: &mut [u8]) -> Done<u64> {
            self.0
                .open_file_and_then(&path(at)?, |file| {
                    let mut sum = 0;
                    loop {
                        let n = file.read(buf)?;
                        sum += n as u64;
                        if n < buf.len() {
                            return Ok(sum);
                        }
                    }
                })
                .map_err(text)
        }

        fn read_at(&mut self, at: &str, offsets: &[u32]) -> Done<u64> {
            let mut buf = [0; 4096];
            self.0
                .open_file_and_then(&path(at)?, |file| {
                    let mut sum = 0;
                    for &off in offsets {
                        file.seek(SeekFrom::Start(off))?;
                        file.read_exact(&mut buf)?;
                        sum += u64::from(buf[0]);
                    }
                    Ok(sum)
                })
                .map_err(text)
        }

        fn remove(&mut self, at: &str) -> Done {
            self.0.remove(&path(at)?).map_err(text)
        }
    }
}

/// littlefs-rust: a translation of the C driver.
mod rust {
    use std::cell::RefCell;
    use std::rc::Rc;

    use littlefs_rust::{Config, Error, Filesystem, OpenFlags, SeekFrom, Storage};

    use super::{BLOCK_COUNT, BLOCK_SIZE, Done, Ops, text};

    struct Ram(Rc<RefCell<Vec<u8>>>);

    fn start(block: u32, off: u32) -> usize {
        block as usize * BLOCK_SIZE as usize + off as usize
    }

    impl Storage for Ram {
        fn read(&mut self, block: u32, off: u32, buf: &mut [u8]) -> Result<(), Error> {
            buf.copy_from_slice(&self.0.borrow()[start(block, off)..][..buf.len()]);
            Ok(())
        }

        fn write(&mut self, block: u32, off: u32, data: &[u8]) -> Result<(), Error> {
            self.0.borrow_mut()[start(block, off)..][..data.len()].copy_from_slice(data);
            Ok(())
        }

        fn erase(&mut self, block: u32) -> Result<(), Error> {
            self.0.borrow_mut()[start(block, 0)..][..BLOCK_SIZE as usize].fill(0xff);
            Ok(())
        }
    }

    struct Rust(Filesystem<Ram>);

    pub fn open(image: Vec<u8>, work: &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>> {
        let bytes = Rc::new(RefCell::new(image));
        let config = Config::new(BLOCK_SIZE, BLOCK_COUNT);
        let fs = Filesystem::mount(Ram(Rc::clone(&bytes)), config).map_err(|(e, _)| text(e))?;
        let mut rust = Rust(fs);
        work(&mut rust)?;
        drop(rust);
        Ok(bytes.take())
    }

    const NEW: OpenFlags = OpenFlags::WRITE.union(OpenFlags::CREATE).union(OpenFlags::TRUNC);

    impl Ops for Rust {
        fn mkdir(&mut self, path: &str) -> Done {
            self.0.mkdir(path).map_err(text)
        }

        fn write(&mut self, path: &str, data: &[u8], chunk: usize) -> Done {
            let file = self.0.open(path, NEW).map_err(text)?;
            data.chunks(chunk).try_for_each(|part| file.write(part).map(|_| ())).map_err(text)?;
            file.close().map_err(text)
        }

        fn append(&mut self, path: &str, data: &[u8], times: usize) -> Done {
            let file = self.0.open(path, NEW).map_err(text)?;
            for _ in 0..times {
                file.write(data).and_then(|_| file.sync()).map_err(text)?;
            }
            file.close().map_err(text)
        }

        fn stat(&mut self, path: &str) -> Done<u64> {
            Ok(self.0.stat(path).map_err(text)?.size.into())
        }

        fn list(&mut self, path: &str) -> Done<u64> {
            Ok(self.0.list_dir(path).map_err(text)?.len() as u64)
        }

        fn read(&mut self, path: &str, buf: &mut [u8]) -> Done<u64> {
            let file = self.0.open(path, OpenFlags::READ).map_err(text)?;
            let mut sum = 0;
            loop {
                let n = file.read(buf).map_err(text)?;
                sum += u64::from(n);
                if (n as usize) < buf.len() {
                    return file.close().map_err(text).map(|()| sum);
                }
            }
        }

        fn read_at(&mut self, path: &str, offsets: &[u32]) -> Done<u64> {
            let file = self.0.open(path, OpenFlags::READ).map_err(text)?;
            let (mut buf, mut sum) = ([0; 4096], 0);
            for &off in offsets {
                file.seek(SeekFrom::Start(off)).map_err(text)?;
                file.read(&mut buf).map_err(text)?;
                sum += u64::from(buf[0]);
            }
            Ok(sum)
        }

        fn remove(&mut self, path: &str) -> Done {
            self.0.remove(path).map_err(text)
        }
    }
}

/// littlefs2-rust: written anew.
mod rust2 {
    use littlefs2_rust::{
        BlockDevice, Config, FileOptions, Filesystem, FilesystemMut, FilesystemOptions, Result,
    };

    use super::{BLOCK_COUNT, BLOCK_SIZE, Done, Ops, text};

    struct Ram(Vec<u8>);

    fn start(block: u32, off: usize) -> usize {
        block as usize * BLOCK_SIZE as usize + off
    }

    impl BlockDevice for Ram {
        fn config(&self) -> Config {
            Config { block_size: BLOCK_SIZE as usize, block_count: BLOCK_COUNT as usize }
        }

        fn read(&self, block: u32, off: usize, out: &mut [u8]) -> Result<()> {
            out.copy_from_slice(&self.0[start(block, off)..][..out.len()]);
            Ok(())
        }

        fn prog(&mut self, block: u32, off: usize, data: &[u8]) -> Result<()> {
            self.0[start(block, off)..][..data.len()].copy_from_slice(data);
            Ok(())
        }

        fn erase(&mut self, block: u32) -> Result<()> {
            self.0[start(block, 0)..][..BLOCK_SIZE as usize].fill(0xff);
            Ok(())
        }
    }

    struct Rust(FilesystemMut<Ram>);

    pub fn open(image: Vec<u8>, work: &mut dyn FnMut(&mut dyn Ops) -> Done) -> Done<Vec<u8>> {
        let options = FilesystemOptions {
            cache_size: BLOCK_SIZE as usize,
            lookahead_size: BLOCK_SIZE as usize,
            block_cycles: None,
            ..FilesystemOptions::default()
        };
        let fs = Filesystem::mount_device_mut_with_options(Ram(image), options).map_err(text)?;
        let mut rust = Rust(fs);
        work(&mut rust)?;
        Ok(rust.0.into_device().0)
    }

    fn absolute(path: &str) -> String {
        format!("/{path}")
    }

    fn new() -> FileOptions {
        FileOptions::new().write(true).create(true).truncate(true)
    }

    impl Ops for Rust {
        fn mkdir(&mut self, path: &str) -> Done {
            self.0.create_dir(&absolute(path)).map_err(text)
        }

        fn write(&mut self, path: &str, data: &[u8], chunk: usize) -> Done {
            let mut file = self.0.open_file(&absolute(path), new()).map_err(text)?;
            data.chunks(chunk).try_for_each(|part| file.write_all(part)).map_err(text)?;
            file.close().map_err(text)
        }

        fn append(&mut self, path: &str, data: &[u8], times: usize) -> Done {
            let mut file = self.0.open_file(&absolute(path), new()).map_err(text)?;
            for _ in 0..times {
                file.write_all(data).map_err(text)?;
                file.sync().map_err(text)?;
            }
            file.close().map_err(text)
        }

        fn stat(&mut self, path: &str) -> Done<u64> {
            Ok(self.0.as_filesystem().stat(&absolute(path)).map_err(text)?.size as u64)
        }

        fn list(&mut self, path: &str) -> Done<u64> {
            Ok(self.0.read_dir(&absolute(path)).map_err(text)?.len() as u64)
        }

        fn read(&mut self, path: &str, buf: &mut [u8]) -> Done<u64> {
            let options = FileOptions::new().read(true);
            let mut file = self.0.open_file(&absolute(path), options).map_err(text)?;
            let mut sum = 0;
            loop {
                let n = file.read(buf).map_err(text)?;
                sum += n as u64;
                if n < buf.len() {
                    return Ok(sum);
                }
            }
        }

        fn read_at(&mut self, path: &str, offsets: &[u32]) -> Done<u64> {
            let options = FileOptions::new().read(true);
            let mut file = self.0.open_file(&absolute(path), options).map_err(text)?;
            let (mut buf, mut sum) = ([0; 4096], 0);
            for &off in offsets {
                file.seek(off as usize).map_err(text)?;
                file.read(&mut buf).map_err(text)?;
                sum += u64::from(buf[0]);
            }
            Ok(sum)
        }

        fn remove(&mut self, path: &str) -> Done {
            self.0.remove_file(&absolute(path)).map_err(text)
        }
    }
}
