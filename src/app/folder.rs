//! One process for each data folder: two would send the same alerts from one outbox, and end each other's incidents.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file that is locked. It stays: taking it away would let two processes lock two files of that name.
const FILE: &str = "lock";

/// Another process works on the folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process uses the data folder {}: give each its own `instance.data_dir`, or end the other one",
    folder.display()
)]
pub struct InUse {
    folder: PathBuf,
}

/// Holds a data folder until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Hold {
    _file: Option<File>,
}

/// Takes a data folder, for what is about to write there.
///
/// A folder that cannot be written, or whose file system has no locks, is no reason to watch nothing: it is told, and
/// gone on without.
pub(super) fn take(folder: &Path) -> Result<Hold, InUse> {
    let held = open(folder).and_then(|file| match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    match held {
        Ok(Some(file)) => Ok(Hold { _file: Some(file) }),
        Ok(None) => Err(InUse {
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        }),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the data folder cannot be locked: see that no other process uses it");
            Ok(Hold { _file: None })
        }
    }
}

fn open(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(folder.join(FILE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_folder_is_held_by_one_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let held = take(&folder).unwrap();
        let said = take(&folder).unwrap_err().to_string();
        assert!(said.contains(&folder.display().to_string()), "{said}");
        drop(held);
        take(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_locked_is_used_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(take(&file.join("data")).is_ok());
    }
}
