//! Which image a command reads, and how it is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, output, parse_bytes, parse_bytes_u32, shell};
use crate::convention::Choice;
use crate::image::{self, OpenError, Source};
use crate::journal::Named;
use crate::show::Show;
use crate::transactions::At;
use crate::{Error, Littlefs, sys};

/// How to find the filesystem in an image: the options that all commands share that only read.
#[derive(Args, Debug, Clone)]
pub(crate) struct ImageArgs {
    /// File or block device with the filesystem; '-' is standard input, which can only be read
    pub image: PathBuf,

    /// Byte of IMAGE at which the filesystem starts (0x for hexadecimal; K, M and G multiply by
    /// 1024); auto (default): 0, or else the place of the only filesystem that is found
    #[arg(long, value_name = "BYTES", value_parser = parse_place, conflicts_with = "partition")]
    pub offset: Option<image::Place>,

    /// Use the partition of this name in the dump's partition table, or the filesystem with this
    /// number in the list of 'littlefs scan'
    #[arg(long, value_name = "NAME|N", value_parser = image::Place::partition)]
    pub partition: Option<image::Place>,

    /// Page and spare bytes, like 2048+64, if IMAGE is a dump of NAND flash with spare bytes
    /// [default: recognised automatically]
    #[arg(long, value_name = "PAGE", value_parser = image::Page::parse)]
    pub page: Option<image::Page>,

    /// Unpack at most this much of a compressed or wrapped image, or read at most this much from
    /// standard input [default: 4G]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub unpack_limit: Option<u64>,

    /// Use this block size instead of the one in the image
    #[arg(id = "image_block_size", long = "block-size", value_name = "BYTES",
          value_parser = parse_bytes_u32)]
    pub block_size: Option<u32>,

    /// Dialect of IMAGE: 'littlefs', 'v1' (littlefs version 1), 'chamelon' (as chamelon writes it),
    /// or 'auto' to recognise it
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = Chosen::named)]
    pub dialect: Chosen,

    /// Read IMAGE with the transactions of this journal (littlefs-journal(1))
    #[arg(long, value_name = "FILE", value_parser = output::not_stdio())]
    pub journal: Option<PathBuf>,

    /// With --journal: show the state after this transaction, or at this savepoint
    #[arg(long, value_name = "STATE", requires = "journal")]
    pub at: Option<String>,
}

/// The file at `path`, or the content of standard input, of which at most `limit` bytes are read.
///
/// # Errors
/// If there is no such file, or standard input cannot be read or is too long.
pub fn source(path: &Path, limit: Option<u64>) -> Result<Source, OpenError> {
    match path == Path::new("-") {
        true => Source::standard_input(limit),
        false => Source::find(path),
    }
}

/// The same error for an input that need not be an image: if there is no such file, making a new
/// image is no remedy.
pub fn of_input(e: OpenError) -> OpenError {
    match e.reason {
        image::Reason::NotFound if e.path != Path::new("-") => {
            OpenError { reason: image::Reason::Io(rustix::io::Errno::NOENT.into()), ..e }
        }
        _ => e,
    }
}

/// Where a filesystem starts: a number of bytes, or `auto`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_place(text: &str) -> Result<image::Place, String> {
    match text {
        "auto" => Ok(image::Place::Auto),
        bytes => match parse_bytes(bytes) {
            Ok(at) => Ok(image::Place::At(at)),
            Err(e) => Err(format!("{e}; use a number of bytes, or auto")),
        },
    }
}

/// A path as it is written in a shell.
pub fn quoted(path: &Path) -> String {
    let shown = path.show().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !shown.is_empty() && shown.chars().all(plain) {
        return shown;
    }
    format!("'{}'", shown.replace('\'', "'\\''"))
}

/// The dialect that was requested; `None` means that it is recognised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen(pub Option<image::Dialect>);

impl Chosen {
    /// The dialect of this name; `auto` means that it is recognised.
    ///
    /// # Errors
    /// If there is no such dialect.
    pub fn named(name: &str) -> Result<Self, String> {
        image::Dialect::named(name).map(Self)
    }
}

impl ImageArgs {
    pub fn place(&self) -> image::Place {
        self.partition.or(self.offset).unwrap_or(image::Place::Auto)
    }

