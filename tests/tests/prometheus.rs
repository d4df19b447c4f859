//! A real Prometheus scrapes a server whose workers come and go.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aioxide_tests::door::{Watched, http_at, json};
use aioxide_tests::{Folder, PATIENCE, Signal, under_both_isolations};
use serde_json::Value;

const WATCHED: &str = env!("CARGO_BIN_EXE_watched");

struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Scrapes `target` every other second.
    fn start(target: SocketAddr) -> Prometheus {
        let folder = Folder::new();
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs: [{{job_name: server, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(folder.file("prometheus.yml"), config).unwrap();
        // It has no way to tell which port it was given.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.unwrap();
        let log = File::create(folder.file("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.file("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.file("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Debian's package `prometheus` is installed");
        let prometheus = Prometheus {
            process,
            address,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        while !prometheus.is_ready() {
            assert!(Instant::now() < deadline, "Prometheus isn't ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    /// It answers 503 for a while after it has begun to listen.
    fn is_ready(&self) -> bool {
        let Ok(mut stream) = std::net::TcpStream::connect(self.address) else {
            return false;
        };
        let asked = stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
    }

    /// The result of an instant query, each sample as its labels and its value.
    fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        // Over HTTP/1.0, so that the connection ends with the answer.
        let mut stream = aioxide_tests::connect(self.address);
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let answer = json(body);
        assert_eq!(answer["status"], "success", "{query}: {answer:#}");
        let result = answer["data"]["result"].as_array().unwrap();
        let value = |sample: &Value| sample["value"][1].as_str().unwrap().parse().unwrap();
        result
            .iter()
            .map(|sample| (sample["metric"].clone(), value(sample)))
            .collect()
    }

    /// The one number that a query gives; none while there is none.
    fn number(&self, query: &str) -> Option<f64> {
        self.query(query).first().map(|(_, value)| *value)
    }

    fn until(&self, query: &str, accepts: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let number = self.number(query);
            if number.is_some_and(&accepts) {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {number:?}");
            // It scrapes every other second, and tells nobody.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn encoded(query: &str) -> String {
    let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    query.bytes().map(encode).collect()
}

/// It finds nothing to complain of in what `promtool` checks.
#[track_caller]
fn assert_checked(metrics: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's package `prometheus` is installed");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // That is what the program itself has called it.
    let orders = "orders counter metrics should have \"_total\" suffix";
    let said: Vec<&str> = said.lines().filter(|line| *line != orders).collect();
    assert!(said.is_empty(), "{said:#?}\n{metrics}");
}

/// One client of each kind that counts something. How many they are.
fn serve(address: SocketAddr) -> u32 {
    for byte in *b"ecFfo" {
        let mut client = aioxide_tests::connect(address);
        client.write_all(&[byte]).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    5
}

fn no_counter_falls_whatever_the_workers_do(isolation: &str) {
    let mut watched = Watched::starting(
        WATCHED,
        isolation,
        "--health 127.0.0.1:0 --on-failure restart",
    );
    let health = watched.server.wait_until_logged("health: answering on");
    let health = aioxide_tests::address_in(&health);
    let address = watched.server.wait_until_ready();
    let prometheus = Prometheus::start(health);
    prometheus.until("up", |up| up == 1.0);
    let mut clients = 0;
    for command in [
        "reload",
        "scale 4",
        "restart 0",
        "scale 1",
        "reload",
        "scale 3",
        "restart 2",
        "reload",
        "scale 2",
        "timer sync trigger",
        "reload",
    ] {
        clients += serve(address);
        let answer = watched.ask(command);
        assert!(answer["error"].is_null(), "{command}: {answer}");
        assert_checked(&http_at(health, "GET", "/metrics").body);
        // So that Prometheus sees a state between this and the next.
        let scraped = format!("sum(aioxide_connections_total) == {clients}");
        prometheus.until(&scraped, |_| true);
    }
    let names: Vec<String> = prometheus
        .query("group by (__name__) ({__name__=~\"aioxide_.*\"})")
        .into_iter()
        .map(|(labels, _)| labels["__name__"].as_str().unwrap().to_owned())
        .collect();
    let counters: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with("_total"))
        .collect();
    for name in [
        "aioxide_busy_seconds_total",
        "aioxide_contexts_entered_total",
        "aioxide_contexts_failed_total",
        "aioxide_connections_total",
        "aioxide_teardowns_failed_total",
        "aioxide_timer_ticks_total",
        "aioxide_worker_restarts_total",
    ] {
        assert!(counters.iter().any(|counter| *counter == name), "{names:?}");
    }
    for counter in counters {
        let resets = prometheus.number(&format!("sum(resets({counter}[1h]))"));
        assert_eq!(resets, Some(0.0), "{counter}");
    }
    let entered = prometheus.number("sum(aioxide_contexts_entered_total{context=\"session\"})");
    assert_eq!(entered, Some(f64::from(clients / 5)));
    let orders = prometheus.query("sum by (of) (orders)");
    assert_eq!(orders[0].0["of"], "tea");
    assert_eq!(orders[0].1, f64::from(2 * clients / 5));
    let buckets = "sum(order_seconds_bucket{le=\"0.1\"}) - sum(order_seconds_bucket{le=\"0.01\"})";
    assert_eq!(prometheus.number(buckets), Some(f64::from(clients / 5)));
    drop(prometheus);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

under_both_isolations!(no_counter_falls_whatever_the_workers_do);
