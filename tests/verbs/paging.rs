//! `map --format html`: the page, in a browser.

use serde_json::json;

use super::browser::Browser;
use testkit::clfs::{CLfs, Config};
use testkit::desk::Desk;

/// How many bytes the page of a small image may have.
const SMALL: usize = 300 << 10;

/// Names that would run if they were taken for HTML.
const HOSTILE: [&str; 4] = [
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "'\"><svg onload=window.hacked=1>{{ hacked }}",
    "&lt;b&gt; \u{202e}gnp.exe",
];

/// The middle of a block in the window.
fn place(browser: &mut Browser, block: &serde_json::Value) -> (f64, f64) {
    let at = browser.eval(&format!(
        "(() => {{ const [x, y] = page.corner({block}), half = page.view.scale / 2, \
         box = page.canvas.getBoundingClientRect(); return [box.x + x + half, box.y + y + half]; }})()"
    ));
    (at[0].as_f64().expect("a number"), at[1].as_f64().expect("a number"))
}

/// Open a page, and save a picture of it if that is requested.
fn open(desk: &Desk, name: &str) -> Browser {
    let html = String::from_utf8(desk.read(name)).expect("UTF-8");
    assert!(html.starts_with("<!DOCTYPE html>") && html.len() < SMALL, "{} bytes", html.len());
    assert!(!html.contains("http:") && !html.contains("https:"), "it refers to something");
    Browser::open(&desk.path(name))
}

/// Check that the page has requested nothing from the network, that nothing in it was refused, and
/// that no name was run.
fn nothing_odd(browser: &mut Browser) {
    assert!(browser.requests.iter().all(|url| url.starts_with("file:")), "{:?}", browser.requests);
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert_eq!(browser.eval("typeof window.hacked"), "undefined");
    assert_eq!(browser.eval("document.querySelectorAll('img, svg, iframe').length"), 0);
}

/// The name in the row of the tree that is selected.
const SELECTED: &str = "document.querySelector('.row[aria-selected=true] .name').textContent";

#[test]
fn blocks_and_files_lead_to_each_other() {
    let desk = Desk::with_image();
    desk.ok(&["map", "-o", "map.html", "new.img"]);
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;

    // a click on a block of a file shows what it is, and selects the file in the tree
    let owned = "page.image.start[page.image.runOwner.findIndex((n) => n > 0 && \
                 page.image.path(n - 1) === '/www/js/app.js')]";
    let block = b.eval(owned);
    let (x, y) = place(b, &block);
    b.mouse(x, y, false);
    assert_eq!(b.eval("document.getElementById('tip').hidden"), false);
    let tip = b.eval("document.getElementById('tip').textContent").to_string();
    assert!(tip.contains("Owner: /www/js/app.js") && tip.contains("file data"), "{tip}");
    b.mouse(x, y, true);
    let facts = b.eval("document.getElementById('block').textContent").to_string();
    for words in ["/www/js/app.js", "file data", "of its list", "littlefs inspect new.img block 0x"]
    {
        assert!(facts.contains(words), "no {words}: {facts}");
    }
    assert_eq!(b.eval(SELECTED), "app.js");
    assert_eq!(b.eval("page.marked.size"), 3);

    // a click on a directory of the tree goes to its blocks
    let etc = "[...document.querySelectorAll('.row')].find((row) => row.title === '/etc')";
    b.click(etc);
    assert_eq!(b.eval("page.image.belongs(page.cursor)"), "/etc");
    assert_eq!(b.eval("page.image.class(page.cursor).revision && page.marked.size"), 2);
    // and an inline file to the block that its content stands in
    b.click("document.querySelector('.row[aria-selected=true] .twist')");
    b.click(
        "[...document.querySelectorAll('.row')].find((row) => row.title === '/etc/config.txt')",
    );
    assert_eq!(b.eval("page.image.class(page.cursor).id"), "live");
    assert_eq!(b.eval("page.image.belongs(page.cursor)"), "/etc");
    nothing_odd(b);
}

#[test]
fn keys_lead_through_blocks_and_files() {
    let desk = Desk::with_image();
    desk.ok(&["map", "-o", "map.html", "new.img"]);
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;
    let etc = "[...document.querySelectorAll('.row')].find((row) => row.title === '/etc')";
    b.click(etc);

    // to the next block, from the map to the tree, and to one block that fills it
    b.eval("page.canvas.focus()");
    b.key("Home", "");
    assert_eq!(b.eval("page.cursor"), 0);
    b.key("ArrowRight", "");
    let next = b.eval("page.cursor");
    assert_ne!(next, 0);
    b.key("]", "]");
    assert_eq!(b.eval("page.cursor"), next.as_u64().expect("a block") + 1);
    b.key("Home", "");
    b.key("Enter", "");
    assert_eq!(b.eval("document.activeElement.id"), "tree");
    b.key("ArrowDown", "");
    assert_eq!(b.eval(SELECTED), "empty");
    b.eval("page.canvas.focus()");
    for _ in 0..8 {
        b.key("+", "+");
    }
    let size =
        b.eval("page.view.scale / Math.min(page.canvas.clientWidth, page.canvas.clientHeight)");
    assert!(size.as_f64().expect("a number") > 0.8, "{size}");
    b.key("0", "0");
    nothing_odd(b);
}