    pub fn options(&self, read_only: bool) -> image::Options {
        image::Options {
            block_size: self.block_size,
            place: self.place(),
            page: self.page,
            unpack_limit: self.unpack_limit,
            read_only,
            dialect: self.dialect.0,
            ..image::Options::default()
        }
    }

    /// The files that are read, by their identities: the image and the journal.
    pub fn inputs(&self) -> [Option<(u64, u64)>; 2] {
        [Some(&self.image), self.journal.as_ref()].map(|path| sys::identity(path?).ok())
    }

    /// The path inside the image that an argument names.
    pub fn inside(&self, path: &OsStr) -> Vec<u8> {
        match shell::session() {
            Some(session) => shell::resolve(&session.directory, path.as_bytes()),
            None => path.as_bytes().to_vec(),
        }
    }

    /// The paths inside the image that the arguments name. Without arguments, it is the root
    /// directory.
    pub fn asked(&self, paths: &[OsString]) -> Vec<Vec<u8>> {
        match paths {
            [] => vec![self.inside(OsStr::new(""))],
            paths => paths.iter().map(|path| self.inside(path)).collect(),
        }
    }

    /// The file that is named, or the content of standard input.
    ///
    /// # Errors
    /// Those of [`source`].
    pub fn source(&self) -> Result<Source, CliError> {
        source(&self.image, self.unpack_limit).map_err(CliError::failure)
    }

    /// The named files, which can be opened several times.
    ///
    /// # Errors
    /// If one of them does not exist or cannot be read.
    pub fn find(&self) -> Result<Found<'_>, CliError> {
        let image = self.source()?;
        let journal = self.journal.as_deref().map(Named::find).transpose()?;
        Ok(Found { args: self, image, journal })
    }

    /// How to open the image as a tree of files.
    pub fn tree_options(&self, read_only: bool) -> crate::OpenOptions {
        let mut options = crate::OpenOptions::new().read_only(read_only).place(self.place());
        if let Some(page) = self.page {
            options = options.page(page);
        }
        if let Some(limit) = self.unpack_limit {
            options = options.unpack_limit(limit);
        }
        if let Some(block_size) = self.block_size {
            options = options.block_size(block_size);
        }
        if let Some(dialect) = self.dialect.0 {
            options = options.dialect(dialect);
        }
        if let Some(journal) = &self.journal {
            options = options.journal(journal);
        }
        match &self.at {
            Some(at) => options.at(At::parse(at)),
            None => options,
        }
    }

    /// The options for opening the image, as words of a command line.
    pub fn in_words(&self) -> Vec<OsString> {
        let partition = match self.partition {
            Some(image::Place::Partition(label)) => Some(label.to_string()),
            _ => None,
        };
        let offset = match self.offset {
            Some(image::Place::At(offset)) => Some(offset.to_string()),
            Some(image::Place::Auto) => Some("auto".to_owned()),
            _ => None,
        };
        let texts = [
            ("offset", offset),
            ("partition", partition),
            ("page", self.page.map(|page| page.to_string())),
            ("unpack-limit", self.unpack_limit.map(|limit| limit.to_string())),
            ("block-size", self.block_size.map(|size| size.to_string())),
            ("dialect", self.dialect.0.map(|dialect| dialect.name().to_owned())),
            ("at", self.at.clone()),
        ];
        let mut words = Vec::new();
        for (name, text) in texts {
            words.extend(text.map(|text| OsString::from(format!("--{name}={text}"))));
        }
        if let Some(journal) = &self.journal {
            let mut word = OsString::from("--journal=");
            word.push(journal);
            words.push(word);
        }
        words
    }

    /// The image and the options to open it, as words for a shell, followed by a space.
    pub fn in_shell(&self) -> String {
        let words = self
            .in_words()
            .into_iter()
            .filter(|word| word != "--offset=0" && word != "--offset=auto");
        let options = words.map(|word| quoted(Path::new(&word)) + " ");
        options.collect::<String>() + &quoted(&self.image) + " "
    }

    /// Open the image as a tree of files, read-only and shared with other readers; notes go to
    /// stderr.
    ///
    /// # Errors
    /// If the image cannot be opened.
    pub fn open_tree(&self) -> Result<Littlefs, CliError> {
        self.open_tree_by(None)
    }

    /// The same, with this convention for user attributes.
    ///
    /// # Errors
    /// If the image cannot be opened.
    pub fn open_tree_by(&self, attrs: Option<Choice>) -> Result<Littlefs, CliError> {
        let mut options = self.tree_options(true);
        if let Some(choice) = attrs {
            options = options.convention(choice);
        }
        let image = options.open_source(&self.source()?).map_err(|e| match e {
            // these errors already name the file
            Error::Image(e) => CliError::failure(e),
            Error::Journal(e) => CliError::failure(e),
            e => CliError::failure(format_args!("{}: {e}", self.image.display())),
        })?;
        tell_warnings(&image);
        Ok(image)
    }

    /// Open for reading only, sharing the image with other readers; notes go to stderr.
    ///
    /// # Errors
    /// If the image cannot be opened.
    pub fn open(&self) -> Result<image::Opened, CliError> {
        self.find()?.open()
    }

    /// The path of the image, which is to be changed.
    ///
    /// # Errors
    /// If it is standard input.
    pub fn changeable(&self) -> Result<&Path, CliError> {
        match self.image == Path::new("-") {
            true => Err(CliError::failure(
                "standard input can only be read: give the name of an image file",
            )),
            false => Ok(&self.image),
        }
    }

    /// Open for writing, locked against everybody else; notes go to stderr.
    ///
    /// # Errors
    /// If the image cannot be opened for writing.
    pub fn open_writable(&self) -> Result<image::Opened, CliError> {
        self.changeable()?;
        let opened = self.find()?.open_writable()?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        Ok(opened)
    }
}

