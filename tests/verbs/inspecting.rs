//! `inspect`: what it shows for images of the C driver is what that driver reads and does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::disk::{Pair, tag};
use littlefs::inspect::{HalfState, Inspector, Report};
use serde_json::Value;

use testkit::clfs::{CLfs, Config, V2_0, V2_1};
use testkit::desk::Desk;
use testkit::surgery::Surgeon;

fn inspector(config: &Config, image: &[u8]) -> Inspector {
    let geometry = Geometry::new(config.block_size, config.block_count).expect("possible");
    Inspector::new(Arc::new(RamDevice::from_image(geometry, image.to_vec())))
}

/// An image by the C driver with files of all sizes, directories of several pairs and attributes.
fn used_image(config: &Config) -> CLfs {
    let mut fs = CLfs::fresh(config).expect("a filesystem");
    for d in ["etc", "etc/deep", "many"] {
        fs.mkdir(d.as_bytes()).expect("a directory");
    }
    for n in 0..40_u32 {
        let size = [0, 9, 300, 1000, 5000][n as usize % 5];
        let dir = ["etc", "etc/deep", "many"][n as usize % 3];
        let content: Vec<u8> = (0..size).map(|at| (at * 7 + n) as u8).collect();
        fs.write_file(format!("{dir}/file{n:02}").as_bytes(), &content).expect("a file");
    }
    for n in 0..10 {
        fs.remove(format!("etc/file{:02}", n * 3).as_bytes()).expect("it goes");
    }
    fs.setattr(b"many/file02", 0x74, b"12345678").expect("an attribute");
    fs
}

fn configs() -> Vec<Config> {
    let mut old = Config::new(512, 512, 16);
    old.disk_version = V2_0;
    vec![Config::new(512, 512, 16), Config::new(4096, 64, 256), Config::new(256, 1024, 1), old]
}

