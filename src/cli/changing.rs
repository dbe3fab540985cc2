//! Changing an image without a mount: the options and the behaviour that such commands share.

use std::fmt;
use std::path::Path;

use clap::{Arg, Args};

use super::{CliError, ImageArgs, exit, shell, tell_warnings};
use crate::change::{Failed, How, change};
use crate::convention::Choice;
use crate::error::Trouble;
use crate::profile::Profile;
use crate::show::Show;
use crate::sys::Signals;
use crate::{Error, Littlefs, OpenOptions};

/// Adapt the options of the image to a command that can also change it.
pub fn of_changer(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "journal" => arg.help(
            "Use IMAGE with the transactions of this journal; changes go to the journal, and not \
             to IMAGE (littlefs-journal(1))",
        ),
        _ => arg,
    }
}

/// The same for a command that always changes it.
pub fn of_writer(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "image" => arg.help("File or block device with the filesystem"),
        "unpack_limit" => arg.help(
            "Unpack at most this much of a compressed or wrapped image, to find out what it is \
             [default: 4G]",
        ),
        // a past state cannot be changed
        "at" => arg.hide(true),
        _ => of_changer(arg),
    }
}

/// The same for a command that replaces the whole filesystem, which no journal can record.
pub fn of_rewriter(arg: Arg) -> Arg {
    let arg = of_writer(arg);
    if arg.get_id() == "journal" { arg.hide(true) } else { arg }
}

/// How the image is changed.
#[derive(Args, Debug)]
pub struct ChangeArgs {
    /// Write as this family of devices does: micropython-rp2, micropython-esp32, esp-idf,
    /// arduino-esp8266, arduino-pico, zephyr, nuttx, nanoframework, phoenix, ardupilot-nor
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    pub profile: Option<&'static Profile>,

    /// Store times (and, with some values, owners and modes) by this convention: unix stores
    /// everything; also micropython, esp-idf, arduino, ... [default: that of the profile or of the
    /// image]
    #[arg(long, value_name = "NAME", value_parser = Choice::parse)]
    pub attrs: Option<Choice>,

    /// Only print what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make the change completely or not at all, whatever interrupts it: everything is first
    /// written to a journal beside IMAGE (IMAGE.run, which is removed at the end)
    #[arg(long)]
    pub atomic: bool,

    /// Do not print what was done
    #[arg(short, long)]
    pub quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// An image that is about to be changed. While this exists, SIGINT, SIGTERM and SIGHUP are held
/// back. If one of them comes before anything is written, the command ends without any change.
pub struct Changing<'a> {
    path: &'a Path,
    options: OpenOptions,
    how: How,
    signals: Signals,
}

/// The operation on the image. Its second argument tells whether to stop.
pub type Operation<'o, T, E> = dyn FnMut(&Littlefs, &dyn Fn() -> bool) -> Result<T, E> + 'o;

/// Why an operation on an image ended.
pub trait Ended: fmt::Display + Trouble {
    /// Whether it ended because it was told to stop.
    fn is_stopped(&self) -> bool;
}

impl<'a> Changing<'a> {
    /// Prepare to change an image; nothing is opened yet.
    ///
    /// # Errors
    /// When signals cannot be held back.
    pub fn begin(image: &'a ImageArgs, args: &ChangeArgs) -> Result<Self, CliError> {
        shell::check_changeable()?;
        if image.at.is_some() {
            return Err(CliError::failure("a past state of a journal cannot be changed"));
        }
        let path = image.changeable()?;
        if args.atomic && image.journal.is_some() {
            return Err(CliError::failure(
                "--atomic is not needed with --journal, in which each change is atomic in any case",
            ));
        }
        let mut options = image.tree_options(false);
        if let Some(profile) = args.profile {
            options = options.profile(profile);
        }
        if let Some(choice) = args.attrs {
            options = options.convention(choice);
        }
        let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
        Ok(Self {
            path,
            options,
            how: How { dry_run: args.dry_run, atomic: args.atomic },
            signals: Signals::block_these(&signals).map_err(CliError::failure)?,
        })
    }

    /// Only try the change, without writing anything.
    pub fn rehearsed(self) -> Self {
        Self { how: How { dry_run: true, atomic: false }, ..self }
    }

    /// Change the image by `operation`, which asks its second argument whether to stop.
    ///
    /// # Errors
    /// When the image cannot be opened, the operation fails, or a signal stopped it.
    pub fn run<T, E: Ended>(self, operation: &mut Operation<'_, T, E>) -> Result<T, CliError> {
        let caught = std::cell::Cell::new(None);
        let stop = || {
            if caught.get().is_none() {
                caught.set(self.signals.pending());
            }
            caught.get().is_some()
        };
        // the image is opened again for each attempt
        let mut is_told = false;
        let done = change(self.path, &self.options, self.how, &mut |image| {
            if !std::mem::replace(&mut is_told, true) {
                tell_warnings(image);
            }
            operation(image, &stop)
        });
        done.map_err(|e| {
            let code = match (&e, caught.get()) {
                (Failed::Operation { why, .. }, Some(signal)) if why.is_stopped() => {
                    u8::try_from(128 + signal).unwrap_or(exit::FAILURE)
                }
                _ => exit::FAILURE,
            };
            match e {
                // these errors already name the file
                Failed::Open(e @ (Error::Image(_) | Error::Journal(_))) => CliError::new(code, e),
                e => CliError::new(code, format_args!("{}: {e}", self.path.show())),
            }
        })
    }
}
