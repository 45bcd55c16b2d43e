//! A ledger outside the node: what was acknowledged, written down by those to whom it was.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use crate::{node::Node, person::Person, waiting::eventually};

/// How many write at the same time.
const WRITERS: usize = 4;

/// Clients that make a change after another, and write down each that was acknowledged.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Ledger {
    /// Starts clients of `person`, who may make people.
    pub fn start(node: &Node, person: &Person) -> Self {
        let path = node.folder.path().join("ledger");
        let file = Arc::new(Mutex::new(File::create(&path).unwrap()));
        let stop = Arc::new(AtomicBool::new(false));
        let authority = fs::read(node.ca()).unwrap();
        let token = person.token();
        let writers = (0..WRITERS)
            .map(|writer| {
                let (stop, file) = (Arc::clone(&stop), Arc::clone(&file));
                let (api, token, authority) = (node.api(), token.clone(), authority.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(write(writer, &api, &token, &authority, &stop, &file));
                })
            })
            .collect();
        Self {
            path,
            stop,
            writers,
        }
    }

    /// Names of the changes that were acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }

    /// Ends the clients; returns what was acknowledged and when, in microseconds since the epoch.
    pub fn finish_with_times(self) -> Vec<(String, u64)> {
        let path = self.path.clone();
        self.finish();
        let text = fs::read_to_string(path).unwrap();
        let line = |line: &str| {
            let (name, at_us) = line.split_once(' ').unwrap();
            (name.to_owned(), at_us.parse().unwrap())
        };
        text.lines().map(line).collect()
    }

    /// Waits until more is acknowledged than now: the node works again.
    pub fn until_it_grows(&self) {
        let before = self.acknowledged().len();
        eventually("a change is acknowledged again", || {
            (self.acknowledged().len() > before).then_some(())
        });
    }

    /// Ends the clients; returns what was acknowledged.
    pub fn finish(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        for writer in self.writers.drain(..) {
            writer.join().unwrap();
        }
        self.acknowledged()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with what strace says of another process"
)]
fn now_us() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros()
}

async fn write(
    writer: usize,
    api: &str,
    token: &str,
    authority: &[u8],
    stop: &AtomicBool,
    file: &Mutex<File>,
) {
    let http = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(authority).unwrap())
        .no_proxy()
        .timeout(Duration::from_secs(15))
        .build()
        .unwrap();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("w{writer}-{number}");
        let body = json!({ "name": name }).to_string();
        let answer = http
            .post(format!("{api}/v1/people"))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => {
                let mut file = file.lock().unwrap();
                writeln!(file, "{name} {}", now_us()).unwrap();
            }
            // Nobody said that it happened; whether it did is the node's business.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
