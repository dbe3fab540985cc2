//! A Chromium without a window, controlled through its debugging pipe.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take. This is much more than it takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// The addresses that the page has requested, and its error messages.
    pub requests: Vec<String>,
    pub complaints: Vec<String>,
    _dir: TempDir,
}

impl Browser {
    /// Open a page in a file.
    pub fn open(page: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
            assert!(made.success(), "no pipe");
            // for both, so that opening does not wait for the other side
            OpenOptions::new().read(true).write(true).open(&path).expect("a pipe")
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec chromium \"$@\" 3<to 4>from",
            "sh",
            "--headless",
            "--no-sandbox",
        ]);
        command.args(["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.args([
            "--disable-dev-shm-usage",
            "--window-size=1200,760",
            "--user-data-dir=profile",
        ]);
        command.args(["--remote-debugging-pipe", "about:blank"]).current_dir(dir.path());
        let errors = File::create(dir.path().join("stderr")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command.env("HOME", dir.path()).spawn().expect("sh starts");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut bytes = Vec::new();
            while from.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop();
                let Ok(message) = serde_json::from_slice(&bytes) else { return };
                if sender.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let (requests, complaints) = (Vec::new(), Vec::new());
        let (session, last) = (None, 0);
        let mut browser =
            Self { child, to, from: receiver, session, last, requests, complaints, _dir: dir };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].as_str().expect("an id");
        let session =
            browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({ "width": 1200, "height": 760, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser.call("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        browser.wait("document.body && document.body.dataset.ready === 'true'");
        browser
    }

    /// Call a method of the protocol.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.to, "{message}\0").expect("the browser listens");
        let start = Instant::now();
        loop {
            let Ok(message) = self.from.recv_timeout(Duration::from_secs(1)) else {
                let ended = self.child.try_wait().expect("a child");
                let errors = || {
                    let path = self._dir.path().join("stderr");
                    std::fs::read_to_string(path).unwrap_or_default()
                };
                assert!(
                    ended.is_none(),
                    "chromium is needed, and ended with {ended:?} (scripts/deps.sh installs it): {}",
                    errors()
                );
                assert!(start.elapsed() < PATIENCE, "{method}: no answer: {}", errors());
                continue;
            };
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.push(params["request"]["url"].as_str().unwrap_or("?").to_owned());
            }
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(params["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// The value of an expression in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Wait until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(expression) != true {
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "{expression} does not become true: {:?}", self.complaints);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Move the mouse to a point of the page, and perhaps click there.
    pub fn mouse(&mut self, x: f64, y: f64, click: bool) {
        let mut event = |what: &str, button: &str, count: u32| {
            let params =
                json!({ "type": what, "x": x, "y": y, "button": button, "clickCount": count });
            self.call("Input.dispatchMouseEvent", params);
        };
        event("mouseMoved", "none", 0);
        if click {
            event("mousePressed", "left", 1);
            event("mouseReleased", "left", 1);
        }
    }

    /// Click in the middle of an element.
    pub fn click(&mut self, element: &str) {
        let place = self.eval(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{ block: 'nearest' }}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        let [x, y] = [0, 1].map(|at| place[at].as_f64().expect("a number"));
        self.mouse(x, y, true);
    }

    /// Press a key that types `text`, or a key that types nothing.
    pub fn key(&mut self, key: &str, text: &str) {
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyDown", "key": key, "text": text }));
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
    }

    /// The page as it is displayed, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        BASE64_STANDARD.decode(shot["data"].as_str().expect("data")).expect("base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let _ = write!(self.to, "{}\0", json!({ "id": 0, "method": "Browser.close" }));
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
