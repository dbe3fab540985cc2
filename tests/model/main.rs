//! The filesystem is compared with a simple model, and verified after every flush.

use std::collections::BTreeMap;
use std::sync::Arc;

use littlefs::Error;
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::fs::{DirId, FormatOptions, Fs, Node, OpenOptions, ROOT};

/// A small random generator, so that the tests are the same in every run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

type Tree = BTreeMap<Vec<String>, Option<Vec<u8>>>;

fn dir_of(fs: &mut Fs, path: &[String]) -> Result<DirId, Error> {
    let mut dir = ROOT;
    for name in path {
        match fs.lookup(dir, name.as_bytes())? {
            Node::Dir(d) => dir = d,
            Node::File { .. } => return Err(Error::NotDirectory),
        }
    }
    Ok(dir)
}

fn read_tree(fs: &mut Fs) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for name in fs.list(dir).expect("list") {
            let mut p: Vec<String> = path.clone();
            p.push(String::from_utf8(name.to_vec()).expect("ascii names"));
            match fs.lookup(dir, &name).expect("listed names are found") {
                Node::Dir(d) => {
                    assert!(tree.insert(p.clone(), None).is_none(), "{p:?} twice");
                    todo.push((d, p));
                }
                Node::File { size } => {
                    let f = fs.open_file(dir, &name).expect("open");
                    let data = fs.read(f, 0, usize::MAX).expect("read").run().expect("run");
                    fs.close_file(f);
                    assert_eq!(data.len() as u32, size);
                    assert!(tree.insert(p.clone(), Some(data)).is_none(), "{p:?} twice");
                }
            }
        }
    }
    tree
}

