//! The page of `aioxide open`, in Chromium.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aioxide_tests::chromium::{Page, decoded};
use aioxide_tests::door::Watched;
use aioxide_tests::open::Opened;
use aioxide_tests::{Folder, Running, Signal};
use rustix::process::{Pid, kill_process};

const AIOXIDE: &str = env!("CARGO_BIN_EXE_aioxide-command");
const WATCHED: &str = env!("CARGO_BIN_EXE_watched");
/// Where pictures of the page are kept, if anywhere. They take a while then, so that there is something to be seen.
const PICTURES: &str = "AIOXIDE_PICTURES";

/// Clients that come and go, until it is dropped.
struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each client waits as long as this between two connections, at its nth.
    fn on(address: SocketAddr, clients: u32, wait: fn(u32, u32) -> Duration) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|client| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                for nth in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // Its worker may be killed meanwhile.
                    let _ = echo(address);
                    thread::sleep(wait(client, nth));
                }
            })
        });
        let clients = clients.collect();
        Load { over, clients }
    }
}

fn echo(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"e")?;
    stream.read_exact(&mut [0])
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// A page that has come in by the file that leads there, as a person does.
fn enter(opened: &Opened) -> Page {
    let mut page = Page::new();
    page.resize(1280, 900);
    page.open(&format!("file://{}", opened.ticket.display()));
    page.until("document.querySelectorAll('#workers tr').length > 0");
    page
}

/// The cells of a worker's row, in the order of its columns.
fn row(worker: &str) -> String {
    format!(
        "[...document.querySelectorAll('#workers tr')].find(row => row.innerText.includes('{worker}'))"
    )
}

fn is_noted(text: &str) -> String {
    format!("document.querySelector('#note.done')?.innerText.includes('{text}')")
}

fn click(page: &mut Page, what: &str) {
    page.eval(&format!("{what}.click()"));
}

fn button(label: &str) -> String {
    format!("document.querySelector('button[aria-label=\"{label}\"]')")
}

#[track_caller]
fn assert_calm(page: &mut Page, opened: &Opened) {
    assert_eq!(page.complaints(), Vec::<String>::new());
    let own = opened.origin();
    let elsewhere: Vec<&String> = page
        .requested()
        .iter()
        .filter(|url| {
            !url.starts_with(&format!("{own}/"))
                && !url.starts_with("data:")
                && !url.starts_with("file:")
        })
        .collect();
    assert_eq!(elsewhere, Vec::<&String>::new());
}

#[test]
fn figures_move_and_a_killed_worker_comes_back() {
    let mut watched = Watched::starting(WATCHED, "process", "--on-failure restart");
    let address = watched.server.wait_until_ready();
    let opened = Opened::start(AIOXIDE, &watched.door());
    let mut page = enter(&opened);
    // Neither the token nor the file is remembered.
    page.until(&format!("location.href === '{}/'", opened.origin()));
    assert!(!opened.ticket.exists());
    page.until("document.getElementById('name').innerText === 'watched'");
    page.until("document.getElementById('state').innerText === 'serving'");
    page.until("document.getElementById('ready').innerText === '2 / 2'");
    page.until(&format!(
        "document.getElementById('about').innerText.includes('{address}')"
    ));
    page.until("document.getElementById('events').innerText.includes('all workers are ready')");

    let load = Load::on(address, 2, |_, _| Duration::from_millis(20));
    let open: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = aioxide_tests::connect(address);
            stream.write_all(b"e").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream
        })
        .collect();
    page.until("parseFloat(document.getElementById('rate').innerText) > 1");
    page.until("parseInt(document.getElementById('open').innerText) >= 3");
    page.until("parseFloat(document.getElementById('memory').innerText) > 1");
    page.until("document.getElementById('busy').innerText.endsWith('%')");
    let line = |kind: &str| {
        format!(
            "{}.querySelector('.spark.{kind} .line').getAttribute('d')",
            row("worker 0")
        )
    };
    for kind in ["rate", "busy", "memory"] {
        page.until(&format!("{}.includes('L')", line(kind)));
        let before = page.eval(&line(kind)).to_string();
        page.until(&format!("JSON.stringify({}) !== {before:?}", line(kind)));
    }
    drop(open);

    let pid = page.eval(&format!(
        "{}.querySelector('small').innerText.match(/pid (\\d+)/)[1]",
        row("worker 0")
    ));
    let pid: i32 = pid.as_str().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    page.until(&format!(
        "!{}.innerText.includes('pid {pid},')",
        row("worker 0")
    ));
    page.until(&format!(
        "{0}.innerText.includes('ready') && {0}.querySelector('.under').innerText.includes('SIGKILL')",
        row("worker 0")
    ));
    page.until("document.getElementById('events').innerText.includes('SIGKILL')");
    page.until("document.getElementById('ready').innerText === '2 / 2'");
    drop(load);
    assert_calm(&mut page, &opened);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[test]
