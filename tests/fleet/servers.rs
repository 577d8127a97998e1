//! Servers that tests start on loopback, and end.

use std::path::{Path, PathBuf};
use std::process::Child;

/// A process that is killed when it is dropped.
pub struct Server(pub Child);

impl Server {
    /// At once, as a machine dies.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a program is, of the folders of PATH and this one. Without it a test may be skipped, but not where all are run.
pub fn program(name: &str, folder: Option<&Path>, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(folder.map(Path::to_owned));
    let found = folders
        .map(|folder| folder.join(name))
        .find(|program| program.exists());
    if found.is_none() {
        let text = format!("{name} is missing: {package}");
        assert!(std::env::var_os("CI").is_none(), "{text}");
        println!("skipped: {text}");
    }
    found
}

/// Ports that nobody listens on.
#[cfg(feature = "etcd")]
pub fn free_ports<const N: usize>() -> [u16; N] {
    let bound = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|socket| socket.local_addr().unwrap().port())
}
