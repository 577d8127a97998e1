//! Space set aside, to be freed when the disk is full: then the outbox goes on while somebody makes room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file that takes the space.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub fn new(folder: &Path, bytes: u64) -> Self {
        Self {
            path: folder.join("ballast"),
            bytes,
        }
    }

    /// Whether it is there, whole.
    pub fn stands(&self) -> bool {
        self.bytes > 0 && fs::metadata(&self.path).is_ok_and(|file| file.len() == self.bytes)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        match self.stands() {
            true => self.bytes,
            false => 0,
        }
    }

    /// Writes it, where `free` bytes leave as much again for others.
    pub fn restore(&self, free: u64) -> io::Result<()> {
        if self.stands() || self.bytes == 0 {
            return Ok(());
        }
        self.release();
        if free / 2 < self.bytes {
            return Ok(());
        }
        let written = self.write();
        if written.is_err() {
            self.release();
        }
        written
    }

    /// Frees it; false when there was nothing to free.
    pub fn release(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }

    /// Real blocks that no file system leaves out or packs: noise, not zeros.
    fn write(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.path)?;
        let mut noise = fastrand::Rng::new();
        let mut chunk = vec![0; 64 << 10];
        let mut left = self.bytes;
        while left > 0 {
            noise.fill(&mut chunk);
            let n = left.min(chunk.len() as u64);
            let part = usize::try_from(n).unwrap_or(chunk.len());
            file.write_all(chunk.get(..part).unwrap_or(&chunk))?;
            left -= n;
        }
        file.sync_all()
    }
}

/// Bytes free to this process on the file system of a folder.
pub(super) fn free_bytes(folder: &Path) -> u64 {
    let room = File::open(folder).and_then(|dir| Ok(rustix::fs::fstatvfs(&dir)?));
    room.map_or(0, |room| room.f_bavail.saturating_mul(room.f_frsize))
}
