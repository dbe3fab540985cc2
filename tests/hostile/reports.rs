//! Every report about an image.

use std::sync::Arc;

use littlefs::bd::{BlockDevice, RamDevice};
use littlefs::disk::dissect::Dissection;
use littlefs::disk::log::{Parsed, parse};
use littlefs::disk::{Pair, Superblock};
use littlefs::image::Dialect;
use littlefs::inspect::survey::Survey;
use littlefs::inspect::{Inspector, Report, Unanswered};
use littlefs::map::{self, Labels, Map};
use serde::Serialize;

/// After this many bytes of text, no more reports are requested, because the image is an odd one.
const TEXT_MAX: usize = 8 << 20;

/// Requests reports and displays them, one step after the other.
struct Reader<'a> {
    inspector: Inspector,
    step: &'a dyn Fn(&str, &mut dyn FnMut()),
    text: usize,
}

impl Reader<'_> {
    fn ask<R: Report + Serialize>(
        &mut self,
        what: &str,
        mut ask: impl FnMut(&Inspector) -> Result<Vec<R>, Unanswered>,
    ) {
        if self.text > TEXT_MAX {
            return;
        }
        (self.step)(what, &mut || {
            for report in ask(&self.inspector).unwrap_or_default() {
                let _ = report.is_damaged();
                self.text += report.to_string().len();
                self.text += serde_json::to_vec(&report).expect("JSON").len();
            }
        });
    }
}

/// Request and display every report. Each report is one call of `step`. For every block, the parser
/// and the dissection must agree.
pub fn see(dev: Arc<RamDevice>, step: &dyn Fn(&str, &mut dyn FnMut())) {
    step("as a map", &mut || map(&dev));
    let inspector = Inspector::new(dev);
    for block in 0..inspector.geometry().block_count.min(128) {
        agree(&inspector.bytes(block).expect("memory"));
    }
    ask_for_everything(inspector, step);
}

/// The same for an image of another dialect with this superblock.
pub fn see_dialect(
    dev: Arc<dyn BlockDevice>,
    dialect: Dialect,
    superblock: Superblock,
    step: &dyn Fn(&str, &mut dyn FnMut()),
) {
    step("as a map", &mut || map_dialect(&*dev, dialect, superblock));
    ask_for_everything(Inspector::of_dialect(dev, dialect, Some(superblock)), step);
}

fn ask_for_everything(inspector: Inspector, step: &dyn Fn(&str, &mut dyn FnMut())) {
    let mut reader = Reader { inspector, step, text: 0 };
    reader.ask("superblock", |i| {
        Ok(vec![i.version1().map_or_else(|| i.superblock(), |version1| version1.superblock())])
    });
    reader.ask("gstate", |i| Ok(vec![i.gstate()]));
    reader.ask("tree", |i| Ok(vec![i.tree()]));
    let tree = reader.inspector.tree();
    for pair in tree.pairs.iter().map(|pair| pair.pair).chain([[0, 0], [1, 0]]) {
        match reader.inspector.version1() {
            None => reader.ask("pair", |i| Ok(vec![i.pair(Pair(pair))?])),
            Some(_) => reader.ask("pair", |i| {
                i.version1().map(|version1| version1.pair(Pair(pair))).into_iter().collect()
            }),
        }
    }
    let mut paths: Vec<&str> = tree.entries.iter().map(|entry| &*entry.path).collect();
    paths.dedup();
    for path in paths.into_iter().take(40).map(str::as_bytes) {
        reader.ask("file", |i| i.file(path));
        reader.ask("dir", |i| i.dir(path));
        match reader.inspector.version1() {
            None => reader.ask("log", |i| i.log(path)),
            Some(_) => {
                reader.ask("log", |i| i.version1().map_or(Ok(Vec::new()), |it| it.log(path)))
            }
        }
    }
    for block in 0..reader.inspector.geometry().block_count.min(128) {
        reader.ask("block", |i| Ok(vec![i.block(block)?]));
    }
    assert!(reader.text > 0);
}

/// Every form of the map, also in comparison with the image itself.
fn map(dev: &RamDevice) {
    let mut map = Map::new(dev, u32::MAX).expect("not too many blocks");
    assert_eq!(map.blocks.len(), dev.geometry().block_count as usize);
    assert!(!map::text(&map, 64, 32, |_, _, text| text.to_owned()).is_empty());
    assert!(map::svg(&map).ends_with("</svg>\n"));
    let runs = map.runs();
    assert_eq!(runs.iter().map(|run| run.count as usize).sum::<usize>(), map.blocks.len());
    let json = serde_json::to_vec(&(map.summary(), runs, &map.survey.problems));
    assert!(json.expect("JSON").len() > map.blocks.len() / 1000);
    let itself = Map::new(dev, u32::MAX).expect("not too many blocks");
    map.compare(dev, &itself, dev).expect("the same size");
    assert_eq!(map.summary().changed, Some(0));
    let labels =
        |label| Labels { label, title: "image".to_owned(), command: "inspect ".to_owned() };
    let page = map::html(&[(&map, labels("A")), (&itself, labels("B"))]).expect("a page");
    assert!(page.len() <= 300 << 10, "{} bytes", page.len());
}

/// The map of an image of another dialect.
fn map_dialect(dev: &dyn BlockDevice, dialect: Dialect, superblock: Superblock) {
    let survey = |dev: &dyn BlockDevice| Survey::of_dialect(dev, dialect, Some(superblock));
    let Ok(map) = Map::with_survey(dev, u32::MAX, survey) else { return };
    assert_eq!(map.blocks.len(), dev.geometry().block_count as usize);
    assert!(!map::text(&map, 64, 32, |_, _, text| text.to_owned()).is_empty());
    let runs = map.runs();
    assert_eq!(runs.iter().map(|run| run.count as usize).sum::<usize>(), map.blocks.len());
}

/// Check that both readers of a block see the same in it.
fn agree(bytes: &[u8]) {
    let taken = Dissection::of(bytes).expect("a revision");
    let Parsed::Log(log) = parse(bytes, bytes.len()) else {
        return assert!(taken.commits.is_empty());
    };
    let commits = taken.commits.len() as u32;
    assert_eq!((log.rev, log.off, log.commits), (taken.rev, taken.end, commits));
    let effects = taken.tags().zip(taken.effects());
    let names = effects.filter(|(placed, effect)| placed.tag.type1() == 0 && effect.is_some());
    let named = log.entries.iter().filter(|entry| entry.name_type.is_some());
    assert_eq!(names.count(), named.count());
}