#[test]
fn the_legend_selects_blocks_in_each_order() {
    let desk = Desk::with_image();
    desk.ok(&["map", "-o", "map.html", "new.img"]);
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;
    let line = |text: &str| {
        format!(
            "[...document.querySelectorAll('.line')].find((l) => l.textContent.includes('{text}'))"
        )
    };
    b.click(&line("file data"));
    assert_eq!(b.eval("page.marked.size"), 3);
    b.click("document.querySelector('#free .line')");
    assert_eq!(b.eval("[...page.marked].every((b) => FREE.has(page.image.class(b).id))"), true);
    b.key("Escape", "");
    for (order, turn) in [("linear", "Rows"), ("hilbert", "Hilbert")] {
        b.eval(&format!(
            "(() => {{ const e = document.getElementById('order'); e.value = '{order}'; \
             e.dispatchEvent(new Event('change')); }})()"
        ));
        assert_eq!(b.eval("page.grid.constructor.name"), turn);
        let inverse = "[...page.grid.cells.keys()].every((b) => page.grid.block(...page.grid.corner(b)) === b)";
        assert_eq!(b.eval(inverse), true);
    }
    nothing_odd(b);
}

#[test]
fn pages_follow_the_style_of_the_system_or_the_one_that_is_chosen() {
    let desk = Desk::with_image();
    desk.ok(&["map", "--format", "html", "-o", "page", "new.img"]);
    std::fs::rename(desk.path("page"), desk.path("page.html")).expect("renamed");
    let mut browser = open(&desk, "page.html");
    let b = &mut browser;
    let look = "document.documentElement.dataset.look";
    let corner = "[...page.pixels.getContext('2d').getImageData(0, 0, 1, 1).data].join()";
    let mut seen = Vec::new();
    for style in ["dark", "light"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": style }]);
        b.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        b.wait(&format!("{look} === '{style}'"));
        seen.push(b.eval(corner));
    }
    b.eval(
        "(() => { const e = document.getElementById('theme'); e.value = 'grey'; \
         e.dispatchEvent(new Event('change')); })()",
    );
    assert_eq!(b.eval(look), "grey");
    seen.push(b.eval(corner));
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
    // every pixel of the picture is grey
    let grey = "(() => { const d = page.pixels.getContext('2d').getImageData(0, 0, page.grid.width, \
                page.grid.height).data; for (let i = 0; i < d.length; i += 4) if (d[i] !== d[i + 1] || \
                d[i] !== d[i + 2]) return false; return true; })()";
    for colour in ["use", "revision", "fill"] {
        b.eval(&format!(
            "(() => {{ const e = document.getElementById('colour'); e.value = '{colour}'; \
             e.dispatchEvent(new Event('change')); }})()"
        ));
        assert_eq!(b.eval(grey), true, "{colour}");
    }
    assert!(b.screenshot().starts_with(b"\x89PNG"));
    nothing_odd(b);
}

#[test]
fn names_are_never_run() {
    let config = Config::new(512, 64, 16);
    let mut fs = CLfs::fresh(&config).expect("a filesystem");
    for name in HOSTILE {
        // a slash parts directories
        if let Some((dir, _)) = name.split_once('/') {
            fs.mkdir(dir.as_bytes()).expect("a directory");
            let path: String = name
                .splitn(2, '/')
                .map(|part| part.replace('/', "\u{2215}"))
                .collect::<Vec<_>>()
                .join("/");
            fs.write_file(path.as_bytes(), &[1; 2000]).expect("a file");
        } else {
            fs.write_file(name.as_bytes(), &[1; 2000]).expect("a file");
        }
    }
    let desk = Desk::new();
    let image = "<img src=x onerror=window.hacked=1>'\".img";
    desk.file(image, &fs.unmount());
    desk.ok(&["map", "-o", "map.html", image]);
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;
    assert_eq!(b.eval("document.querySelector('h1').textContent"), image);
    let names = b.eval("page.image.node.map((node) => node.name)");
    for name in [HOSTILE[0], HOSTILE[2], "<"] {
        assert!(names.as_array().expect("a list").contains(&json!(name)), "{names}");
    }
    // each is shown in the tree, with the block that is pointed at, and found
    b.eval("page.image.node.forEach((node, n) => page.open.add(n))");
    b.eval("page.list()");
    let owners = b.eval(
        "[...page.image.start].filter((b) => b < page.image.present && page.image.owner(b) >= 0)",
    );
    for block in owners.as_array().expect("blocks") {
        let (x, y) = place(b, block);
        b.mouse(x, y, true);
        assert_eq!(&b.eval("page.cursor"), block);
    }
    b.eval("(() => { const e = document.getElementById('find'); e.value = 'onerror'; e.oninput(); })()");
    assert_eq!(b.eval("document.querySelectorAll('.row').length"), 1);
    nothing_odd(b);
}

