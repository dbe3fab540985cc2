//! The facts about the environment that speed depends on, for a bug report. They include no names
//! of machines, users or files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

/// The machine and the program.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The version of this package.
    pub version: &'static str,
    /// Whether the program was compiled with optimisation.
    pub optimised: bool,
    /// The release of the kernel.
    pub kernel: String,
    /// The name of the processor.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Bytes of memory in the machine.
    pub memory: u64,
    /// How many processes were running or waiting in the last minute, on average. If there are as
    /// many as processors, the figures do not mean much.
    pub load: f64,
}

impl Environment {
    /// The environment of this process. Values that the system does not tell are empty or 0.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let model = value(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
        let kib = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib = kib.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let load = read("/proc/loadavg");
        Self {
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: format!("{} {model}", std::env::consts::ARCH).trim().to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory: kib * 1024,
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// The type and the mount options of the filesystem that holds a path, from the mount table of the
/// system. `None` if the table does not have it.
pub fn filesystem_of(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().rfind(|line| line.split(' ').nth(2) == Some(&*device))?;
    let options = line.split(' ').nth(5)?;
    let fs_type = line.split_once(" - ")?.1.split(' ').next()?;
    Some(format!("{fs_type} ({options})"))
}