fn what_it_shows_can_be_acted_upon() {
    let watched = Watched::start(WATCHED, "process", "");
    let opened = Opened::start(AIOXIDE, &watched.door());
    let mut page = enter(&opened);
    let generation =
        |worker: &str, number: u32| format!("{}.innerText.includes('gen {number}')", row(worker));

    click(&mut page, &button("Restart worker 1"));
    page.until(&is_noted("restart worker 1: restarted"));
    page.until(&generation("worker 1", 1));
    page.until(&generation("worker 0", 0));

    // By the keyboard.
    page.eval("document.getElementById('reload').focus()");
    page.press("Enter", 13, "\r");
    page.until(&is_noted("reload: rolling restart done"));
    page.until(&generation("worker 1", 2));
    page.until(&generation("worker 0", 1));

    page.eval(
        "document.getElementById('number').focus(); document.getElementById('number').select()",
    );
    page.press("3", 51, "3");
    page.press("Enter", 13, "\r");
    page.until(&is_noted("the number of workers is 3"));
    page.until("document.getElementById('ready').innerText === '3 / 3'");
    page.until("document.querySelectorAll('#workers tr').length === 3");

    let timer = "[...document.querySelectorAll('#timers tr')].find(row => row.innerText.startsWith('sync'))";
    page.until(&format!("{timer}.innerText.includes('3 workers')"));
    page.until(&format!("{timer}.innerText.includes('in 59m')"));
    page.until(&format!(
        "{timer}.querySelectorAll('td.number')[1].innerText === '0'"
    ));
    click(&mut page, &button("Trigger sync"));
    page.until(&is_noted("3 timers are triggered"));
    page.until(&format!(
        "{timer}.querySelectorAll('td.number')[1].innerText === '3'"
    ));
    click(&mut page, &button("Pause sync"));
    page.until(&format!("{timer}.innerText.includes('paused')"));
    click(&mut page, &button("Resume sync"));
    page.until(&format!("{timer}.innerText.includes('in 59m')"));
    assert_calm(&mut page, &opened);

    // A stop is confirmed.
    click(&mut page, "document.getElementById('stop')");
    page.until("document.getElementById('confirm').open");
    page.until("document.activeElement.id === 'no'");
    page.press("Enter", 13, "\r");
    page.until("!document.getElementById('confirm').open");
    assert_eq!(watched.ask("server")["state"], "serving");
    click(&mut page, "document.getElementById('stop')");
    click(&mut page, "document.getElementById('yes')");
    let ended = watched.server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    page.until("document.getElementById('away').innerText.includes('watched can\\'t be reached')");
    page.until("document.getElementById('state').innerText === 'unreachable'");
}

