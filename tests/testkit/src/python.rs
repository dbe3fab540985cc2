//! A Python with littlefs-python, which has another version of the C driver and another interface,
//! and with other tools.
//!
//! This needs `python3` with its `venv` module, and access to PyPI once: the packages are installed
//! into `target/venv`. Without these, the test fails and says what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The package. It has C littlefs 2.11, and `littlefs2-sys` has 2.9.
const PACKAGE: &str = "littlefs-python==0.19.0";

/// Allows only one installation at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A Python that has the package. If necessary, the package is installed.
pub fn python() -> PathBuf {
    python_with(&[PACKAGE])
}

/// A Python that has these packages, each `NAME==VERSION`.
pub fn python_with(packages: &[&str]) -> PathBuf {
    let _guard = INSTALLING.lock().unwrap_or_else(|e| e.into_inner());
    let venv = crate::target().join("venv");
    let python = venv.join("bin/python");
    let has = |package: &str| {
        let (name, version) = package.split_once("==").expect("a version");
        let probe = format!(
            "from importlib.metadata import version; assert version({name:?}) == {version:?}"
        );
        let probe = Command::new(&python).args(["-c", &probe]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    };
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !has(package)).collect();
    if !missing.is_empty() {
        let remedy =
            "install python3 and python3-venv (scripts/deps.sh does), and let pip reach PyPI";
        let run = |program: &Path, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            let output = output.unwrap_or_else(|e| panic!("{}: {e}: {remedy}", program.display()));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {args:?}: {said}\n{remedy}", program.display());
        };
        if !python.exists() {
            run("python3".as_ref(), &["-m", "venv", &venv.to_string_lossy()]);
        }
        run(&python, &[&["-m", "pip", "install", "--quiet"][..], &missing].concat());
        assert!(missing.iter().all(|package| has(package)), "{missing:?} is not there: {remedy}");
    }
    python
}
