//! Eight processes at once on one mount: there is no deadlock, and nothing is lost.

use std::process::{Child, Command};

use testkit::mounted::{Mounted, sh, wait_until};

/// What each process does: it works on its own files, in its own directory and in one that all
/// share, renames between the two, appends to a file that all share, and compares its files at the
/// end.
const PROCESS: &str = "
import os, sys, hashlib
me = int(sys.argv[1])
os.makedirs(f'own{me}', exist_ok=True)
shared = os.open('log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def body(n): return hashlib.sha256(f'{me}/{n}'.encode()).digest() * (n * 7 % 300)
for n in range(150):
    with open(f'own{me}/f{n}', 'wb') as f:
        f.write(body(n))
        if n % 10 == 0: os.fsync(f.fileno())
    os.rename(f'own{me}/f{n}', f'shared/{me}.{n}')
    os.write(shared, b'%d %d\\n' % (me, n))
    if n % 3 == 0: os.rename(f'shared/{me}.{n}', f'own{me}/g{n}')
    if n % 3 == 1: os.unlink(f'shared/{me}.{n}')
    os.listdir('shared')
    os.statvfs('.')
for n in range(150):
    if n % 3 == 1: continue
    name = f'own{me}/g{n}' if n % 3 == 0 else f'shared/{me}.{n}'
    assert open(name, 'rb').read() == body(n), name
";

fn finished(child: &mut Child) -> bool {
    child.try_wait().expect("wait").is_some()
}

#[test]
fn eight_processes_at_once() {
    let m = Mounted::new("16M");
    sh(&m.dir(), "mkdir shared", &[]);
    let spawn = |me: u32| {
        let mut python = Command::new("python3");
        python.args(["-c", PROCESS, &me.to_string()]).current_dir(m.dir());
        python.spawn().expect("python3 is needed by the tests")
    };
    let mut children: Vec<Child> = (0..8).map(spawn).collect();
    for child in &mut children {
        wait_until("all processes", || finished(child));
        assert!(child.wait().expect("wait").success());
    }
    sh(
        &m.dir(),
        "[ $(ls shared | wc -l) = 400 ]
        [ $(ls -d own*/g* | wc -l) = 400 ]
        [ $(sort -u log | wc -l) = 1200 ] && [ $(wc -l <log) = 1200 ]",
        &[],
    );
    m.finish();
}
