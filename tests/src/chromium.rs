//! A page in Chromium, driven over the DevTools protocol.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::{Folder, PATIENCE};

/// A browser with one page; dropped, it is gone.
pub struct Page {
    browser: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    calls: u64,
    complaints: Vec<String>,
    requested: Vec<String>,
    _profile: Folder,
}

impl Page {
    /// Starts a browser that shows nothing yet.
    pub fn new() -> Page {
        let profile = Folder::new();
        // As root it has no sandbox, and the shared memory of containers is small.
        let mut browser = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's package `chromium` is installed");
        let stderr = browser.stderr.take().expect("stderr is piped");
        let (sender, addresses) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("DevTools listening on ") {
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let address = addresses
            .recv_timeout(PATIENCE * 2)
            .expect("chromium says where it listens");
        let host = address
            .strip_prefix("ws://")
            .and_then(|rest| rest.split('/').next())
            .expect("a WebSocket's address");
        let stream = TcpStream::connect(host).expect("chromium listens");
        stream
            .set_read_timeout(Some(PATIENCE * 2))
            .expect("a timeout can be set");
        let (socket, _) = tungstenite::client(&address, stream).expect("chromium speaks WebSocket");
        let mut page = Page {
            browser,
            socket,
            session: None,
            calls: 0,
            complaints: Vec::new(),
            requested: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = page.call("Target.attachToTarget", attach);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let message = Message::text(message.to_string());
        self.socket.send(message).expect("chromium listens");
        loop {
            let message = self.socket.read().expect("chromium answers in time");
            let Message::Text(text) = message else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        let complains = match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                self.requested.push(url.to_owned());
                false
            }
            Some("Runtime.consoleAPICalled") => {
                params["type"] == "error" || params["type"] == "warning"
            }
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            _ => false,
        };
        if complains {
            self.complaints.push(params.to_string());
        }
    }

    /// What the console has complained of since this was asked for last.
    pub fn complaints(&mut self) -> Vec<String> {
        // What has come until now is heard before the answer.
        self.eval("0");
        std::mem::take(&mut self.complaints)
    }

    /// Every address that something was asked of.
    pub fn requested(&self) -> &[String] {
        &self.requested
    }

    /// Goes there.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// The value of an expression, awaited where it is a promise.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", params);
        let error = &answer["exceptionDetails"];
        assert!(error.is_null(), "{expression}: {error}");
        answer["result"]["value"].take()
    }

    /// Evaluates until the value is true. What can't be evaluated, isn't true yet.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE * 2;
        let tried = format!(
            "(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        );
        while self.eval(&tried) != true {
            assert!(
                Instant::now() < deadline,
                "never true: {expression}\n{}",
                self.eval("document.body.innerText")
            );
            // Nothing tells when a page is another one.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// How wide and high it is. Scrollbars take no room, as on telephones.
    pub fn resize(&mut self, width: u32, height: u32) {
        self.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Whether dark colours are preferred, or light ones.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// Presses a key and lets go of it.
    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// A picture of what is seen, as WebP in base64.
    pub fn picture(&mut self) -> String {
        let format = json!({ "format": "webp", "quality": 88 });
        let picture = self.call("Page.captureScreenshot", format);
        picture["data"].as_str().expect("a picture").to_owned()
    }
}

/// Without base64.
pub fn decoded(picture: &str) -> Vec<u8> {
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(picture).expect("base64")
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
