//! All crash images of a workload, and the report about one that fails.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use littlefs::bd::emu::crash::{Crash, Crashes, Cut};
use littlefs::fs::Durability;

use super::oracle::judge;
use super::script::{ID, Run, Script, Setup, Step, run};
use super::verify::{c_goes_on, goes_on, read, sound};
use testkit::calls::Call;

/// How long a failing workload is shortened.
const SHRINK_TIME: Duration = Duration::from_secs(20);

/// Multiplies the number of random images, for a long run.
pub fn factor() -> usize {
    std::env::var("LITTLEFS_CRASH_FACTOR").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

fn verify(setup: &Setup, run: &Run, crash: &Crash, with_c: bool) -> Result<(), String> {
    sound(setup, &crash.image, false)?;
    let tree = read(setup, &crash.image)?;
    let segment = run.segment(crash.reached);
    match setup.durability {
        Durability::Full => {
            judge(&run.states[segment.old..=segment.new], segment.failed, &tree)?;
        }
        Durability::Ordered => {
            let judge = |(old, new)| judge(&run.states[old..=new], segment.failed, &tree);
            let mut verdicts = run.possible(crash.reached).into_iter().map(judge);
            let first = verdicts.next().unwrap_or(Ok(()));
            if first.is_err() && !verdicts.any(|verdict| verdict.is_ok()) {
                return first;
            }
        }
    }
    goes_on(setup, &crash.image, &tree, with_c)?;
    if with_c { c_goes_on(setup, &crash.image, &tree) } else { Ok(()) }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A crash image that failed.
struct Failure {
    why: String,
    cut: Option<Cut>,
    /// The step during which the crash happened.
    step: usize,
    image: Vec<u8>,
}

/// Run a workload without crashes. Both filesystems and the verifier judge the result.
pub fn try_run(setup: &Setup, steps: &[Step]) -> Result<(), String> {
    let run = match catch_unwind(|| run(setup, steps)) {
        Ok(run) => run?,
        Err(panic) => return Err(format!("panic: {}", panic_text(&*panic))),
    };
    let image = run.image();
    sound(setup, &image, true)?;
    let tree = read(setup, &image)?;
    goes_on(setup, &image, &tree, true)?;
    c_goes_on(setup, &image, &tree)
}

/// The number of distinct crash images, if all of them from step `first` on are good.
fn try_all(
    setup: &Setup,
    steps: &[Step],
    samples: usize,
    first: usize,
) -> Result<usize, Box<Failure>> {
    let fail = |why, cut, step, image| Err(Box::new(Failure { why, cut, step, image }));
    let run = match catch_unwind(|| run(setup, steps)) {
        Ok(Ok(run)) => run,
        Ok(Err(why)) => return fail(why, None, steps.len(), Vec::new()),
        Err(panic) => return fail(panic_text(&*panic), None, steps.len(), Vec::new()),
    };
    let mut crashes = Crashes::new(run.base.clone(), &run.log, samples, 1);
    let mut n = 0;
    for crash in crashes.by_ref() {
        let step = run.segments.partition_point(|s| s.end < crash.reached);
        if step < first {
            continue;
        }
        let with_c = matches!(crash.cut, Cut::Linear { .. }) || n % 8 == 0;
        n += 1;
        let result = catch_unwind(AssertUnwindSafe(|| verify(setup, &run, &crash, with_c)));
        let why = match result {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(panic) => format!("panic: {}", panic_text(&*panic)),
        };
        return fail(why, Some(crash.cut), step, crash.image);
    }
    Ok(crashes.distinct())
}

/// For a limited time, leave out steps that the failure does not need.
fn shrink(setup: &Setup, mut steps: Vec<Step>, samples: usize, why: &str) -> Vec<Step> {
    // the same kind of failure, and objects keep the attribute that names them
    let kind = |why: &str| why.split(' ').take(2).collect::<String>();
    let new = |s: &Step| match s {
        Step::Call(Call::Create(path) | Call::Mkdir(path)) => Some(path.clone()),
        _ => None,
    };
    let id = |s: &Step| match s {
        Step::Call(Call::SetAttr { path, ty: ID, .. }) => Some(path.clone()),
        _ => None,
    };
    let named = |steps: &[Step]| {
        steps.iter().enumerate().all(|(i, s)| {
            let before = i.checked_sub(1).and_then(|i| new(&steps[i]));
            (new(s).is_none() || steps.get(i + 1).and_then(id) == new(s))
                && (id(s).is_none() || before == id(s))
        })
    };
    let begin = Instant::now();
    let mut chunk = (steps.len() / 2).max(1);
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && begin.elapsed() < SHRINK_TIME {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            if !named(&fewer) {
                at += 1;
                continue;
            }
            match try_all(setup, &fewer, samples, fewer.len().saturating_sub(1)) {
                Err(f) if kind(&f.why) == kind(why) => steps = fewer,
                _ => at += chunk.div_ceil(2),
            }
        }
        if begin.elapsed() >= SHRINK_TIME || (chunk == 2 && steps.len() == before) {
            return steps;
        }
        chunk = if chunk == 2 { 1 } else { (chunk / 2).max(2) };
    }
}

/// Try `samples` crash images of each kind between any two barriers of the workload. Returns the
/// number of distinct ones.
pub fn explore(name: &str, setup: &Setup, steps: &[Step], samples: usize) -> usize {
    let samples = samples * factor();
    let failure = match try_all(setup, steps, samples, 0) {
        Ok(n) => return n,
        Err(failure) => failure,
    };
    let path = std::env::temp_dir().join(format!("crash-{name}-{}.img", std::process::id()));
    let saved = std::fs::write(&path, &failure.image);
    let steps =
        shrink(setup, steps[..steps.len().min(failure.step + 1)].to_vec(), samples, &failure.why);
    let shrunk = try_all(setup, &steps, samples, 0).err();
    let shrunk = shrunk.map(|f| format!("{}, in step {}, {:?}", f.why, f.step, f.cut));
    panic!(
        "{name} on {setup:?}: {}\nin step {}, {:?}\nimage: {} ({saved:?})\n\
         a shorter workload that fails: {}\n{}",
        failure.why,
        failure.step,
        failure.cut,
        path.display(),
        shrunk.unwrap_or_default(),
        listing(&steps)
    );
}

/// The same workload on several setups.
pub fn explore_all(name: &str, setups: &[Setup], script: &Script, samples: usize) -> usize {
    setups.iter().map(|s| explore(name, s, &script.steps, samples)).sum()
}

fn listing(steps: &[Step]) -> String {
    steps.iter().enumerate().map(|(i, s)| format!("{i}: {s:?}\n")).collect()
}
