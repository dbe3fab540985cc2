//! SIGHUP changes what is logged; and when a terminal closes, what runs in its foreground ends.

use std::fs::{self, File};
use std::process::{Child, Command};

use crate::status::status;
use testkit::mounted::{Mounted, c_tree, is_mounted, littlefs, run, wait_until};

/// A daemon in the foreground with its own settings and its own log.
struct Foreground {
    m: Mounted,
    daemon: Child,
}

impl Foreground {
    fn new() -> Self {
        let m = Mounted::unmounted("1M");
        fs::create_dir_all(m.beside("config/littlefs")).expect("mkdir");
        let daemon = littlefs()
            .args(["mount", "-f"])
            .args([m.image(), m.dir()])
            .env("XDG_CONFIG_HOME", m.beside("config"))
            .stderr(File::create(m.beside("log")).expect("log"))
            .spawn()
            .expect("the program should start");
        wait_until("the mount", || is_mounted(&m.dir()));
        Self { m, daemon }
    }

    /// Write `text` to the file of settings, if there is any, and send the signal to read it.
    fn set(&self, text: Option<&str>) {
        let file = self.m.beside("config/littlefs/log");
        match text {
            Some(text) => fs::write(file, text).expect("write"),
            None => fs::remove_file(file).expect("unlink"),
        }
        run(Command::new("kill").args(["-HUP", &self.daemon.id().to_string()]));
    }

    /// Do something that is logged at level debug. Returns whether it was logged.
    fn logs_details(&self) -> bool {
        let before = self.lines();
        fs::remove_dir(self.m.path("d")).expect_err("not empty");
        self.lines() > before
    }

    fn lines(&self) -> usize {
        self.log().lines().filter(|line| line.contains("rmdir: ")).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.m.beside("log")).expect("log")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // What a failed test left; it holds this one's output open.
        if self.daemon.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("fusermount3").arg("-uz").arg(self.m.dir()).status();
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

#[test]
fn what_is_logged_can_be_changed_while_mounted() {
    let mut f = Foreground::new();
    fs::create_dir_all(f.m.path("d/e")).expect("mkdir");
    assert!(!f.logs_details());
    f.set(Some("# to find out\ndebug\n"));
    wait_until("details in the log", || f.logs_details());
    let told = format!("logging as {} says", f.m.beside("config/littlefs/log").display());
    assert!(f.log().contains(&told), "{}", f.log());
    // A mistake changes nothing but is told.
    f.set(Some("littlefs=loud"));
    wait_until("the complaint", || f.log().contains("like 'warn,littlefs::fuse=debug'"));
    assert!(f.logs_details());
    f.set(None);
    wait_until("no more details", || !f.logs_details());
    assert!(is_mounted(&f.m.dir()));
    f.m.unmount();
    assert!(f.daemon.wait().expect("wait").success());
}

/// Waiting signals are taken in the order of their numbers. So when the flush for SIGUSR1 is
/// visible, SIGHUP has been handled.
#[test]
fn a_daemon_in_the_background_stays() {
    let m = Mounted::with_options("1M", "commit=3600");
    let before = status(&m.dir())["pid"].clone();
    fs::write(m.path("f"), b"x").expect("write");
    for signal in ["-HUP", "-USR1"] {
        run(Command::new("kill").args([signal, &m.daemon()]));
    }
    wait_until("the flush", || c_tree(&m.image()).contains_key(&b"f"[..]));
    assert_eq!(status(&m.dir())["pid"], before);
    m.finish();
}

/// On its own terminal, which then closes.
const ON_TERMINAL: &str = r#"
import json, os, pty, signal, subprocess, sys, time
littlefs, image, mnt, nohup = sys.argv[1:]

def patiently(done):
    for _ in range(3000):
        if done():
            return
        time.sleep(0.01)
    sys.exit("waited in vain")

pid, terminal = pty.fork()
if pid == 0:
    # Whatever the tests themselves were started with.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup == "nohup" else signal.SIG_DFL)
    os.execv(littlefs, [littlefs, "mount", "-f", image, mnt])
patiently(lambda: os.path.ismount(mnt))

def answers():
    said = subprocess.run([littlefs, "status", "--json", mnt], check=True, stdout=subprocess.PIPE)
    return json.loads(said.stdout)["pid"] == pid

# With the terminal there, SIGHUP only makes it read its settings.
os.kill(pid, signal.SIGHUP)
os.kill(pid, signal.SIGUSR1)
with open(f"{mnt}/f", "w") as f:
    f.write("written")
assert answers()
os.close(terminal)
if nohup == "nohup":
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.1)
    assert answers()
    os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert not os.path.ismount(mnt)
"#;

#[test]
fn the_end_of_its_terminal_ends_a_daemon_in_the_foreground() {
    for nohup in ["", "nohup"] {
        let m = Mounted::unmounted("1M");
        let program = env!("CARGO_BIN_EXE_littlefs");
        fs::write(m.beside("script"), ON_TERMINAL).expect("write");
        run(Command::new("python3").arg(m.beside("script")).arg(program).args([
            m.image().as_os_str(),
            m.dir().as_os_str(),
            nohup.as_ref(),
        ]));
        assert!(m.is_free());
        assert!(c_tree(&m.image()).contains_key(&b"f"[..]));
    }
}
