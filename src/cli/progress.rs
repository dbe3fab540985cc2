//! The progress of a long command, on a terminal.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Commands that take less time than this show nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const TEMPLATE: &str =
    "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";

/// A bar on stderr, if that is a terminal, for commands that take longer than a second.
pub struct Progress {
    what: &'static str,
    total: u64,
    quiet: bool,
    start: Instant,
    bar: OnceCell<ProgressBar>,
}

impl Progress {
    /// A bar for `total` bytes. `what` names the work on them. With `quiet`, nothing is shown.
    pub fn new(what: &'static str, total: u64, quiet: bool) -> Self {
        Self { what, total, quiet, start: Instant::now(), bar: OnceCell::new() }
    }

    /// Show that this many bytes are done.
    pub fn at(&self, bytes: u64) {
        if self.quiet || self.start.elapsed() < PATIENCE {
            return;
        }
        self.bar.get_or_init(|| self.bar()).set_position(bytes);
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::new(self.total).with_message(self.what);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.with_elapsed(self.start.elapsed())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_understood() {
        ProgressStyle::with_template(TEMPLATE).expect("a template");
    }
}