#[test]
fn two_images_show_their_difference() {
    let desk = Desk::with_image();
    std::fs::copy(desk.path("new.img"), desk.path("old.img")).expect("copied");
    desk.file("more", &[b'm'; 9000]);
    desk.ok(&["put", "new.img", "more", "/www/more"]);
    desk.ok(&["map", "-o", "map.html", "new.img", "old.img"]);
    let changed = desk.ok(&["map", "--json", "new.img", "old.img"]).json()["changed"].clone();
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;
    let count = "Array.from({ length: page.image.present }, (_, b) => b).filter((b) => page.image.change(b)).length";
    assert_eq!(b.eval(count), changed);
    assert_eq!(b.eval("document.getElementById('colour').value"), "change");
    let of_it = "page.image.start[page.image.runOwner.findIndex((n) => n > 0 && \
                 page.image.path(n - 1) === '/www/more')]";
    let block = b.eval(of_it);
    let (x, y) = place(b, &block);
    b.mouse(x, y, true);
    let facts = b.eval("document.getElementById('block').textContent").to_string();
    assert!(facts.contains("other use") && facts.contains("In Bfree, erased"), "{facts}");
    // the other one has neither the file nor a name of it
    b.eval(
        "(() => { const e = document.getElementById('image'); e.value = '1'; \
         e.dispatchEvent(new Event('change')); })()",
    );
    assert_eq!(b.eval("page.image.node.some((node) => node.name === 'more')"), false);
    assert_eq!(b.eval(count), changed);
    nothing_odd(b);
}

/// The picture of the page in README.md: `MAP_SCREENSHOT=docs/map.png cargo test --test verbs
/// picture` makes it again.
#[test]
fn the_picture_of_the_page_shows_map_tree_and_facts() {
    let config = Config::new(4096, 4096, 256);
    let mut fs = CLfs::fresh(&config).expect("a filesystem");
    for dir in [&b"etc"[..], b"log", b"www", b"www/js"] {
        fs.mkdir(dir).expect("a directory");
    }
    // sizes that look random, and are the same each time
    let sizes = (1_u32..).map(|n| n.wrapping_mul(2_654_435_761) >> 8);
    let path = |n: usize| match n % 3 {
        0 => format!("www/js/module-{n}.js"),
        1 => format!("log/2026-{:02}-{:02}.log", n / 28 % 12 + 1, n % 28 + 1),
        _ => format!("etc/setting-{n}"),
    };
    for (n, size) in sizes.take(150).enumerate() {
        let most = if n % 3 == 2 { 900 } else { 150_000 };
        fs.write_file(path(n).as_bytes(), &vec![n as u8; (size % most) as usize]).expect("a file");
    }
    for n in (0..150).filter(|n| n % 7 < 3 && n % 3 != 2) {
        fs.remove(path(n).as_bytes()).expect("it goes");
    }
    let desk = Desk::new();
    desk.file("flash.img", &fs.unmount());
    desk.ok(&["map", "-o", "map.html", "flash.img"]);
    let mut browser = open(&desk, "map.html");
    let b = &mut browser;
    let file = "page.image.node.findIndex((node) => node.name === 'module-123.js')";
    b.eval(&format!("page.select({file})"));
    b.wait("document.body.dataset.drawn !== undefined");
    assert_eq!(
        b.eval("document.querySelector('.row[aria-selected=true] .name').textContent"),
        "module-123.js"
    );
    let colours = "new Set(new Uint32Array(page.canvas.getContext('2d').getImageData(0, 0, \
                   page.canvas.width, page.canvas.height).data.buffer)).size";
    // drawn again after the selection, with the next frame
    b.wait(&format!("{colours} > 8"));
    // nothing is cut off at the right
    assert_eq!(b.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    b.eval("page.mark(null)");
    let png = b.screenshot();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{} bytes", png.len());
    if let Some(path) = std::env::var_os("MAP_SCREENSHOT") {
        std::fs::write(path, png).expect("written");
    }
    nothing_odd(b);
}