/// Print the warnings from opening an image on stderr.
pub fn tell_warnings(image: &Littlefs) {
    for warning in image.warnings() {
        log::warn!("{warning}");
    }
}

/// Warn if a change of the image at `path` was interrupted and is not finished.
fn tell_interruption(path: &Path) {
    if let Some(e) = crate::journal::interruption(path) {
        log::warn!("{e}");
    }
}

/// An image, and its journal if one was named. Each refers to the same file, however often it is
/// opened.
pub struct Found<'a> {
    args: &'a ImageArgs,
    /// The image.
    pub image: Source,
    journal: Option<Named>,
}

impl Found<'_> {
    /// Open it. If it is opened for writing, an interrupted commit of its journal is finished first.
    ///
    /// # Errors
    /// If the image cannot be opened.
    pub fn open_as(&mut self, read_only: bool) -> Result<image::Opened, CliError> {
        let options = self.args.options(read_only);
        let Some(journal) = &mut self.journal else {
            match read_only {
                true => tell_interruption(&self.args.image),
                false => crate::journal::finish_interrupted(&self.image)?,
            }
            return image::open_found(&self.image, &options).map_err(CliError::failure);
        };
        let at = self.args.at.as_deref().map(At::parse);
        Ok(crate::journal::attach(journal, &self.image, &options, at.as_ref())?.image)
    }

    /// Open for reading only, sharing the image with other readers; notes go to stderr.
    ///
    /// # Errors
    /// If the image cannot be opened.
    pub fn open(&mut self) -> Result<image::Opened, CliError> {
        let opened = self.open_as(true)?;
        for note in &opened.notes {
            log::warn!("{note}");
        }
        Ok(opened)
    }

    /// Open for writing, locked against everybody else.
    ///
    /// # Errors
    /// If it cannot be opened for writing, or may only be read.
    pub fn open_writable(&mut self) -> Result<image::Opened, CliError> {
        if let Some(at) = &self.args.at {
            return Err(CliError::failure(format_args!(
                "state {at} is a past state, which cannot be changed"
            )));
        }
        shell::check_changeable()?;
        self.args.changeable()?;
        let opened = self.open_as(false)?;
        if let Some(reason) = opened.dialect.unwritable() {
            return Err(CliError::failure(self.image.refused(reason)));
        }
        if let Some(&kind) = opened.wrapped.first() {
            return Err(CliError::failure(self.image.refused(image::Reason::Wrapped(kind))));
        }
        if let Some(doubt) = opened.doubt {
            return Err(CliError::failure(self.image.refused(image::Reason::Doubtful(doubt))));
        }
        if opened.read_only {
            let path = self.args.image.show();
            let why = image::WRITE_PROTECTED;
            return Err(CliError::failure(format_args!("{path}: cannot be changed: {why}")));
        }
        Ok(opened)
    }
}
