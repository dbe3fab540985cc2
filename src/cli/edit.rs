//! `littlefs edit`: a file of an image in an editor.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use clap::Args;
use tempfile::TempDir;

use super::changing::{ChangeArgs, Changing, of_writer};
use super::editing::{edit, report};
use super::{CliError, ImageArgs, exit};
use crate::edit;
use crate::show::{Show, cause};
use crate::sys::Signals;

/// Edit a file of an image
#[derive(Args, Debug)]
#[command(
    mut_args(of_writer),
    after_help = "\
Examples:
  littlefs edit dump.bin etc/config.txt
  EDITOR='code --wait' littlefs edit dump.bin new.txt

The editor is $VISUAL, or else $EDITOR, or else vi. It gets a copy that only you can read. If the
content is the same afterwards, or the editor fails, nothing is written. A file that does not exist
is made when you save it. Others may use the image in the meantime; if somebody changes the file,
nothing is written. If your edited copy cannot be written, it is kept, and the message says where it
is.

Exit status: 0, 1 if it failed; then nothing was changed."
)]
pub struct EditArgs {
    #[command(flatten)]
    image: ImageArgs,

    /// A file in the image, which need not exist
    path: OsString,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Run the command.
///
/// # Errors
/// When the file cannot be read or written, or the editor fails.
pub fn run(args: &EditArgs) -> Result<ExitCode, CliError> {
    let path = args.image.inside(&args.path);
    // refuse before the user edits content that cannot be written afterwards
    let before = Changing::begin(&args.image, &args.change)?
        .rehearsed()
        .run(&mut |image, _| edit::content(image, &path))?;
    let copy = Copy::make(&path, before.as_deref().unwrap_or_default()).map_err(|e| {
        CliError::failure(format_args!(
            "cannot make a temporary file for the editor: {}",
            cause(&e)
        ))
    })?;
    let signals = Signals::block_these(&[libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP])
        .map_err(CliError::failure)?;
    let ended = copy.open_editor(&signals);
    // Ctrl-C in the editor was meant only for the editor
    let ending = std::iter::from_fn(|| signals.pending())
        .filter(|signal| [libc::SIGTERM, libc::SIGHUP].contains(signal))
        .last();
    let after = fs::read(&copy.file);
    let is_same = after.as_ref().is_ok_and(|after| *after == before.clone().unwrap_or_default());
    let failure = match (ended, ending, &after) {
        (_, Some(signal), _) => {
            let code = u8::try_from(128 + signal).unwrap_or(exit::FAILURE);
            Some(CliError::new(code, format_args!("interrupted by signal {signal}")))
        }
        (Err(e), ..) => {
            Some(CliError::failure(format_args!("the editor cannot be started: {}", cause(&e))))
        }
        (Ok(status), ..) if !status.success() => {
            Some(CliError::failure(format_args!("the editor failed ({})", how(status))))
        }
        (_, _, Err(e)) => {
            Some(CliError::failure(format_args!("cannot read the edited file: {}", cause(e))))
        }
        _ => None,
    };
    if let Some(e) = failure {
        let message = format!("{}: {e}; nothing was changed", args.image.image.show());
        // the copy need not be kept if it is unchanged or cannot be read
        let kept = if is_same || after.is_err() { String::new() } else { copy.keep() };
        return Err(CliError::new(e.code, message + &kept));
    }
    if is_same {
        if !args.change.quiet && !args.change.json {
            writeln!(io::stdout(), "unchanged: nothing was written")?;
        }
        return report(&[], &args.change);
    }
    let after = after?;
    let written = edit(&args.image, &args.change, &mut |image, _| {
        edit::replace(image, &path, before.as_deref(), &after)
    });
    written.map_err(|e| CliError::new(e.code, e.message + &copy.keep()))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

/// The file for the editor, in a directory of its own. Both are removed at the end.
struct Copy {
    dir: TempDir,
    file: PathBuf,
}

impl Copy {
    /// Make the copy under the name of the file in the image, because editors choose a mode by the
    /// name.
    fn make(path: &[u8], content: &[u8]) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let dir =
            tempfile::Builder::new().prefix("littlefs-edit-").permissions(private).tempdir()?;
        let mut parts = path.split(|&b| b == b'/');
        let name = parts.rfind(|part| !matches!(*part, b"" | b"."));
        let file = dir.path().join(OsStr::from_bytes(name.unwrap_or(b"file")));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&file)?.write_all(content)?;
        Ok(Self { dir, file })
    }

    /// Open the editor. The environment variables hold a line for the shell, as for git and
    /// crontab.
    fn open_editor(&self, signals: &Signals) -> io::Result<ExitStatus> {
        let editor = ["VISUAL", "EDITOR"].iter().filter_map(env::var_os).find(|e| !e.is_empty());
        let mut line = editor.unwrap_or_else(|| "vi".into());
        line.push(" \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).arg("editor").arg(&self.file);
        signals.leave_to(&mut command);
        command.status()
    }

    /// Keep the file. Returns the words that say where it is.
    fn keep(self) -> String {
        let file = self.file;
        let _ = self.dir.keep();
        format!("; your edited copy is kept in {}", file.show())
    }
}