fn run(block_size: u32, block_count: u32, prog_size: u32, seed: u64, steps: usize) {
    let g = Geometry::new(block_size, block_count).expect("geometry");
    let dev = Arc::new(RamDevice::new(g));
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let options = OpenOptions { prog_size: Some(prog_size), ..OpenOptions::default() };
    let mut fs = Fs::open(dev.clone(), &options).expect("open");
    let mut rng = Rng(seed);
    let mut model = Tree::new();
    let mut log = Vec::new();
    for _ in 0..steps {
        let name = |rng: &mut Rng| {
            format!("{}{}", ["a", "bb", "c", "longer-name-"][rng.below(4)], rng.below(12))
        };
        let dirs: Vec<Vec<String>> = std::iter::once(Vec::new())
            .chain(model.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k.clone()))
            .collect();
        let mut path = dirs[rng.below(dirs.len())].clone();
        path.push(name(&mut rng));
        let parent = dir_of(&mut fs, &path[..path.len() - 1]).expect("model dirs exist");
        let last = path[path.len() - 1].clone();
        let existing: Vec<Vec<String>> = model.keys().cloned().collect();
        let pick = |rng: &mut Rng| {
            (!existing.is_empty()).then(|| existing[rng.below(existing.len())].clone())
        };
        match rng.below(20) {
            0..=4 => {
                let size = [0, 3, 20, 60, 100, 300, 5000][rng.below(7)];
                let data: Vec<u8> = (0..size).map(|_| rng.below(256) as u8).collect();
                log.push(format!("write {path:?} {size}"));
                if model.get(&path) == Some(&None) {
                    continue;
                }
                match fs.create(parent, last.as_bytes()) {
                    Ok(()) => drop(model.insert(path.clone(), Some(Vec::new()))),
                    Err(Error::Exists) => assert!(model.contains_key(&path)),
                    Err(Error::NoSpace) => continue,
                    Err(e) => panic!("{e}"),
                }
                let f = fs.open_file(parent, last.as_bytes()).expect("open");
                let off = rng.below(2) * rng.below(200);
                match fs.write(f, off as u64, &data) {
                    Ok(()) if !data.is_empty() => {
                        let m = model.get_mut(&path).and_then(Option::as_mut).expect("a file");
                        if m.len() < off + data.len() {
                            m.resize(off + data.len(), 0);
                        }
                        m[off..off + data.len()].copy_from_slice(&data);
                    }
                    Ok(()) | Err(Error::NoSpace) => {}
                    Err(e) => panic!("{e}"),
                }
                fs.close_file(f);
            }
            5..=7 => {
                log.push(format!("mkdir {path:?}"));
                match fs.mkdir(parent, last.as_bytes()) {
                    Ok(_) => assert!(model.insert(path, None).is_none()),
                    Err(Error::Exists) => assert!(model.contains_key(&path)),
                    Err(Error::NoSpace) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            8..=11 => {
                let Some(path) = pick(&mut rng) else { continue };
                log.push(format!("remove {path:?}"));
                let (last, dir) = path.split_last().expect("not the root");
                let parent = dir_of(&mut fs, dir).expect("exists");
                let empty = !existing.iter().any(|p| p.len() > path.len() && p.starts_with(&path));
                if model[&path].is_some() {
                    fs.unlink(parent, last.as_bytes()).expect("unlink");
                    model.remove(&path);
                } else {
                    match fs.rmdir(parent, last.as_bytes()) {
                        Ok(()) => {
                            assert!(empty);
                            model.remove(&path);
                        }
                        Err(Error::NotEmpty) => assert!(!empty),
                        Err(e) => panic!("{e}"),
                    }
                }
            }
            12..=15 => {
                let Some(from) = pick(&mut rng) else { continue };
                log.push(format!("rename {from:?} {path:?}"));
                let (from_last, dir) = from.split_last().expect("not the root");
                let from_dir = dir_of(&mut fs, dir).expect("exists");
                let below = path.len() > from.len() && path.starts_with(&from);
                match fs.rename(from_dir, from_last.as_bytes(), parent, last.as_bytes(), false) {
                    Ok(()) => {
                        assert!(!below);
                        if from != path {
                            let moved: Vec<_> =
                                model.keys().filter(|p| p.starts_with(&from)).cloned().collect();
                            model.remove(&path);
                            for p in moved {
                                let v = model.remove(&p).expect("there");
                                let mut to = path.clone();
                                to.extend_from_slice(&p[from.len()..]);
                                model.insert(to, v);
                            }
                        }
                    }
                    Err(Error::Invalid(what)) => assert!(below, "{what}\n{}", log.join("\n")),
                    Err(Error::NotEmpty | Error::IsDirectory | Error::NotDirectory) => {
                        assert!(model.contains_key(&path));
                    }
                    Err(Error::NoSpace) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            16 => {
                let Some(path) = pick(&mut rng) else { continue };
                let size = [0, 10, 70, 400, 3000][rng.below(5)];
                log.push(format!("truncate {path:?} {size}"));
                let Some(Some(m)) = model.get_mut(&path) else { continue };
                let (last, dir) = path.split_last().expect("not the root");
                let parent = dir_of(&mut fs, dir).expect("exists");
                let f = fs.open_file(parent, last.as_bytes()).expect("open");
                match fs.truncate(f, size as u64) {
                    Ok(()) => m.resize(size, 0),
                    Err(Error::NoSpace) => {}
                    Err(e) => panic!("{e}"),
                }
                fs.close_file(f);
            }
            _ => {
                log.push("flush".to_owned());
                match fs.flush() {
                    Ok(()) => {}
                    Err(e) => panic!("flush: {e}\n{}", log.join("\n")),
                }
                let report = check(dev.clone()).expect("check");
                assert!(
                    report.findings.is_empty(),
                    "seed {seed}: {:#?}\n{}",
                    report.findings,
                    log.join("\n")
                );
                let mut again = Fs::open(dev.clone(), &options).expect("open again");
                assert_eq!(read_tree(&mut again), model, "seed {seed}\n{}", log.join("\n"));
                assert_eq!(
                    again.usage().expect("usage").blocks_used,
                    fs.usage().expect("usage").blocks_used,
                    "seed {seed}: blocks lost\n{}",
                    log.join("\n")
                );
                if rng.below(4) == 0 {
                    fs = again;
                }
            }
        }
    }
    assert_eq!(read_tree(&mut fs), model);
}

#[test]
fn small_blocks() {
    for seed in 0..60 {
        run(128, 400, 16, seed, 300);
    }
}

#[test]
fn small_blocks_programmed_whole() {
    for seed in 0..40 {
        run(128, 400, 128, seed, 300);
    }
}

#[test]
fn small_blocks_programmed_bytewise() {
    for seed in 0..60 {
        run(128, 160, 1, seed, 300);
    }
}

#[test]
fn ordinary_blocks() {
    for seed in 0..60 {
        run(512, 300, 16, seed, 400);
    }
}

#[test]
fn an_image_that_is_often_full() {
    for seed in 0..60 {
        run(512, 24, 16, seed, 400);
    }
}
