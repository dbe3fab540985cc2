//! This library and littlefs-python, which has another version of the C driver: each makes images,
//! and the other changes them in turn, with the profiles of real devices.
//!
//! This needs `python3` with its `venv` module, and access to PyPI once: the package is installed
//! into `target/venv`. Without these, the test fails and says what to do.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::check;
use littlefs::fs::{FormatOptions, OpenOptions};
use serde_json::{Value, json};
use testkit::calls::{Call, Model, Subject, pattern};
use testkit::clfs::{Config, V2_0, V2_1};
use testkit::ours::Ours;
use testkit::python::python;
use testkit::tree::{Entry, Kind, Tree, diff};

/// The types of the attributes that are compared.
const ATTR_TYPES: [u8; 2] = [0x74, 0xff];
/// How many times an image changes hands.
const ROUNDS: u8 = 4;

/// The driver as devices configure it.
fn profiles() -> Vec<(&'static str, Config)> {
    let esp8266 = Config { disk_version: V2_0, read_size: 64, ..Config::new(8192, 250, 64) };
    let esp_idf = Config { read_size: 128, cache_size: 512, ..Config::new(4096, 256, 128) };
    let rp2 = Config { disk_version: V2_0, read_size: 32, ..Config::new(4096, 352, 256) };
    let zephyr = Config { read_size: 16, ..Config::new(4096, 256, 16) };
    let fuse = Config { read_size: 512, ..Config::new(512, 500, 512) };
    let esp32 = Config { disk_version: V2_0, read_size: 32, ..Config::new(4096, 256, 32) };
    let ardupilot = Config { metadata_max: 4096, read_size: 256, ..Config::new(65536, 96, 256) };
    let nanoframework = Config { attr_max: 4, read_size: 256, ..Config::new(4096, 256, 256) };
    vec![
        ("ESP8266 Arduino core", Config { block_cycles: 16, ..esp8266 }),
        ("ESP-IDF component", Config { block_cycles: 512, ..esp_idf }),
        ("MicroPython on RP2", Config { cache_size: 1024, block_cycles: 100, ..rp2 }),
        ("Zephyr", Config { block_cycles: 512, ..zephyr }),
        ("littlefs-fuse", Config { block_cycles: 512, ..fuse }),
        ("MicroPython on ESP32", Config { cache_size: 128, block_cycles: 100, ..esp32 }),
        ("ArduPilot on NOR flash", Config { block_cycles: 75_000, ..ardupilot }),
        // Not its inline limit, which the package cannot set: `tests/images` has that.
        ("nanoFramework", Config { block_cycles: 100, ..nanoframework }),
        (
            "pairs that move often",
            Config { block_cycles: 2, read_size: 16, ..Config::new(512, 400, 16) },
        ),
        (
            "disk 2.1, tiny",
            Config { disk_version: V2_1, read_size: 16, ..Config::new(256, 300, 16) },
        ),
    ]
}

/// One image, and the Python that works on it.
struct Bench {
    name: &'static str,
    config: Config,
    python: PathBuf,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(name: &'static str, config: Config) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { name, config, python: python(), dir }
    }

    fn geometry(&self) -> Geometry {
        Geometry::new(self.config.block_size, self.config.block_count).expect("possible")
    }

