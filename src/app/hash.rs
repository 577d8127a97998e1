//! `hash`: tells the hash of a picture, for the `slate` detector.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use detectors::base::Cause;
use detectors::kernel::half::HalfLuma;
use detectors::kernel::hash::{distance, hash};
use detectors::plane::{Plane, Samples};
use tokio::sync::Notify;

use super::glance::glance;
use crate::config;
use crate::ingest::{Content, Intake, OwnedUnit, Pushed};
use crate::lane::picture::luma;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The file cannot be read.
    #[error("cannot read the picture: {0}")]
    Unreadable(#[from] io::Error),
    /// It looks like a PNG or JPEG picture, and is damaged.
    #[error("cannot decode the picture: {0}")]
    Damaged(#[from] image::ImageError),
    /// Nothing came out of the input.
    #[error("no picture was decoded{}", cause.map(|c| format!(": {}", c.as_str())).unwrap_or_default())]
    NoPicture {
        /// What is wrong with it.
        cause: Option<Cause>,
    },
    /// Black, grey, or so faint that noise would decide the hash.
    #[error("the picture is nearly flat, so that it has no hash")]
    Flat,
}

/// The hash of a PNG or JPEG file; `None` when it is neither.
pub fn of_still(path: &Path) -> Result<Option<u64>, HashError> {
    if !path.is_file() {
        return Ok(None);
    }
    let reader = image::ImageReader::open(path)?.with_guessed_format()?;
    if !matches!(
        reader.format(),
        Some(image::ImageFormat::Png | image::ImageFormat::Jpeg)
    ) {
        return Ok(None);
    }
    let luma = reader.decode()?.into_luma8();
    let (width, height) = (luma.width() as usize, luma.height() as usize);
    let plane = Plane::new(Samples::U8(luma.as_raw()), width, height, width);
    let found = plane.and_then(|p| hash(&HalfLuma::of(&p)));
    found.ok_or(HashError::Flat).map(Some)
}

/// Pictures of an input that are hashed.
const PICTURES: usize = 25;

#[derive(Default)]
struct Watcher {
    found: Mutex<Found>,
    enough: Notify,
}

#[derive(Default)]
struct Found {
    pictures: usize,
    hashes: BTreeMap<u64, usize>,
}

impl Intake for Watcher {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        if let Content::Picture(picture) = unit.content
            && let Some(plane) = luma(&picture)
        {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.pictures < PICTURES {
                found.pictures += 1;
                if let Some(hash) = hash(&HalfLuma::of(&plane)) {
                    *found.hashes.entry(hash).or_default() += 1;
                }
            }
            if found.pictures >= PICTURES {
                self.enough.notify_one();
            }
        }
        Pushed::Queued
    }
}

/// The hash of the first second of an input: of its pictures' hashes the one that is nearest to all others.
pub async fn of_input(stream: Arc<config::Stream>, timeout: Duration) -> Result<u64, HashError> {
    let watcher = Arc::new(Watcher::default());
    let intake = Arc::clone(&watcher) as Arc<dyn Intake>;
    let end = glance(stream, intake, &watcher.enough, timeout).await;
    let found = watcher.found.lock().unwrap_or_else(PoisonError::into_inner);
    if found.pictures == 0 {
        let cause = end.and_then(|end| end.cause);
        return Err(HashError::NoPicture { cause });
    }
    let apart = |one: u64| -> usize {
        let others = found.hashes.iter();
        others.map(|(h, n)| distance(one, *h) as usize * n).sum()
    };
    let nearest = found.hashes.keys().copied().min_by_key(|h| apart(*h));
    nearest.ok_or(HashError::Flat)
}