#[test]
fn it_goes_on_when_the_server_is_back() {
    let folder = Folder::new();
    let door = folder.file("door");
    let start = || {
        let mut command = Command::new(WATCHED);
        command
            .args(["--isolation", "thread", "--monitor"])
            .arg(&door);
        let mut server = Running::start(&mut command);
        server.wait_for("ready, listening on");
        server
    };
    let server = start();
    let opened = Opened::start(AIOXIDE, &door);
    let mut page = enter(&opened);
    let is_shown = |server: &Running| {
        let pid = server.pid().as_raw_nonzero();
        format!("document.getElementById('about').innerText.includes('pid {pid}')")
    };
    page.until(&is_shown(&server));
    assert_calm(&mut page, &opened);
    server.stop(Signal::TERM);
    page.until("!document.getElementById('away').hidden && document.getElementById('acts').hidden");
    // Whatever fails is told on the page; of what the browser itself writes into the console there is little.
    let complaints = page.complaints();
    assert!(complaints.len() <= 5, "{complaints:#?}");
    assert!(
        complaints
            .iter()
            .all(|complaint| complaint.contains("Failed to load resource")),
        "{complaints:#?}"
    );
    let server = start();
    page.until("document.getElementById('away').hidden && !document.getElementById('acts').hidden");
    page.until(&is_shown(&server));
    page.until(
        "document.getElementById('events').innerText.match(/all workers are ready/g).length === 1",
    );
    page.complaints();
    server.stop(Signal::TERM);

    drop(opened);
    page.until("document.getElementById('away').innerText.includes('aioxide open has ended')");
}

/// A screen, and the name of its picture.
const SCREENS: [(&str, u32, u32, &str); 4] = [
    ("page-light", 1280, 860, "light"),
    ("page-dark", 1280, 860, "dark"),
    ("page-narrow", 400, 860, "light"),
    ("page-narrow-dark", 400, 860, "dark"),
];

#[test]
fn it_fits_every_screen() {
    let kept = std::env::var_os(PICTURES).map(PathBuf::from);
    let folder = Folder::new();
    let door = folder.file("door");
    let mut command = Command::new(env!("CARGO_BIN_EXE_echo-example"));
    command
        .args(["--listen", "127.0.0.1:0", "--isolation", "process"])
        .env("AIOXIDE_MONITOR", &door);
    let mut server = Running::start(&mut command);
    let address = server.wait_until_ready();
    let opened = Opened::start(AIOXIDE, &door);
    let mut page = enter(&opened);
    let load = Load::on(address, 4, |client, nth| {
        let swing = (f64::from(nth) / 40.0 + f64::from(client)).sin();
        Duration::from_secs_f64(0.03 + 0.02 * swing)
    });
    page.until("parseFloat(document.getElementById('rate').innerText) > 0");
    if kept.is_some() {
        thread::sleep(Duration::from_secs(100));
        click(&mut page, &button("Restart worker 2"));
        page.until(&is_noted("restarted"));
        click(&mut page, "document.getElementById('dismiss')");
        thread::sleep(Duration::from_secs(12));
    }
    let mut grounds = Vec::new();
    for (name, width, height, scheme) in SCREENS {
        page.resize(width, height);
        page.prefer(scheme);
        page.until(&format!(
            "innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches"
        ));
        page.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
        let sticks_out = "[...document.querySelectorAll('body *')].filter(node => node.getBoundingClientRect().right > innerWidth + 1 \
            && getComputedStyle(node).position !== 'absolute' && node.checkVisibility()).map(node => node.outerHTML.slice(0, 200))";
        assert_eq!(page.eval(sticks_out), serde_json::json!([]), "{name}");
        let scrolls = page.eval("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(scrolls, false, "{name}");
        grounds.push(
            page.eval("getComputedStyle(document.body).backgroundColor")
                .to_string(),
        );
        let picture = page.picture();
        assert!(
            (10_000..150_000).contains(&picture.len()),
            "{name}: {} bytes",
            picture.len()
        );
        if let Some(folder) = &kept {
            let file = format!("{name}.webp");
            std::fs::write(folder.join(&file), decoded(&picture)).unwrap();
            // rustdoc takes pictures in links only.
            let link = format!("[{file}]: <data:image/webp;base64,{picture}>\n");
            std::fs::write(folder.join(format!("{name}.md")), link).unwrap();
        }
    }
    assert_eq!(grounds[0], grounds[2]);
    assert_ne!(grounds[0], grounds[1]);
    drop(load);
    assert_calm(&mut page, &opened);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}
