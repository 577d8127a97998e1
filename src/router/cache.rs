//! What an instance keeps on its own disk, so that it starts without the store: the plan, the specs, its registration.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::keys::{Bucket, Head, Members, Spec};
use super::published::Published;
use super::store::{Hold, Version};

const PLAN: &str = "plan.json";
const HOLD: &str = "registration.json";
/// Number of the shape of what is kept.
const SCHEMA: u32 = 1;

/// A few small files.
pub trait Cache: Send + Sync {
    /// What was written last under the name.
    ///
    /// # Errors
    /// The disk's.
    fn read(&self, name: &str) -> io::Result<Option<Bytes>>;

    /// Writes it whole: it is the old one or the new one, whatever happens.
    fn write(&self, name: &'static str, value: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

/// A folder. Specs hold secrets, so only the owner may read it.
pub struct Folder(Arc<Path>);

impl Folder {
    /// A folder, made when it is first written to.
    pub fn new(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl Cache for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        match fs::read(self.0.join(name)) {
            Ok(found) => Ok(Some(found.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &'static str, value: Bytes) -> BoxFuture<'_, io::Result<()>> {
        let folder = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || write(&folder, name, &value));
        Box::pin(async move { written.await? })
    }
}

fn write(folder: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let new = folder.join(format!("{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = (OpenOptions::new().write(true).create_new(true))
        .mode(0o600)
        .open(&new)?;
    file.write_all(value)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// What an instance knows of the fleet. Holds secrets, so it cannot be printed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    schema: u32,
    head: Option<Head>,
    buckets: Vec<Bucket>,
    members: Members,
    specs: Vec<Spec>,
}

impl Kept {
    /// For keeping.
    pub fn new(plan: &Published, specs: &BTreeMap<Arc<str>, Arc<Spec>>) -> Self {
        Self {
            schema: SCHEMA,
            head: Some(plan.head.clone()),
            buckets: plan.buckets.iter().map(|b| (**b).clone()).collect(),
            members: (*plan.members).clone(),
            specs: specs.values().map(|s| (**s).clone()).collect(),
        }
    }

    /// The plan that it followed, if any.
    pub fn plan(&self) -> Option<Published> {
        let head = self.head.clone()?;
        let buckets = self.buckets.iter().cloned().map(Arc::new).collect();
        let plan = Published {
            head,
            buckets,
            members: Arc::new(self.members.clone()),
        };
        plan.is_whole().then_some(plan)
    }

    /// All streams.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }
}

/// What was kept; nothing where there is nothing, or nothing that is understood.
pub fn load(cache: &dyn Cache) -> Option<Kept> {
    let bytes = cache.read(PLAN).ok()??;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    (kept.schema == SCHEMA).then_some(kept)
}

/// Keeps it.
///
/// # Errors
/// The disk's.
pub async fn save(cache: &dyn Cache, kept: &Kept) -> io::Result<()> {
    let bytes = serde_json::to_vec(kept)?;
    cache.write(PLAN, bytes.into()).await
}

#[derive(Serialize, Deserialize)]
struct KeptHold {
    key: String,
    term: u64,
    token: u64,
}

/// The registration of the process before, which may have ended.
pub fn load_hold(cache: &dyn Cache) -> Option<Hold> {
    let bytes = cache.read(HOLD).ok()??;
    let kept: KeptHold = serde_json::from_slice(&bytes).ok()?;
    Some(Hold {
        key: kept.key,
        term: Version(kept.term),
        token: kept.token,
    })
}

/// Keeps a registration. Where that fails the next process waits until this one has ended.
pub async fn keep_hold(cache: &dyn Cache, hold: &Hold) {
    let kept = KeptHold {
        key: hold.key.clone(),
        term: hold.term.0,
        token: hold.token,
    };
    if let Ok(bytes) = serde_json::to_vec(&kept) {
        let _ = cache.write(HOLD, bytes.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_again_and_only_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("fleet"));
        assert!(load(&folder).is_none());
        let plan = Published::default().anew(7);
        save(&folder, &Kept::new(&plan, &BTreeMap::new()))
            .await
            .unwrap();
        save(&folder, &Kept::new(&plan, &BTreeMap::new()))
            .await
            .unwrap();
        assert_eq!(load(&folder).unwrap().plan(), Some(plan));
        let file = fs::metadata(dir.path().join("fleet").join(PLAN)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let hold = Hold {
            key: "inst/a".into(),
            term: Version(3),
            token: 4,
        };
        keep_hold(&folder, &hold).await;
        assert_eq!(load_hold(&folder), Some(hold));
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PLAN), "{\"schema\":1,").unwrap();
        assert!(load(&Folder::new(dir.path().into())).is_none());
    }
}