#[test]
fn files_directories_and_blocks_are_those_of_the_driver() {
    for config in configs() {
        let mut fs = used_image(&config);
        let image = fs.image();
        let seen = inspector(&config, &image);
        let tree = seen.tree();
        assert!(tree.problems.is_empty() && tree.thread_whole == Some(true), "{:?}", tree.problems);
        let mut expected: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for path in fs.tree(&[]).expect("a tree").into_keys() {
            let path = format!("/{}", String::from_utf8(path).expect("UTF-8"));
            let content = fs.read_file(&path.as_bytes()[1..]).ok();
            expected.insert(path, content);
        }
        let mut found = BTreeMap::new();
        let mut blocks = BTreeSet::new();
        for entry in tree.entries.iter().filter(|entry| entry.path != "/") {
            let content = if entry.storage == "pairs" {
                None
            } else {
                let files = seen.file(entry.path.as_bytes()).expect("a file");
                assert!(!files[0].is_damaged(), "{:?}", files[0].damage);
                blocks.extend(files[0].blocks.iter().map(|block| block.block));
                Some(content_of(&files[0], &config, &image))
            };
            found.insert(entry.path.clone(), content);
        }
        expected.remove("/");
        assert_eq!(found, expected, "{config:?}");
        blocks.extend(tree.pairs.iter().flat_map(|pair| pair.pair));
        assert_eq!(blocks, fs.blocks().expect("a traversal"), "{config:?}");
        let attribute = &seen.file(b"many/file02").expect("a file")[0].attributes[0];
        assert_eq!((attribute.r#type, &*attribute.data_hex), (0x74, "3132333435363738"));
    }
}

/// The content of a file, composed of the places that the report names.
fn content_of(file: &littlefs::inspect::FileReport, config: &Config, image: &[u8]) -> Vec<u8> {
    if let Some(hex) = &file.inline_hex {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        return (0..hex.len()).step_by(2).map(byte).collect();
    }
    let mut content = Vec::new();
    for block in file.blocks.iter().rev() {
        assert_eq!(block.position, content.len() as u64);
        let at = (block.block * config.block_size + block.data_offset) as usize;
        content.extend_from_slice(&image[at..at + block.bytes as usize]);
    }
    content
}

/// The block of a pair that counts.
fn live(inspector: &Inspector, pair: Pair) -> u32 {
    inspector.pair(pair).expect("a pair").live().expect("a live half").block
}

#[test]
fn a_device_appends_and_compacts_where_the_report_says_so() {
    let (mut appended, mut compacted) = (0, 0);
    for mut config in [Config::new(512, 128, 16), Config::new(1024, 64, 64)] {
        for version in [V2_1, V2_0] {
            config.disk_version = version;
            let mut fs = CLfs::fresh(&config).expect("a filesystem");
            fs.create(b"file").expect("a file");
            let mut image = fs.unmount();
            for step in 0..120_u32 {
                if step % 7 == 6 {
                    image = tear(&config, image, step);
                }
                let before = inspector(&config, &image);
                let report = before.pair(Pair::SUPERBLOCK).expect("a pair");
                let half = report.live().expect("a live half");
                let verdict = half.append.clone().expect("of the live half");
                let mut fs = CLfs::mount(image, &config).expect("it mounts");
                fs.setattr(b"file", 1, &step.to_le_bytes()).expect("a commit");
                image = fs.unmount();
                if verdict.appends && verdict.room < 2 * config.prog_size + 40 {
                    // whether that is enough depends on the commit
                    continue;
                }
                let same = live(&inspector(&config, &image), Pair::SUPERBLOCK) == half.block;
                assert_eq!(same, verdict.appends, "step {step}: {report}");
                if same { appended += 1 } else { compacted += 1 }
            }
        }
    }
    assert!(appended > 100 && compacted > 20, "{appended} and {compacted}");
}

/// What a commit that was cut off leaves after the last commit.
fn tear(config: &Config, image: Vec<u8>, step: u32) -> Vec<u8> {
    let mut surgeon = Surgeon::new(config, image);
    let (pair, log) = surgeon.fetch(Pair::SUPERBLOCK);
    let fits = log.off + 2 * config.prog_size + 48 < config.block_size;
    if fits {
        surgeon.commit(pair, |writer| writer.tag(tag::USERATTR + 9, 1, &step.to_le_bytes()));
        surgeon.block(pair.0[0])[log.off as usize + 5] ^= 1;
    }
    surgeon.image
}

#[test]
fn commits_show_their_state_and_tags_their_effect() {
    let config = Config::new(512, 128, 16);
    let mut fs = CLfs::fresh(&config).expect("a filesystem");
    fs.create(b"b").expect("a file");
    fs.setattr(b"b", 1, b"old").expect("an attribute");
    fs.setattr(b"b", 1, b"new").expect("an attribute");
    fs.create(b"a").expect("a file before it");
    let image = tear(&config, fs.unmount(), 0);
    let seen = inspector(&config, &image);
    let report = seen.pair(Pair::SUPERBLOCK).expect("a pair");
    assert!(!report.is_damaged(), "{:?}", report.damage);
    let half = report.live().expect("a live half");
    let (torn, valid) = half.commits.split_last().expect("commits");
    assert!(!torn.valid && valid.iter().all(|commit| commit.valid), "{report}");
    assert_ne!(torn.crc_stored, torn.crc_computed);
    assert!(!half.append.as_ref().expect("a verdict").appends);
    let text = report.to_string();
    for words in ["torn: the bytes give CRC", "'new' (now id 2)", "look like a tag", "superseded"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let old = text.lines().find(|line| line.contains("'old'")).expect("a line");
    assert!(old.contains("-0x"), "it counts no more: {old}");

    let log = seen.log(b"b").expect("a history");
    let steps: Vec<(&str, Option<u16>)> =
        log[0].steps.iter().map(|step| (step.tag.name, step.tag.id)).collect();
    let id = Some(1);
    let attributes = [("USERATTR", id), ("USERATTR", id)];
    let expected = [&[("CREATE", id), ("REG", id), ("INLINESTRUCT", id)], &attributes[..]].concat();
    assert_eq!(steps, expected);
    assert_eq!(log[0].id, 2);
}

#[test]
fn an_interrupted_move_is_in_the_sum_of_the_global_state() {
    let bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/c-move-pending.img"));
    let mut bytes = bytes.expect("an image");
    let config = Config::new(512, 40, 16);
    bytes.resize(512 * 40, 0xff);
    let gstate = inspector(&config, &bytes).gstate();
    let surgeon = Surgeon::new(&config, bytes);
    let expected = surgeon.gstate();
    let hex: String = expected.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(gstate.sum_hex, hex);
    let (pair, id) = expected.pending_move().expect("a move");
    let pending = gstate.pending_move.expect("a move");
    assert_eq!((pending.pair, pending.id), (pair.0, id));
    let deltas = surgeon.thread().into_iter().filter(|&p| !surgeon.fetch(p).1.gdelta.is_zero());
    assert_eq!(gstate.contributions.len(), deltas.count());
}

#[test]
fn the_program_shows_text_json_and_bytes() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    for what in ["superblock", "tree", "gstate"] {
        assert!(!desk.ok(&["inspect", "new.img", what]).text().is_empty());
    }
    let json = |args: &[&str]| -> Value {
        let args = [&["inspect", "--json", "new.img"], args].concat();
        desk.ok(&args).json()[0].clone()
    };
    assert_eq!(json(&["superblock"])["copies"][1]["disk_version"], "2.1");
    let pair = json(&["pair", "0x0,1"]);
    assert_eq!(pair["halves"][0]["commits"][0]["tags"][0]["name"], "SUPERBLOCK");
    assert_eq!(pair["entries"][0]["type"], "SUPERBLOCK");
    let file = json(&["file", "/www/js/app.js"]);
    assert_eq!((&file["size"], file["blocks"].as_array().map(Vec::len)), (&9000.into(), Some(3)));
    assert_eq!(json(&["dir", "www"])["entries"].as_array().map(Vec::len), Some(3));
    assert_eq!(json(&["log", "etc"])["steps"][0]["name"], "CREATE");
    let head = file["blocks"][0]["block"].as_u64().expect("a number");
    let block = json(&["block", &head.to_string()]);
    assert_eq!(block["used_as"], "block 2 of file /www/js/app.js");

    let raw = desk.ok(&["inspect", "--raw", "new.img", "pair", "1,0"]).stdout;
    assert_eq!(raw, [&image[4096..8192], &image[..4096]].concat());
    let raw = desk.ok(&["inspect", "--raw", "new.img", "file", "www/js/app.js"]).stdout;
    assert_eq!((raw.len(), &raw[..4096]), (3 * 4096, &[b'j'; 4096][..]));

    desk.fails(&["inspect", "new.img", "file", "gone"], 1, &["new.img: gone: no such file"]);
    desk.fails(&["inspect", "new.img", "file", "www"], 1, &["is a directory"]);
    desk.fails(&["inspect", "new.img", "dir", "etc/config.txt"], 1, &["is not a directory"]);
    desk.fails(&["inspect", "new.img", "block", "64"], 1, &["there is no block 0x40"]);
    desk.fails(&["inspect", "new.img", "pair", "0"], 1, &["like 0,1"]);
    desk.fails(&["inspect", "new.img", "pair"], 1, &["give the blocks"]);
    desk.fails(&["inspect", "--raw", "new.img", "tree"], 1, &["--raw"]);
    desk.fails(&["inspect", "new.img", "tree", "x"], 1, &["no further argument"]);
}

#[test]
fn damage_is_shown_where_check_says_and_in_the_exit_status() {
    let desk = Desk::with_image();
    let files = desk.ok(&["inspect", "--json", "new.img", "file", "www/js/app.js"]).json();
    let head = files[0]["blocks"][0]["block"].as_u64().expect("a number") as usize;
    let dirs = desk.ok(&["inspect", "--json", "new.img", "dir", "etc"]).json();
    let etc = dirs[0]["pairs"][0]["pair"].clone();
    let mut image = desk.read("new.img");
    // the head points out of the image, and a directory cannot be read
    image[head * 4096..head * 4096 + 4].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
    for block in [&etc[0], &etc[1]] {
        let at = block.as_u64().expect("a number") as usize * 4096;
        image[at..at + 4096].fill(0);
    }
    desk.file("it's bad.img", &image);
    let checked = desk.run(&["check", "it's bad.img"]);
    assert_eq!(checked.code, 4);
    let lines: Vec<&str> =
        checked.text().lines().filter_map(|line| line.trim().strip_prefix("see: ")).collect();
    assert!(lines.iter().any(|line| line.ends_with("file '/www/js/app.js'")), "{lines:?}");
    assert_eq!(lines.len(), checked.text().lines().filter(|l| l.ends_with(']')).count());
    for line in lines {
        let line = line.replacen("littlefs", env!("CARGO_BIN_EXE_littlefs"), 1);
        let mut shell = std::process::Command::new("sh");
        let out = shell.arg("-c").arg(&line).current_dir(desk.path("")).output().expect("a shell");
        let (text, err) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(2), "{line}: {text}{err}");
        assert!(text.contains("damage: "), "{line}: {text}");
    }
    let unread = desk.run(&["inspect", "it's bad.img", "tree"]);
    assert_eq!(unread.code, 2);

    // without any superblock, the block size has to be given
    image[..8192].fill(0xff);
    desk.file("lost.img", &image);
    desk.fails(&["inspect", "lost.img", "block", "0"], 1, &["lost.img"]);
    let ran = desk.run(&["inspect", "--block-size", "4096", "lost.img", "pair", "0,1"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("shown as 64 blocks of 4096 bytes"), "{}", ran.stderr);
    assert!(
        inspector(&Config::new(4096, 64, 16), &image)
            .pair(Pair::SUPERBLOCK)
            .is_ok_and(|report| report.halves.iter().all(|half| half.state == HalfState::Invalid))
    );
}

/// The command that a finding names shows the place of the finding.
#[test]
fn findings_lead_to_what_they_are_about() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    let inspect = |path: &str| desk.ok(&["inspect", "--json", "new.img", "dir", path]).json();
    let pair = inspect("www")[0]["pairs"][0]["pair"].clone();
    let js = desk.ok(&["inspect", "--json", "new.img", "file", "www/js/app.js"]).json();
    let head = js[0]["blocks"][0]["block"].as_u64().expect("a block") as usize;
    // a directory whose pair is gone; a list whose head points outside; a root that is cut short
    let mut damaged = [image.clone(), image.clone()];
    for block in pair.as_array().expect("two blocks") {
        let at = block.as_u64().expect("a block") as usize * 4096;
        damaged[0][at..at + 4096].fill(0);
    }
    damaged[1][head * 4096..][..8].fill(0x77);
    for bytes in damaged {
        desk.file("bad image.img", &bytes);
        let report = desk.run(&["check", "--json", "bad image.img"]);
        assert_eq!(report.code, 4, "{report:?}");
        let text = desk.run(&["check", "bad image.img"]);
        let findings = report.json()["findings"].clone();
        for finding in findings.as_array().expect("findings") {
            let command = finding["inspect"].as_str().expect("a command");
            assert!(text.text().contains(&format!("  see: {command}\n")), "{}", text.text());
            let arguments = command.strip_prefix("littlefs ").expect("the program");
            let shell = format!("exec '{}' {arguments}", env!("CARGO_BIN_EXE_littlefs"));
            let mut run = std::process::Command::new("sh");
            let shown = run.args(["-c", &shell]).current_dir(desk.path(".")).output().expect("sh");
            // it is there, and damage shows unless the finding is a note
            let code = shown.status.code();
            assert!(code == Some(2) || code == Some(0), "{finding}: {shown:?}");
        }
    }
}

/// Like all other commands, the inspector shows the new content of a directory whose pair has
/// moved while the thread still names the old blocks.
#[test]
fn the_new_content_of_a_relocated_directory_is_shown() {
    let desk = Desk::new();
    let mut image = include_bytes!("../corpus/half-orphan.img").to_vec();
    image.resize(64 << 10, 0xff);
    desk.file("a.img", &image);
    assert_eq!(desk.ok(&["ls", "a.img", "dir"]).text(), "new\n");
    let tree = desk.run(&["inspect", "a.img", "tree"]);
    assert!(tree.code == 2 && tree.text().contains("/dir/new"), "{}", tree.text());
    assert!(!tree.text().contains("/dir/file"), "{}", tree.text());
    assert!(tree.text().contains("/dir: has moved to {0x3, 0x4}; the thread names {0x2, 0x3}"));
    let map = desk.run(&["map", "--format", "json", "a.img"]).json();
    assert_eq!(
        (&map["classes"]["live"], &map["classes"]["other"]),
        (&1.into(), &2.into()),
        "{map}"
    );
}
