//! Changing an image without a mount: the options and the manners of the commands that do.

use std::fmt;
use std::path::Path;

use clap::Args;

use super::{CliError, ImageArgs, exit, shell, tell_warnings};
use crate::change::{Failed, How, change};
use crate::convention::Choice;
use crate::error::Trouble;
use crate::profile::Profile;
use crate::show::Show;
use crate::sys::Signals;
use crate::{Error, Littlefs, OpenOptions};

/// How the image is changed.
#[derive(Args, Debug)]
pub struct ChangeArgs {
    /// Write as a family of devices does: micropython-rp2, micropython-esp32, esp-idf,
    /// arduino-esp8266, arduino-pico, zephyr, nuttx, nanoframework, phoenix, ardupilot-nor
    #[arg(long, value_name = "NAME", value_parser = Profile::named)]
    pub profile: Option<&'static Profile>,

    /// Keep times, and with some also owners and modes, as a family of systems does: unix keeps
    /// everything; also micropython, esp-idf, arduino, ... [default: as the profile or the image does]
    #[arg(long, value_name = "NAME", value_parser = Choice::parse)]
    pub attrs: Option<Choice>,

    /// Only tell what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make all of the change or none of it, whatever interrupts it: everything is written to a
    /// journal beside IMAGE first (IMAGE.run, removed at the end)
    #[arg(long)]
    pub atomic: bool,

    /// Do not say what was done
    #[arg(short, long)]
    pub quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// An image about to be changed. While it exists SIGINT, SIGTERM and SIGHUP wait: before anything is
/// written they end the command with everything as it was.
pub struct Changing<'a> {
    path: &'a Path,
    options: OpenOptions,
    how: How,
    signals: Signals,
}

/// What is done to the image. The second argument tells whether it is to stop.
pub type Operation<'o, T, E> = dyn FnMut(&Littlefs, &dyn Fn() -> bool) -> Result<T, E> + 'o;

/// Why an operation on an image ended.
pub trait Ended: fmt::Display + Trouble {
    /// Whether it ended because it was asked to.
    fn is_stopped(&self) -> bool;
}

impl<'a> Changing<'a> {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// When signals cannot be held up.
    pub fn begin(image: &'a ImageArgs, args: &ChangeArgs) -> Result<Self, CliError> {
        shell::check_changeable()?;
        if image.at.is_some() {
            return Err(CliError::failure("a past state of a journal cannot be changed"));
        }
        if image.image == Path::new("-") {
            return Err(CliError::failure("standard input is only read, and cannot be changed"));
        }
        if args.atomic && image.journal.is_some() {
            return Err(CliError::failure(
                "--atomic is not for --journal, which takes each change as a whole in any case",
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
            path: &image.image,
            options,
            how: How { dry_run: args.dry_run, atomic: args.atomic },
            signals: Signals::block_these(&signals).map_err(CliError::failure)?,
        })
    }

    /// Only try it, and write nothing.
    pub fn rehearsed(self) -> Self {
        Self { how: How { dry_run: true, atomic: false }, ..self }
    }

    /// Change the image by `operation`, which asks its second argument whether to stop.
    ///
    /// # Errors
    /// When the image cannot be opened, the operation fails, or it was stopped by a signal.
    pub fn run<T, E: Ended>(self, operation: &mut Operation<'_, T, E>) -> Result<T, CliError> {
        let caught = std::cell::Cell::new(None);
        let stop = || {
            if caught.get().is_none() {
                caught.set(self.signals.pending());
            }
            caught.get().is_some()
        };
        // it is opened anew for each try
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
                // these name the file already
                Failed::Open(e @ (Error::Image(_) | Error::Journal(_))) => CliError::new(code, e),
                e => CliError::new(code, format_args!("{}: {e}", self.path.show())),
            }
        })
    }
}