    /// Let Python perform the calls on the image, or on a new one. Returns the image, and the tree
    /// and the blocks in use as Python sees them.
    fn by_python(&self, image: Option<&[u8]>, calls: &[Call]) -> (Vec<u8>, Tree, u64) {
        let path = self.dir.path().join("image");
        std::fs::write(&path, image.unwrap_or_default()).expect("write the image");
        let c = &self.config;
        let job = json!({
            "config": {
                "block_size": c.block_size,
                "block_count": c.block_count,
                "read_size": c.read_size,
                "prog_size": c.prog_size,
                "cache_size": c.cache_size,
                "lookahead_size": c.lookahead_size.next_multiple_of(8),
                "block_cycles": c.block_cycles,
                "disk_version": c.disk_version,
                "attr_max": c.attr_max,
                "metadata_max": c.metadata_max,
            },
            "format": image.is_none(),
            "steps": calls.iter().flat_map(step).collect::<Vec<_>>(),
            "types": ATTR_TYPES,
        });
        let mut child = Command::new(&self.python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/images.py"))
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run Python");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(job.to_string().as_bytes()).expect("write the job");
        drop(stdin);
        let output = child.wait_with_output().expect("Python ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.name);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let used = answer["used"].as_u64().expect("a number");
        (std::fs::read(&path).expect("read the image"), tree_of(&answer), used)
    }

    /// Open an image with this library, compare it with the model, and perform the calls. Returns
    /// the resulting image.
    fn by_us(&self, image: Vec<u8>, model: &mut Model, calls: &[Call]) -> Vec<u8> {
        let (name, device) = (self.name, self.geometry());
        let mut ours = Ours::open(device, image, &OpenOptions::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(ours.fs.warnings().is_empty(), "{name}: {:?}", ours.fs.warnings());
        self.compare("ours", model.tree(), &ours.tree().expect("we read"));
        for (i, call) in calls.iter().enumerate() {
            ours.apply(call).unwrap_or_else(|e| panic!("{name}: {call:?}: {e:?}"));
            model.apply(call).unwrap_or_else(|e| panic!("{name}: {call:?}: {e:?}"));
            if i % 3 == 0 {
                ours.fs.flush().expect("flush");
            }
        }
        ours.fs.flush().expect("flush");
        let image = ours.image();
        let report = check(std::sync::Arc::new(RamDevice::from_image(device, image.clone())));
        assert!(report.expect("check").is_clean(), "{name}");
        image
    }

    fn compare(&self, who: &str, want: &Tree, found: &Tree) {
        diff("the model", want, who, found)
            .unwrap_or_else(|lines| panic!("{}: {who}:\n{lines}", self.name));
    }

    /// The image changes hands. Each side creates, changes, moves and removes what the other has
    /// made.
    fn run(&self, mut image: Vec<u8>, mut model: Model) {
        for round in 0..ROUNDS {
            let calls = changes(&model, round, "we", &self.config);
            image = self.by_us(image, &mut model, &calls);
            let calls = changes(&model, round, "py", &self.config);
            for call in &calls {
                model.apply(call).unwrap_or_else(|e| panic!("{}: {call:?}: {e:?}", self.name));
            }
            let (after, tree, used) = self.by_python(Some(&image), &calls);
            self.compare("Python", model.tree(), &tree);
            image = after;
            let mut ours = Ours::open(self.geometry(), image.clone(), &OpenOptions::default())
                .unwrap_or_else(|e| panic!("{}: {e}", self.name));
            let usage = ours.fs.usage().expect("usage");
            assert_eq!(u64::from(usage.blocks_used), used, "{}: blocks used", self.name);
        }
        // Nothing of ours is left to repair or to misread.
        let image = self.by_us(image, &mut model, &[]);
        let (_, tree, _) = self.by_python(Some(&image), &[]);
        self.compare("Python at the end", model.tree(), &tree);
    }
}

/// A call in the form for the script. It has no form for the removal of attributes.
fn step(call: &Call) -> Vec<Value> {
    let text = |path: &Vec<u8>| String::from_utf8(path.clone()).expect("UTF-8");
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    vec![match call {
        Call::Create(path) => json!(["write", text(path), 0, ""]),
        Call::Mkdir(path) => json!(["mkdir", text(path)]),
        Call::Write { path, off, len, seed } => {
            json!(["write", text(path), off, hex(pattern(*seed, *len))])
        }
        Call::Truncate { path, size } => json!(["truncate", text(path), size]),
        Call::Unlink(path) | Call::Rmdir(path) => json!(["remove", text(path)]),
        Call::Rename { from, to, .. } => json!(["rename", text(from), text(to)]),
        Call::SetAttr { path, ty, len, seed } => {
            json!(["setattr", text(path), ty, hex(pattern(*seed, *len))])
        }
        Call::RemoveAttr { .. } => panic!("not used here"),
    }]
}

fn tree_of(answer: &Value) -> Tree {
    let bytes = |hex: &Value| {
        let digits = hex.as_str().expect("a string").as_bytes();
        let pairs = digits.chunks(2).map(|two| std::str::from_utf8(two).expect("ASCII"));
        pairs.map(|two| u8::from_str_radix(two, 16).expect("hexadecimal")).collect::<Vec<u8>>()
    };
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    for (path, content) in answer["tree"].as_object().expect("an object") {
        let entry = if content.is_null() { Entry::dir() } else { Entry::file(bytes(content)) };
        tree.insert(path.clone().into_bytes(), entry);
    }
    for (key, value) in answer["attrs"].as_object().expect("an object") {
        let (path, ty) = key.rsplit_once(':').expect("path and type");
        let entry = tree.get_mut(path.as_bytes()).expect("attributes of what is listed");
        entry.attrs.insert(ty.parse().expect("a type"), bytes(value));
    }
    tree
}

/// What one side does in a round: new directories and files of all sizes, then changes of what
/// exists, whichever side made it.
fn changes(model: &Model, round: u8, who: &str, config: &Config) -> Vec<Call> {
    let block = config.block_size;
    let attr = |len: u32| if config.attr_max == 0 { len } else { len.min(config.attr_max) };
    let dir = format!("{who}-{round}").into_bytes();
    let path = |name: &str| [&dir[..], b"/", name.as_bytes()].concat();
    let mut calls = vec![Call::Mkdir(dir.clone())];
    let sizes = [0, 3, 40, 64, 65, block / 8, block - 8, block, 2 * block - 3, 5 * block];
    for (i, len) in sizes.into_iter().enumerate() {
        let path = path(&format!("f{len}-\u{e4}{i}"));
        calls.push(Call::Create(path.clone()));
        calls.push(Call::Write { path, off: 0, len, seed: round * 10 + i as u8 });
    }
    calls.push(Call::SetAttr { path: dir.clone(), ty: 0x74, len: attr(8), seed: round + 1 });
    calls.push(Call::SetAttr { path: Vec::new(), ty: 0x74, len: 4, seed: round + 2 });
    let files = model.tree().iter().filter(|(_, e)| matches!(e.kind, Kind::File(_)));
    for (i, (file, _)) in files.enumerate() {
        let file = file.clone();
        let size = model.bytes(&file).len() as u32;
        let seed = i as u8;
        calls.push(match (i + usize::from(round)) % 6 {
            0 => Call::Write { path: file, off: size / 2, len: 30, seed },
            1 | 5 => Call::Unlink(file),
            2 => Call::Rename { from: file, to: path(&format!("moved{i}")), no_replace: false },
            3 => Call::Truncate { path: file, size: size / 3 },
            _ => Call::SetAttr { path: file, ty: 0xff, len: attr(12), seed },
        });
    }
    calls
}

#[test]
fn images_by_python() {
    for (name, config) in profiles() {
        let bench = Bench::new(name, config);
        let mut model = Model::new(255);
        let calls = changes(&model, 9, "py", &bench.config);
        calls.iter().for_each(|call| model.apply(call).expect("new names"));
        let (image, tree, _) = bench.by_python(None, &calls);
        bench.compare("Python", model.tree(), &tree);
        bench.run(image, model);
    }
}

#[test]
fn images_by_us() {
    for (name, config) in profiles() {
        let bench = Bench::new(name, config);
        let mut options =
            FormatOptions { disk_version: bench.config.disk_version, ..FormatOptions::default() };
        if bench.config.attr_max > 0 {
            options.attr_max = bench.config.attr_max;
        }
        let image = Ours::format(bench.geometry(), &options).expect("format");
        bench.run(image, Model::new(255));
    }
}
