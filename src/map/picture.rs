//! Static maps: text and SVG.

use std::fmt::Write;

use super::{Block, Change, Class, Map, Summary};
use crate::show;

/// How many cells of the SVG picture are in a row.
const SVG_COLUMNS: usize = 128;
/// How many problems are named in the text; the JSON has all of them.
const PROBLEMS_SHOWN: usize = 10;
/// Size of a cell in the SVG picture, in its units.
const CELL: usize = 8;

/// One cell of a picture: the most frequent kind of its blocks, or the kind of a damaged block if
/// there is one.
fn cell(blocks: &[Block]) -> (Class, bool) {
    let mut counts = [0_u32; Class::ALL.len()];
    for block in blocks {
        counts[block.class as usize] += 1;
    }
    let damaged = Class::ALL.into_iter().rfind(|c| c.is_damage() && counts[*c as usize] > 0);
    let most = Class::ALL.into_iter().max_by_key(|c| counts[*c as usize]);
    let changed = blocks.iter().any(|block| block.change != Change::Same);
    (damaged.or(most).unwrap_or(Class::Erased), changed)
}

/// How many blocks a cell must hold so that there are at most `cells` cells.
fn per_cell(map: &Map, cells: usize) -> usize {
    map.blocks.len().div_ceil(cells.max(1)).max(1)
}

/// The map as lines of characters, with a legend. `paint` colours a character.
pub fn text(
    map: &Map,
    columns: usize,
    rows: usize,
    paint: impl Fn(Class, bool, &str) -> String,
) -> String {
    let columns = columns.clamp(16, 256);
    let per_cell = per_cell(map, columns * rows.max(1));
    let mut out = String::new();
    let cells: Vec<(Class, bool)> = map.blocks.chunks(per_cell).map(cell).collect();
    for (row, line) in cells.chunks(columns).enumerate() {
        // writing to a string does not fail
        let _ = write!(out, "{:>#10x} ", row * columns * per_cell);
        for &(class, changed) in line {
            out += &paint(class, changed, &class.letter().to_string());
        }
        out.push('\n');
    }
    let summary = map.summary();
    let _ = writeln!(
        out,
        "\n{} blocks of {} bytes; each character is {per_cell} of them",
        summary.block_count, summary.block_size
    );
    for (class, count) in &summary.classes {
        let letter = paint(*class, false, &class.letter().to_string());
        let _ = writeln!(out, "  {letter} {count:>9}  {}", class.name());
    }
    if summary.missing > 0 {
        let _ = writeln!(out, "    {:>9}  missing at the end of the image", summary.missing);
    }
    write_figures(&mut out, &summary);
    let problems = &map.survey.problems;
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        let _ = writeln!(out, "damage: {}: {}", problem.place, problem.message);
    }
    let hidden = problems.len().saturating_sub(PROBLEMS_SHOWN) as u64 + map.survey.more_problems;
    if hidden > 0 {
        let _ = writeln!(
            out,
            "and {} more, which 'littlefs check' lists",
            show::count(hidden, "problem", "problems")
        );
    }
    out
}

/// How fragmented the free blocks and the files are, and how much differs from the second image.
fn write_figures(out: &mut String, summary: &Summary) {
    let free = &summary.free;
    let _ = match free.count {
        0 => writeln!(out, "free runs: 0"),
        1 => writeln!(out, "free runs: 1, of {}", show::blocks(free.max)),
        count => writeln!(
            out,
            "free runs: {count}, of {} to {}, {:.1} on average",
            free.min,
            show::blocks(free.max),
            free.mean
        ),
    };
    for extent in &free.histogram {
        let to = extent.from * 2 - 1;
        let (from, extents, blocks) = (extent.from, extent.extents, extent.blocks);
        let unit = if to == 1 { "block: " } else { "blocks:" };
        let runs = if extents == 1 { "run, " } else { "runs," };
        let all = if blocks == 1 { "block" } else { "blocks" };
        let _ =
            writeln!(out, "  {from:>9} to {to:>9} {unit} {extents:>7} {runs} {blocks:>9} {all}");
    }
    let _ = match summary.files {
        0 => writeln!(out, "files with blocks: 0"),
        files => writeln!(
            out,
            "files with blocks: {files}; in more than one run: {}; runs for each: {:.2} on average",
            summary.fragmented, summary.runs_per_file
        ),
    };
    if let Some(changed) = summary.changed {
        let _ = writeln!(out, "blocks that differ from the second image: {changed}");
    }
}

/// The map as an SVG picture, which is light or dark like the page around it.
pub fn svg(map: &Map) -> String {
    let per_cell = per_cell(map, SVG_COLUMNS * SVG_COLUMNS);
    let cells: Vec<(Class, bool)> = map.blocks.chunks(per_cell).map(cell).collect();
    let rows = cells.len().div_ceil(SVG_COLUMNS).max(1);
    let (width, height) = (SVG_COLUMNS * CELL, rows * CELL + 24);
    let mut paths: Vec<String> = vec![String::new(); Class::ALL.len()];
    let mut changes = String::new();
    let mut at = 0;
    while let Some(&(class, changed)) = cells.get(at) {
        let column = at % SVG_COLUMNS;
        let row_end = at - column + SVG_COLUMNS;
        let same = |cell: &&(Class, bool)| **cell == (class, changed);
        let rest = cells.get(at..row_end.min(cells.len())).unwrap_or_default();
        let len = rest.iter().take_while(same).count().max(1);
        let (x, y) = (column * CELL, at / SVG_COLUMNS * CELL);
        let shape = format!("M{x} {y}h{}v{CELL}h-{}z", len * CELL, len * CELL);
        paths[class as usize] += &shape;
        if changed {
            changes += &shape;
        }
        at += len;
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>Map of {} blocks of {} bytes</title>\n\
         <style>text{{fill:#222}}.change{{fill:none;stroke:#d0006f;stroke-width:1.5}}\
         @media(prefers-color-scheme:dark){{svg{{background:#16181c}}text{{fill:#ddd}}}}</style>\n",
        map.geometry.block_count, map.geometry.block_size
    );
    let mut legend = 0;
    for (class, path) in Class::ALL.into_iter().zip(&paths) {
        if path.is_empty() {
            continue;
        }
        let (colour, name) = (colour(class), class.name());
        let _ = writeln!(out, "<path fill=\"{colour}\" d=\"{path}\"><title>{name}</title></path>");
        let y = rows * CELL + 8;
        let _ = writeln!(
            out,
            "<rect x=\"{legend}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            legend + 14,
            y + 9
        );
        legend += 24 + 6 * name.len();
    }
    if !changes.is_empty() {
        let _ = writeln!(out, "<path class=\"change\" d=\"{changes}\"/>");
    }
    out + "</svg>\n"
}

/// The colour for a kind of block. People who cannot see red, and readers of a greyscale print, can
/// still tell the colours apart.
pub fn colour(class: Class) -> &'static str {
    match class {
        Class::Erased => "#e4e7eb",
        Class::Written => "#b9c1cb",
        Class::Stale => "#9c8fb5",
        Class::Data => "#3d85c6",
        Class::Other => "#8fce6a",
        Class::Live => "#38761d",
        Class::SuperblockOther => "#ffd966",
        Class::SuperblockLive => "#e69f00",
        Class::Unreachable => "#7a3fa0",
        Class::Shared => "#d55e00",
        Class::Bad => "#000000",
    }
}
