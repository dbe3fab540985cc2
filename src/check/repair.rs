//! Repair: mending what can be mended without guessing, by the filesystem's own operations.

use std::sync::Arc;

use crate::bd::BlockDevice;
use crate::error::{Error, Result};
use crate::fs::{Fs, OpenOptions};

/// What was done, one sentence each; and what stopped it, if anything.
#[derive(Debug, Default)]
pub struct Repairs {
    /// In the order done.
    pub done: Vec<String>,
    /// Why the rest was left as it is.
    pub stopped: Option<Error>,
}

/// Mend the littlefs on `dev`. An image with damage that only giving something up could mend is
/// left as it is: see [`Repairs::stopped`].
///
/// # Errors
/// Only when the image cannot be opened.
pub fn repair(dev: Arc<dyn BlockDevice>) -> Result<Repairs> {
    let fs = Fs::open(Arc::clone(&dev), &OpenOptions::default())?;
    let mut repairs = Repairs::default();
    if let Err(e) = steps(fs, dev, &mut repairs.done) {
        repairs.stopped = Some(e);
    }
    Ok(repairs)
}

fn steps(mut fs: Fs, dev: Arc<dyn BlockDevice>, done: &mut Vec<String>) -> Result<()> {
    fs.check_blocks()?;
    if fs.finish_interrupted()? {
        done.push("an interrupted operation was finished".to_owned());
        // only now must all blocks be those of one file
        fs = Fs::open(dev, &OpenOptions::default())?;
        fs.check_blocks()?;
    }
    let threaded = fs.thread_directories()?;
    done.extend(threaded.iter().map(|p| format!("{p}: put into the thread")));
    let (placed, rethreaded) = fs.place_orphans()?;
    done.extend(placed.iter().map(|p| format!("{p}: a directory that had lost its name")));
    if rethreaded {
        done.push("the thread now passes the directories of the tree and no others".to_owned());
    }
    let named = fs.mend_names()?;
    done.extend(named.iter().map(|p| format!("{p}: this is its new name")));
    let sorted = fs.sort_directories()?;
    done.extend(sorted.iter().map(|p| format!("{p}: its entries stand in order")));
    fs.flush()
}
